"""What a script in the sandbox can do, and what it cannot: with the real program."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.linux.sandbox import PROGRAM, is_there, sandboxed

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


@pytest.fixture(autouse=True)
def there() -> None:
    assert is_there(Commands()), "bubblewrap does not work here: install it, and allow namespaces"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "disk").mkdir()
    (tmp_path / "secret").write_text("a token")
    yield tmp_path / "disk"


def run(root: Path, script: str, *, network: bool = False, **more: object) -> subprocess.CompletedProcess[str]:
    words = sandboxed(Commands(), ["sh", "-c", script], root=root, variables=ENVIRONMENT, network=network, **more)
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)


def test_it_writes_on_the_disk_and_nowhere_else(root: Path) -> None:
    done = run(root, "echo hello > here && pwd && cat here")
    assert (done.returncode, done.stdout) == (0, f"{root}\nhello\n")
    assert (root / "here").read_text() == "hello\n"
    for place in ("/etc/made", "/usr/made", "/opt/made"):
        assert run(root, f"touch {place}").returncode != 0
    # What seems to be written there is gone with the script.
    assert run(root, f"touch /tmp/made-by-a-script /made-by-a-script {root}/../made && ls /tmp").returncode == 0
    for place in ("/etc/made", "/usr/made", "/opt/made", "/tmp/made-by-a-script", "/made-by-a-script"):
        assert not Path(place).exists()
    assert not (root.parent / "made").exists()


def test_it_sees_nothing_of_the_person_and_no_sockets(root: Path, tmp_path: Path) -> None:
    seen = "ls -d /root /home /run /var /srv /mnt; env | sort; cat /etc/shadow 2>/dev/null | wc -c"
    done = run(root, f"cat {tmp_path}/secret; {seen}")
    shown = done.stdout.splitlines()
    assert "a token" not in shown
    assert {line.split("=")[0] for line in shown if "=" in line} <= {"PATH", "LANG", "PWD", "SHLVL", "_", "OLDPWD"}
    assert [line for line in shown if "=" not in line] == ["0"], "of what only root may read there is nothing"
    with socket.socket(socket.AF_UNIX) as served:
        served.bind(str(tmp_path / "socket"))
        served.listen()
        script = f"python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('{tmp_path}/socket')\""
        assert "FileNotFoundError" in run(root, script).stderr


@pytest.mark.parametrize("network", [False, True])
def test_the_network_is_there_only_if_it_may_be(root: Path, network: bool) -> None:
    done = run(root, "cat /proc/net/dev | tail -n +3 | cut -d: -f1", network=network)
    ours = {line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]}
    assert {line.strip() for line in done.stdout.splitlines()} == (ours if network else {"lo"})


def test_it_sees_no_process_of_ours(root: Path) -> None:
    done = run(root, "ls /proc | grep -E '^[0-9]+$' | wc -l")
    assert int(done.stdout) < 8
    assert run(root, f"kill -0 {os.getpid()}").returncode != 0


def test_it_ends_with_the_process_that_started_it(root: Path) -> None:
    words = sandboxed(
        Commands(),
        ["sh", "-c", "while :; do date +%s%N > beat; sleep 0.05; done"],
        root=root,
        variables=ENVIRONMENT,
        network=False,
    )
    script = f"import subprocess; subprocess.run({words!r})"
    starter = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    deadline = time.monotonic() + 20
    while not (root / "beat").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    ours = {pid for pid in processes() if b"date +%s%N > beat" in pid[1]}
    assert ours
    starter.kill()
    starter.wait()
    while ours & processes():
        assert time.monotonic() < deadline + 20
        time.sleep(0.05)


def processes() -> set[tuple[str, bytes]]:
    """Number and command line of each process."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                found.add((entry.name, (entry / "cmdline").read_bytes()))
    return found


def test_where_the_program_is_missing_there_is_no_sandbox() -> None:
    assert not is_there(Commands(["/nowhere"]))
    assert PROGRAM == "bwrap"
