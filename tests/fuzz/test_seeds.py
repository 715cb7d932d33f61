"""Every committed input is run in every run; see CONTRIBUTING.md for fuzzing itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def test_every_seed() -> None:
    """In a process of its own, since chunks are small there."""
    command = [sys.executable, HERE / "run.py", "all", "--replay"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" inputs, ") == 8


def test_all_targets_are_fuzzed(tmp_path: Path) -> None:
    command = [sys.executable, HERE / "run.py", "all", "--blind", "--seconds", "0", "--findings", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("mutations of the seeds") == done.stdout.count("#0 DONE") == 8


def test_seeds_stay_small() -> None:
    files = [path for path in (HERE / "seeds").rglob("*") if path.is_file()]
    assert files and sum(path.stat().st_size for path in [*files, HERE / "bases.tar.xz"]) < 300_000


def test_a_finding_is_noticed(tmp_path: Path) -> None:
    """What the judge is there for: time, memory, a file beside the target."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import judge, pathlib, os\n"
        "judge.allow(pathlib.Path(sys.argv[2]) / 'target'); judge.start()\n"
        "def bad(data): exec(data)\n"
        "place = sys.argv[2] + '/x'\n"
        "for data in (b'while True: pass', b'bytearray(400 << 20)', b'open(place, chr(119))', b'os.mkdir(place)'):\n"
        "    judge.SECONDS = 1 if b'while' in data else 60\n"
        "    try: judge.one(bad, data)\n"
        "    except judge.Guilty as guilty: print(guilty)\n"
    )
    command = [sys.executable, "-c", script, HERE, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["not", "memory", "open", "os.mkdir"]
    assert list(tmp_path.iterdir()) == []
