"""Fuzzing: ``python tests/fuzz/run.py TARGET --seconds N``; see CONTRIBUTING.md.

With atheris (``pip install -e .[fuzz]``) inputs are led by the edges that they reach; without it the same targets get
mutations of the seeds. A finding ends the run, and its input stays in ``--findings``. ``--replay`` runs inputs once.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SEEDS = HERE / "seeds"
TARGETS = ("reading", "resuming", "parsing", "mending", "filesystems", "containers", "messages", "udif")
LONGEST = 512
"""Bytes of an input: a script of a few dozen decisions."""


def load(name: str, atheris: Any = None) -> Callable[[bytes], None]:
    """The function of a target, instrumented if atheris is given."""
    if atheris is None:
        module = importlib.import_module(f"targets.{name}")
    else:
        with atheris.instrument_imports(include=["portunix_vdisk"]):
            module = importlib.import_module(f"targets.{name}")
    found: Callable[[bytes], None] = module.run
    return found


def seeds_of(name: str) -> list[Path]:
    """The committed inputs of a target."""
    return sorted((SEEDS / name).glob("*"))


def mutate(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Another input like this one."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(6):
            case 0 | 1 if made:
                made[at % len(made)] = chance.randrange(256)
            case 2:
                made[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 3:
                del made[at : at + chance.randrange(1, 9)]
            case 4:
                other = chance.choice(others)
                made[at:] = other[chance.randrange(len(other) + 1) :]
            case _:
                made[at : at + 4] = chance.randbytes(4)
    return bytes(made[:LONGEST])


def blind(name: str, seconds: float, seed: int, findings: Path) -> None:
    """Mutate the seeds for a while; the first finding is kept and raised."""
    target, judge, chance = load(name), importlib.import_module("judge"), random.Random(seed)
    judge.start()
    pool = [path.read_bytes() for path in seeds_of(name)] or [b""]
    end, inputs = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = mutate(chance.choice(pool), pool, chance) if inputs % 64 else chance.randbytes(chance.randrange(LONGEST))
        inputs += 1
        try:
            judge.one(target, data)
        except BaseException:  # noqa: BLE001 - whatever it is, it is a finding
            findings.mkdir(parents=True, exist_ok=True)
            (findings / f"crash-{hashlib.sha1(data).hexdigest()}").write_bytes(data)
            traceback.print_exc()
            print(f"#{inputs} found", file=sys.stderr, flush=True)
            os._exit(77)
    print(f"#{inputs} DONE", file=sys.stderr, flush=True)
    os._exit(0)


def guided(name: str, options: list[str]) -> None:
    """Let libFuzzer lead; it ends the process itself."""
    import atheris  # an optional extra

    target, judge = load(name, atheris), importlib.import_module("judge")
    judge.start(overhead=100)
    atheris.Setup([sys.argv[0], *options], lambda data: judge.one(target, data))
    atheris.Fuzz()


def replay(names: list[str], paths: list[Path]) -> None:
    """Run inputs once: all seeds, or these of one target."""
    judge = importlib.import_module("judge")
    judge.start()
    for name in names:
        target, inputs, started = load(name), paths or seeds_of(name), time.process_time()
        for path in inputs:
            try:
                judge.one(target, path.read_bytes())
            except BaseException:
                print(f"{name}: {path}", file=sys.stderr)
                raise
        print(f"{name}: {len(inputs)} inputs, {time.process_time() - started:.1f} s", flush=True)


def watched(command: list[str]) -> int:
    """Run a fuzzer and say what it cost: its exit code."""
    inputs = edges = ""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as child:
        assert child.stderr is not None
        for line in child.stderr:
            if match := re.match(r"#(\d+)", line):
                inputs = match[1]
            if match := re.search(r"cov: (\d+)", line):
                edges = match[1]
            if not re.match(r"#\d+\s+(NEW|REDUCE|pulse)", line):
                print(line, end="", flush=True)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    for place in ("/dev/shm", tempfile.gettempdir()):  # libFuzzer ends the process without tidying up
        for folder in Path(place).glob(f"fuzz-{child.pid}-*"):
            shutil.rmtree(folder, ignore_errors=True)
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{inputs} inputs, {cpu:.0f} s CPU, peak {usage.ru_maxrss // 1000} MB, {edges or 'no'} edges", flush=True)
    return child.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=(*TARGETS, "all"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--corpus", type=Path, help="where atheris keeps the inputs that reached something new")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--blind", action="store_true", help="without atheris")
    parser.add_argument("--replay", nargs="*", type=Path, help="these inputs, else all seeds, once")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.replay is not None:
        replay(list(TARGETS) if given.target == "all" else [given.target], given.replay)
        return 0
    with_atheris = not given.blind and importlib.util.find_spec("atheris") is not None
    if not given.child:
        code = 0
        for name in TARGETS if given.target == "all" else (given.target,):
            print(f"{name}: {'atheris' if with_atheris else 'mutations of the seeds'}, seed {given.seed}", flush=True)
            words = [name if word == given.target else word for word in sys.argv]
            code = watched([sys.executable, *words, "--child", "--seed", str(given.seed)]) or code
        return code
    if not with_atheris:
        blind(given.target, given.seconds, given.seed, given.findings)
    given.findings.mkdir(parents=True, exist_ok=True)
    corpus = given.corpus or given.findings / f"corpus-{given.target}"
    corpus.mkdir(parents=True, exist_ok=True)
    (SEEDS / given.target).mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={given.seconds:.0f}", f"-seed={given.seed}", f"-max_len={LONGEST}", "-timeout=20"]
    options += ["-rss_limit_mb=800", f"-artifact_prefix={given.findings}/{given.target}-", "-len_control=0"]
    guided(given.target, [*options, str(corpus), str(SEEDS / given.target)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
