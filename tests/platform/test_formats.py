"""The table of formats is sound, and README shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from portunix_vdisk.platform.base import MIB, FileSystemType, ImageType
from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.platform.formats import FILE_SYSTEMS, TYPES, System, cell, cells
from portunix_vdisk.platform.linux import rootless_drivers
from portunix_vdisk.steps.allocate import check_size
from portunix_vdisk.steps.sizes import show_size

README = Path(__file__).resolve().parents[2] / "README.md"
NAMES = {System.LINUX: "Linux", System.WINDOWS: "Windows", System.WSL2: "WSL2", System.MACOS: "macOS"}
REQUIRED_TYPES = (ImageType.VHD, ImageType.VHDX, ImageType.QCOW2, ImageType.IMG, ImageType.LOOP, ImageType.DMG)
REQUIRED = (FileSystemType.EXT4, FileSystemType.NTFS, FileSystemType.FAT32, FileSystemType.EXFAT)


def lines() -> list[str]:
    """The rows of README's two tables."""

    def yes(value: object) -> str:
        return "yes" if value else "-"

    def opens(systems: frozenset[System]) -> str:
        return ", ".join(NAMES[system] for system in System if system in systems)

    def most(type: ImageType) -> str:
        return show_size(max(cell(type, fs).largest for fs in FILE_SYSTEMS))

    types = [
        f"| `{type.extension}`{' --fixed' if type is ImageType.VHD_FIXED else ''} | {most(type)} "
        f"| {yes(facts.trim)} | {yes(not facts.unencrypted)} | {opens(facts.opens)} |"
        for type, facts in TYPES.items()
    ]
    inside = [
        f"| `{fs}` | {show_size(facts.smallest)} | {show_size(facts.largest_file) if facts.largest_file else '-'} "
        f"| {yes(facts.links)} | {yes(facts.modes)} | {yes(not facts.unencrypted)} | {yes(not facts.rooted)} "
        f"| {opens(facts.opens)} |"
        for fs, facts in FILE_SYSTEMS.items()
    ]
    return types + inside


def test_readme_carries_the_table() -> None:
    text = README.read_text(encoding="utf-8")
    assert [line for line in lines() if line not in text] == []


def test_whether_root_is_needed_is_what_is_tried() -> None:
    assert {fs for fs, facts in FILE_SYSTEMS.items() if not facts.rooted} == set(rootless_drivers._DRIVERS)


def test_everything_has_facts_and_what_must_be_there_is() -> None:
    assert set(TYPES) == set(ImageType)
    assert set(FILE_SYSTEMS) == set(FileSystemType)
    found = list(cells())
    assert len(found) == len(ImageType) * len(FileSystemType)
    for each in found:
        assert 0 < each.smallest < each.largest
        assert each.largest % MIB == 0
        assert System.LINUX in each.opens
        assert each.encryption == (not each.unencrypted)
    for type in REQUIRED_TYPES:
        for fs in REQUIRED:
            assert not cell(type, fs).refused
            assert (type is ImageType.DMG) == bool(cell(type, fs, encrypted=True).refused)


@pytest.mark.parametrize("type", list(ImageType))
@pytest.mark.parametrize("fs", list(FileSystemType))
def test_sizes_are_checked_at_their_borders(type: ImageType, fs: FileSystemType) -> None:
    both = cell(type, fs)
    for size in (-(-both.smallest // MIB) * MIB, both.largest):
        check_size(size, type, fs)
    with pytest.raises(BadUsage, match="too small"):
        check_size(both.smallest - 1, type, fs)
    with pytest.raises(BadUsage, match="too large"):
        check_size(both.largest + MIB, type, fs)
    if both.unencrypted:
        with pytest.raises(BadUsage, match="no encrypted"):
            check_size(both.largest, type, fs, encrypted=True)
