"""Package managers: which one a system has, and what it is told. All but Debian's are stand-ins that only note it."""

from __future__ import annotations

from pathlib import Path

import pytest

from portunix_vdisk.platform import packages
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import Missing, ToolFailed
from portunix_vdisk.platform.linux import host
from portunix_vdisk.platform.linux.privilege import Privilege
from portunix_vdisk.platform.packages import APT, DNF, MANAGERS, PACKAGES, PACMAN, ZYPPER, Manager, manager_here

FEDORA = 'NAME="Fedora Linux"\nID=fedora\nVERSION_ID=41\n'
ROCKY = 'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\n'
MANJARO = "ID=manjaro\nID_LIKE=arch\n"
LEAP = 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\n'
MINT = "ID=linuxmint\nID_LIKE='ubuntu debian'\n"


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The os-release of the system; absent at first."""
    monkeypatch.setattr(packages, "OS_RELEASE", tmp_path / "os-release")
    return tmp_path / "os-release"


def stand_in(folder: Path, program: str, monkeypatch: pytest.MonkeyPatch, *, unknown: str = "-") -> Path:
    """A stand-in for a package manager, first in PATH, that writes its words down; the file with them."""
    folder.mkdir(exist_ok=True)
    noted = folder / "noted"
    script = folder / program
    script.write_text(
        f"""#!/bin/sh
echo "$(basename $0) $*" >> {noted}
for word; do if [ "$word" = "{unknown}" ]; then echo 'unknown package' >&2; exit 1; fi; done
"""
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return noted


@pytest.mark.parametrize(
    ("text", "expected"),
    [(FEDORA, DNF), (ROCKY, DNF), (MANJARO, PACMAN), (LEAP, ZYPPER), (MINT, APT), ("ID=guix\n", None), ("", None)],
)
def test_a_system_says_what_it_is(release: Path, text: str, expected: Manager | None) -> None:
    release.write_text(text)
    assert manager_here(lambda program: None) is expected


def test_without_a_word_what_is_there_counts(release: Path) -> None:
    assert manager_here(lambda program: None) is None
    assert manager_here({"zypper": "/usr/bin/zypper"}.get) is ZYPPER


@pytest.mark.parametrize(
    ("text", "manager", "expected"),
    [
        (FEDORA, DNF, ["dnf -q -y install --setopt=install_weak_deps=False"]),
        (MANJARO, PACMAN, ["pacman -S --needed --noconfirm"]),
        (LEAP, ZYPPER, ["zypper --non-interactive refresh", "zypper --non-interactive install --no-recommends"]),
    ],
)
def test_what_is_missing_is_installed_in_one_call(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, manager: Manager, expected: list[str]
) -> None:
    release.write_text(text)
    empty = tmp_path / "empty"
    tools = [tool for tool in host.host_tools(Commands([str(empty)])) if tool.found is None]
    noted = stand_in(tmp_path / "bin", manager.program, monkeypatch)
    fixed = host.install(Privilege(Commands(), None), [tool for tool in tools if tool.install[:1] != ("modprobe",)])
    assert "qemu-img" in fixed and "fusefat" not in fixed
    calls = noted.read_text().splitlines()
    column = MANAGERS.index(manager)
    wanted = {PACKAGES[tool.name][column] for tool in tools if tool.name in PACKAGES} - {""}
    assert {"qemu-img", "e2fsprogs", "ntfs-3g"} <= wanted
    assert calls == [*expected[:-1], " ".join([expected[-1], *sorted(wanted)])]
    with pytest.raises(Missing) as caught:
        Commands([str(empty)]).need("qemu-storage-daemon")
    assert caught.value.hint == f"install it: sudo {' '.join(manager.install)} qemu-img"
    with pytest.raises(Missing) as caught:
        Commands([str(empty)]).need("fusefat")
    assert caught.value.hint == ""


def test_one_unknown_package_does_not_hold_up_the_others(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release.write_text(MANJARO)
    every = host.host_tools(Commands([str(tmp_path / "empty")]))
    tools = [tool for tool in every if tool.name in ("qemu-img", "mkntfs", "cryptsetup")]
    noted = stand_in(tmp_path / "bin", "pacman", monkeypatch, unknown="ntfs-3g")
    with pytest.raises(ToolFailed, match="unknown package") as caught:
        host.install(Privilege(Commands(), None), tools)
    assert caught.value.command[-1] == "ntfs-3g"
    assert caught.value.state == "all others were installed"
    assert "pacman -Syu" in caught.value.hint
    together, *alone = (line.removeprefix("pacman -S --needed --noconfirm ") for line in noted.read_text().splitlines())
    assert together.split() == alone == ["cryptsetup", "ntfs-3g", "qemu-img"]


def test_every_program_that_is_looked_for_has_a_package() -> None:
    debian = {program for program, names in PACKAGES.items() if names[0]}
    assert debian == set(PACKAGES)
    programs = {tool.name for tool in host.host_tools(Commands()) if not tool.name.startswith("/")}
    assert programs <= debian | {"root", "ext4"}
