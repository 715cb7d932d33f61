"""SIGKILL at moments drawn by bytes in the partial file: the next run resumes, and the result is identical."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from machine import Machine
from watching import WriteWatch, members

FORMAT = {"vhd": "vpc", "img": "raw"}
LONG = pytest.mark.full
DATA = 160_000_000


def fractions(request: pytest.FixtureRequest, few: int) -> list[float]:
    """Moments between nothing and everything; always some in the middle, and the very end (seal to rename)."""
    dice = random.Random(20)
    count = 20 if request.config.getoption("--full") else few
    middle = [0.35 + 0.3 * dice.random() for _ in range(max(2, count // 3))]
    anywhere = [dice.random() * 0.99 for _ in range(count - len(middle) - 2)]
    return [*middle, *anywhere, 0.9999, 1.0]


def fill(machine: Machine, type: str) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "600MB", "--type", type)
    machine.vdisk("mount", "my-dev", "mnt")
    with (machine.folder / "mnt" / "file").open("wb") as file:
        for _ in range(16):
            file.write(os.urandom(DATA // 16) + b"compressible" * 300_000)
    machine.vdisk("unmount", "mnt")


def allocated(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def group_of(machine: Machine) -> int:
    machine.vdisk("list")
    pid = machine.plugin_pid()
    assert pid is not None
    return os.getpgid(pid)


def kill_at(machine: Machine, command: tuple[str, ...], size: Callable[[], int], threshold: float) -> int:
    """Run a command and kill server, worker and children together at that size; the size then, -1 if it was done."""
    group = group_of(machine)
    process = machine.start(*command)
    while process.poll() is None:
        now = size()
        if now >= threshold:
            with contextlib.suppress(ProcessLookupError):  # one that has just ended by itself
                os.killpg(group, signal.SIGKILL)
            process.communicate()
            return now
    process.communicate()
    return -1


@pytest.mark.parametrize("type", ["vhd", pytest.param("img", marks=LONG)])
def test_export_killed_at_any_byte_resumes(machine: Machine, request: pytest.FixtureRequest, type: str) -> None:
    fill(machine, type)
    reference = machine.vdisk("export", "--disk", "my-dev", "--output", "whole.zip", "--level", "3", "--json").result
    final = reference["archive_bytes"]
    middle = 0
    for number, fraction in enumerate(fractions(request, 4)):
        output = machine.folder / f"a{number}.zip"
        partial = output.with_name(output.name + ".partial")
        command = ("export", "--disk", "my-dev", "--output", output.name, "--level", "3", "--json")
        at = kill_at(machine, command, lambda p=partial: length(p), final * fraction)
        left = length(partial)
        middle += 0.3 <= left / final <= 0.7
        with WriteWatch(group_of(machine)) as watch:
            result = machine.vdisk(*command).result
        assert result["root"] == reference["root"]
        assert result["archive_bytes"] >= final - 200, "times and session numbers in documents have varying lengths"
        if at >= 0 and left:
            assert watch.written <= final - left + 0.05 * final + 4_000_000, (fraction, left, watch.written)
            assert result["reused_bytes"] >= 0.9 * left - 9_000_000
        assert not partial.exists()
        output.unlink()
    assert middle > 0, "no kill left a partial between 30 and 70 %"


@pytest.mark.parametrize("type", [pytest.param("vhd", marks=LONG), "img"])
def test_import_killed_at_any_byte_resumes(machine: Machine, request: pytest.FixtureRequest, type: str) -> None:
    fill(machine, type)
    reference = machine.vdisk("export", "--disk", "my-dev", "--output", "whole.zip", "--level", "3", "--json").result
    final = allocated(machine.disk("my-dev"))
    middle = 0
    for number, fraction in enumerate(fractions(request, 4)):
        name = f"copy{number}"
        image = machine.home / "vdisk" / "disks" / f"{name}.{type}"
        partial = image.with_name(image.name + ".partial")
        command = ("import", "whole.zip", "--name", name, "--json")
        kill_at(machine, command, lambda p=partial: allocated(p), final * min(fraction, 0.98))
        left = allocated(partial)
        middle += 0.3 <= left / final <= 0.7
        with WriteWatch(group_of(machine)) as watch:
            result = machine.vdisk(*command).result
        assert result["root"] == reference["root"]
        if left:
            assert watch.written <= final - left + 0.05 * final + 8_000_000, (fraction, left, watch.written)
        compared = subprocess.run(
            ["qemu-img", "compare", "-f", FORMAT[type], "-F", FORMAT[type], machine.disk("my-dev"), image], check=False
        )
        assert compared.returncode == 0
        machine.vdisk("delete", name, "--yes")
    assert middle > 0, "no kill left a partial between 30 and 70 %"


@pytest.mark.parametrize(
    ("operation", "victim"),
    [
        ("export", "worker"),
        ("import", "client"),
        pytest.param("export", "server", marks=LONG),
        pytest.param("export", "client", marks=LONG),
        pytest.param("import", "server", marks=LONG),
        pytest.param("import", "worker", marks=LONG),
    ],
)
def test_each_process_killed_alone(machine: Machine, victim: str, operation: str) -> None:
    fill(machine, "vhd")
    commands = {
        "export": ("export", "--disk", "my-dev", "--output", "b.zip"),
        "import": ("import", "a.zip", "--name", "copy"),
    }
    if operation == "import":
        machine.vdisk("export", "--disk", "my-dev", "--output", "a.zip")
    partial = {
        "export": machine.folder / "b.zip.partial",
        "import": machine.home / "vdisk" / "disks" / "copy.vhd.partial",
    }[operation]
    group = group_of(machine)
    process = machine.start(*commands[operation])
    while allocated(partial) < DATA // 3:
        assert process.poll() is None, "it was done before it could be killed"
    if victim == "client":
        process.kill()
    elif victim == "server":
        os.kill(group, signal.SIGKILL)
    else:
        busiest = max((pid for pid in members(group) if pid != group), key=_cpu)
        os.kill(busiest, signal.SIGKILL)
    _, errors = process.communicate()
    if victim != "client":
        assert process.returncode == 1
        assert b"same command" in errors
    assert partial.exists()
    machine.vdisk(*commands[operation])
    if operation == "export":
        machine.vdisk("import", "b.zip", "--name", "copy")
    assert (
        subprocess.run(
            ["qemu-img", "compare", "-f", "vpc", "-F", "vpc", machine.disk("my-dev"), machine.disk("copy")], check=False
        ).returncode
        == 0
    )


def _cpu(pid: int) -> int:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return -1
    return int(words[11]) + int(words[12])


def test_killed_changed_resumed_gives_the_new_state(machine: Machine) -> None:
    fill(machine, "vhd")
    partial = machine.folder / "a.zip.partial"
    command = ("export", "--disk", "my-dev", "--output", "a.zip", "--json")
    for _ in range(5):  # on a busy machine we may look too late
        if kill_at(machine, command, lambda: length(partial), DATA * 0.5) > 0:
            break
        (machine.folder / "a.zip").unlink()
    assert partial.exists()
    machine.vdisk("mount", "my-dev", "mnt")
    with (machine.folder / "mnt" / "file").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"the new state")
    (machine.folder / "mnt" / "another").write_text("new")
    machine.vdisk("unmount", "mnt")
    machine.vdisk(*command)
    machine.vdisk("import", "a.zip", "--name", "copy")
    assert (
        subprocess.run(
            ["qemu-img", "compare", "-f", "vpc", "-F", "vpc", machine.disk("my-dev"), machine.disk("copy")], check=False
        ).returncode
        == 0
    )
    machine.vdisk("mount", "copy", "copy")
    assert (machine.folder / "copy" / "another").read_text() == "new"
    machine.vdisk("unmount", "copy")


@pytest.mark.parametrize(
    "member", ["format", *(pytest.param(one, marks=LONG) for one in ("allocate", "partition", "register"))]
)
def test_create_killed_between_any_two_steps(machine: Machine, member: str) -> None:
    """Every step alone, then a kill: the next create finishes, and so does an abort leave nothing."""
    machine.doit(f"create:my-dev:{member}", "size=128MB")
    if member != "register":
        assert machine.vdisk("list", "--json").result["disks"][0]["state"] == "creating"
        assert "not finished" in machine.vdisk("mount", "my-dev", check=4).err
        machine.vdisk("create", "--name", "my-dev", "--abort")
        assert list((machine.home / "vdisk" / "disks").iterdir()) == []
        machine.doit(f"create:my-dev:{member}", "size=128MB")
    machine.vdisk("create", "--name", "my-dev", "--size", "128MB")
    machine.vdisk("mount", "my-dev", "mnt")
    (machine.folder / "mnt" / "file").write_text("x")
    machine.vdisk("unmount", "mnt")


def test_an_import_is_aborted_with_or_without_its_name(machine: Machine) -> None:
    fill(machine, "vhd")
    machine.vdisk("export", "--disk", "my-dev", "--output", "a.zip")
    machine.vdisk("delete", "my-dev", "--yes")
    disks = machine.home / "vdisk" / "disks"
    for command in (("import", "a.zip"), ("import", "a.zip", "--name", "copy")):
        partial = disks / ("copy.vhd.partial" if "--name" in command else "my-dev.vhd.partial")
        assert kill_at(machine, command, lambda p=partial: allocated(p), DATA * 0.4) > 0
        assert machine.vdisk("list", "--json").result["disks"][0]["state"] == "importing"
        machine.vdisk(*command, "--abort")
        assert list(disks.iterdir()) == []
        assert machine.vdisk("list", "--json").result["disks"] == []


def test_create_killed_at_any_moment(machine: Machine, request: pytest.FixtureRequest) -> None:
    dice = random.Random(7)
    for number in range(40 if request.config.getoption("--full") else 3):
        name = f"d{number}"
        group = group_of(machine)
        process = machine.start("create", "--name", name, "--size", "2GB", "--type", dice.choice(["vhd", "img"]))
        time.sleep(0.2 + dice.random() * 0.5)
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        process.communicate()
        made = {disk["name"]: disk for disk in machine.vdisk("list", "--json").result["disks"]}
        if dice.random() < 0.3 and name in made and made[name]["state"] == "creating":
            machine.vdisk("create", "--name", name, "--abort")
            assert not list((machine.home / "vdisk" / "disks").glob(f"{name}.*"))
            continue
        options = ("--type", made[name]["type"]) if name in made else ()
        machine.vdisk("create", "--name", name, "--size", "2GB", *options)
        disk = machine.vdisk("info", name, "--json").result["disk"]
        raw = machine.folder / "raw"
        subprocess.run(["qemu-img", "convert", "-f", FORMAT[disk["type"]], "-O", "raw", disk["path"], raw], check=True)
        part = machine.folder / "part"
        subprocess.run(["dd", f"if={raw}", f"of={part}", "bs=1M", "skip=1", "conv=sparse", "status=none"], check=True)
        os.truncate(part, disk["partition"]["length"])
        assert subprocess.run(["e2fsck", "-fn", part], check=False, capture_output=True).returncode == 0
