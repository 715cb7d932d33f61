"""Disks made here are used by another kernel, with its own drivers, and come back: the different machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from machine import Machine

from portunix_vdisk.platform.base import ImageType, Partition
from portunix_vdisk.tests.guest.boot import boot
from portunix_vdisk.tests.guest.cells import PASSWORD, Cell, cells
from portunix_vdisk.tests.guest.opinions import confirm
from portunix_vdisk.tests.guest.seen import seen_there

# Encrypted ones are for --full: the emulated processor takes ten seconds to find out that a password is right.
QUICK = [Cell(ImageType.VHD, "ext4"), Cell(ImageType.QCOW2, "ext4")]
TOGETHER = 12
"""Disks in one guest."""
ALL = list(cells())
BATCHES = [ALL[start : start + TOGETHER] for start in range(0, len(ALL), TOGETHER)]

NUMBERS = hashlib.sha256("".join(f"{number}\n" for number in range(1, 100001)).encode()).hexdigest()
"""Of what the guest leaves in ``guest/numbers``."""


def travel(machine: Machine, disks: Sequence[Cell]) -> None:
    before = {cell: cell.make(machine) for cell in disks}
    said = boot(
        machine.folder,
        [cell.drive(machine) for cell in disks],
        "".join(cell.visit() for cell in disks),
        modules=[module for cell in disks for module in cell.modules],
        programs=sorted({program for cell in disks for program in cell.programs}),
        files={"password": PASSWORD},
        timeout=60 + 30 * len(disks),
    )
    for cell in disks:
        assert cell.comparable(seen_there(said[cell.name])) == before[cell], cell
        after = cell.look(machine)
        theirs = {name: fact for name, fact in after.items() if name.startswith(b"guest")}
        assert {name: after[name] for name in after.keys() - theirs.keys()} == before[cell], cell
        left = {name: fact.content for name, fact in theirs.items()}
        assert left == {b"guest": None, b"guest/numbers": NUMBERS}, cell
        if cell.encrypted:
            continue
        about = machine.vdisk("info", cell.name, "--json").result["disk"]
        confirm(Path(about["path"]), cell.type, cell.fs, Partition(**about["partition"]), after)


def test_another_kernel_uses_our_disks(machine: Machine) -> None:
    travel(machine, QUICK)


@pytest.mark.full
@pytest.mark.parametrize("disks", BATCHES, ids=lambda disks: f"{len(disks)} from {disks[0].name}")
def test_another_kernel_uses_every_kind_of_disk(machine: Machine, disks: Sequence[Cell]) -> None:
    travel(machine, disks)
