"""The guard against leaks must itself notice leaks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from portunix_vdisk.tests import leaks

ROOT = Path(__file__).resolve().parents[1]


def test_a_daemon_left_running_is_noticed(tmp_path: Path) -> None:
    program = tmp_path / "qemu-nbd"
    shutil.copy2(shutil.which("sleep") or "/bin/sleep", program)
    before = leaks.look()
    with subprocess.Popen([program, "60"]) as process:
        try:
            assert [line for line in leaks.settled(before, 0.2) if f"left behind: {process.pid} " in line]
        finally:
            process.kill()
    assert not [line for line in leaks.settled(before) if f"{process.pid} " in line]


def test_a_file_left_open_is_noticed(tmp_path: Path) -> None:
    before = leaks.look()
    with (tmp_path / "open").open("w"):
        assert [line for line in leaks.settled(before, 0) if "descriptors: left behind" in line and "/open" in line]
    assert not [line for line in leaks.settled(before, 0) if "/open" in line]


def test_changes_name_what_came_and_what_went() -> None:
    before = leaks.Machine(loops=frozenset({"loop0 on a"}), mounts=frozenset({"/x (ext4)"}))
    after = leaks.Machine(loops=frozenset({"loop1 on b"}), mounts=frozenset({"/x (ext4)"}))
    assert before.changes(after) == ["loops: left behind: loop1 on b", "loops: gone: loop0 on a"]


# Other tests that run at the same time come and go: for this guard there is no machine but its own.
ALONE = [
    *("unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-ec"),
    # What is mounted elsewhere would vanish from here too as soon as its folder is removed there.
    r"cut -d' ' -f5 /proc/self/mountinfo | grep -E '^/(run|tmp)/' | sed 's/\\\([0-7]\{3\}\)/\\0\1/g' | sort -r |"
    r' while read -r point; do umount -l "$(printf %b "$point")" || true; done;'
    'for place in /sys /run /var/tmp; do mount -t tmpfs none "$place"; done; exec "$@"',
    "sh",
] * (os.geteuid() == 0)

TESTS = """
import os, pathlib, pytest, tempfile
def test_plain(): pass
def test_leak():
    if os.environ["LEAK"]: os.open(pathlib.Path(tempfile.gettempdir(), "portunix-vdisk-left"), os.O_CREAT)
    assert not os.environ["FAIL"]
@pytest.mark.full
def test_long(): pass
"""


@pytest.mark.parametrize(
    ("leak", "fail", "option", "status", "said"),
    [
        ("", "", "", 0, ["2 passed, 1 skipped", "1 long tests were left out"]),
        ("", "", "--full", 0, ["3 passed"]),
        ("1", "", "", 1, ["2 passed", "left behind", "portunix-vdisk-left"]),
        ("1", "1", "", 1, ["1 failed", "left behind", "portunix-vdisk-left"]),
        ("", "", "-n2", 0, ["2 passed, 1 skipped", "1 long tests were left out"]),
        ("1", "", "-n2", 1, ["2 passed", "files: left behind", "descriptors: left behind", "portunix-vdisk-left"]),
    ],
)
def test_a_run_that_leaks_fails(
    tmp_path: Path, leak: str, fail: str, option: str, status: int, said: list[str]
) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "temporary").mkdir()
    plugins = ("-p", "portunix_vdisk.tests.conftest", "-p", "no:cacheprovider")
    command = [sys.executable, "-P", "-m", "pytest", *plugins, "-c", str(ROOT / "pyproject.toml"), "test_it.py"]
    done = subprocess.run(
        [*ALONE, *command, *([option] if option else [])],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path / "temporary"), "LEAK": leak, "FAIL": fail},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert [text for text in said if text not in done.stdout] == []
