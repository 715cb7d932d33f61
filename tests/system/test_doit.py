"""The same operations as doit tasks, and what doit must never do to a disk."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from machine import BIN, Machine

ROOT = Path(__file__).resolve().parents[2]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def with_a_file(machine: Machine) -> Path:
    machine.vdisk("create", "--name", "my-dev", "--size", "600MB")
    machine.vdisk("mount", "my-dev", "mnt")
    (machine.folder / "mnt" / "file").write_bytes(os.urandom(250_000_000))
    machine.vdisk("unmount", "mnt")
    return machine.disk("my-dev")


def test_every_operation_by_doit_in_the_checkout(machine: Machine) -> None:
    def doit(*words: str, check: int = 0) -> str:
        return machine.run(BIN / "doit", *words, folder=ROOT, check=check).out

    assert "none yet" in doit()
    doit("create:my-dev", "size=64MB")
    assert "my-dev" in doit()
    assert "create:my-dev:format" in doit("list", "--all")
    assert "up-to-date" in doit("info", "create:my-dev")
    assert "status     : run" in doit("info", "export:my-dev", check=1)
    mount_point = machine.folder / "mnt"
    doit("mount:my-dev", f"mountpoint={mount_point}")
    assert os.path.ismount(mount_point)
    (machine.folder / "src").mkdir()
    (machine.folder / "src" / "file").write_text("x")
    doit("sync:my-dev", f"source={machine.folder / 'src'}", f"target={mount_point / 'a'}")
    assert (mount_point / "a" / "file").read_text() == "x"
    doit("unmount:my-dev")
    assert not os.path.ismount(mount_point)
    doit("export:my-dev", f"output={machine.folder / 'a.zip'}")
    doit("import:copy", f"archive={machine.folder / 'a.zip'}")
    assert {disk["name"] for disk in machine.vdisk("list", "--json").result["disks"]} == {"my-dev", "copy"}
    doit("delete:copy", check=1)
    doit("delete:copy", "yes=1")
    assert machine.run(BIN / "doit", "export:typo", folder=ROOT).code == 3
    assert machine.run(BIN / "doit", "mount:typo", folder=ROOT).code == 3


def test_relative_paths_outside_the_checkout(machine: Machine) -> None:
    machine.doit("create:my-dev", "size=64MB", "path=./")
    assert (machine.folder / "my-dev.vhd").is_file()
    (machine.folder / "pyproject.toml").write_text('[tool.doit]\nbackend = "json"\ndep_file = "stolen.json"\n')
    machine.doit("export:my-dev", "output=a.zip")
    assert (machine.folder / "a.zip").is_file()
    assert not (machine.folder / "stolen.json").exists()


def test_nothing_that_doit_does_touches_a_finished_image(machine: Machine) -> None:
    image = with_a_file(machine)
    before = sha256(image)
    for file in (machine.home / "vdisk").glob("journal.db*"):
        file.unlink()
    machine.doit("create:my-dev")
    for member in ("allocate", "partition", "format", "register"):
        machine.doit(f"create:my-dev:{member}")
        machine.doit("-a", f"create:my-dev:{member}")
    machine.doit("-a")
    machine.doit("-a", "create:my-dev")
    machine.doit("forget", "-a")
    machine.doit("create:my-dev")
    machine.doit("forget", "create:my-dev")
    machine.doit("clean", "-a")
    machine.doit("clean", "create:my-dev")
    machine.doit("create:my-dev")
    assert machine.vdisk("info", "my-dev", "--json").result["disk"]["state"] == "ready"
    assert sha256(image) == before


def status_of(machine: Machine) -> dict[str, str]:
    lines = machine.doit("list", "--all", "--status").out.splitlines()
    return {line.split()[1]: line.split()[0] for line in lines if ":" in line}


def test_killed_between_tasks_the_finished_ones_stay_up_to_date(machine: Machine) -> None:
    with_a_file(machine)
    archive = machine.folder / "a.zip"
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, BIN / "portunix", "vdisk", "doit", "export:my-dev", f"output={archive}"],
            cwd=machine.folder,
            env=machine.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        partial = archive.with_name("a.zip.partial")
        while process.poll() is None and not (partial.exists() and partial.stat().st_size > 180_000_000):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        if partial.exists():
            break
        archive.unlink(missing_ok=True)
    assert partial.exists(), "no attempt was killed half way"
    status = status_of(machine)
    packs = [name for name in status if name.startswith("export:my-dev:pack:")]
    finished = {name for name in status if name.startswith("export:my-dev:") and status[name] == "U"}
    assert finished & set(packs), status
    assert status["export:my-dev:seal"] == "R"
    again = machine.doit("export:my-dev").out
    for name in finished - {"export:my-dev:scan"}:
        assert f"-- {name}" in again or f".  {name}" not in again
    machine.vdisk("import", "a.zip", "--name", "copy")
    assert subprocess.run(
        ["qemu-img", "compare", "-f", "vpc", "-F", "vpc", machine.disk("my-dev"), machine.disk("copy")], check=True
    )


def test_declared_disks_are_made_by_one_command(machine: Machine) -> None:
    answer = machine.doit("create", check=1)
    assert "config.yaml declares no disks" in answer.out + answer.err
    machine.home.mkdir(exist_ok=True)
    declared = machine.home / "config.yaml"
    declared.write_text("disks:\n  - {name: one, size: 64MB}\n  - {name: two, size: 100MB, type: qcow2, fs: fat32}\n")
    assert "create:two:format" in machine.doit("list", "--all").out
    machine.doit("create")
    made = {
        disk["name"]: (disk["type"], disk["file_system"]) for disk in machine.vdisk("list", "--json").result["disks"]
    }
    assert made == {"one": ("vhd", "ext4"), "two": ("qcow2", "fat32")}
    before = machine.disk("one").stat()
    machine.doit("create")
    assert machine.disk("one").stat() == before
    assert machine.vdisk("create", "--name", "one", "--json").result["changed"] is False
    declared.write_text("disks:\n  - {name: one, size: 80MB}\n")
    answer = machine.doit("create", check=1)
    assert "one exists already, and its size is" in answer.out + answer.err
    declared.write_text("disks:\n  - {name: one, sise: 80MB}\n")
    answer = machine.doit("create", check=1)
    assert "did you mean size?" in answer.out + answer.err
    machine.doit("export:one", f"output={machine.folder / 'one.zip'}")
