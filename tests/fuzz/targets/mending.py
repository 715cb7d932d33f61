"""Damaged or bent archives, repaired, salvaged and merged: nothing gets worse, and no chunk becomes a wrong one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import small  # first: it makes chunks small
from script import Script
from store import bases
from workshop import Workshop

from portunix_vdisk.platform.base import ImageType, Partition
from portunix_vdisk.platform.errors import VdiskError
from portunix_vdisk.steps.archive.donors import ArchiveSource, DiskSource
from portunix_vdisk.steps.archive.frame import RepairFrame
from portunix_vdisk.steps.archive.merge import Merge
from portunix_vdisk.steps.archive.repair import RepairChunks
from portunix_vdisk.steps.archive.unpack import Finish, Prepare, Unpack

_BASES = ("generations-plain", "generations-encrypted", "generations-volumes", "full-plain", "delta-plain")
_BASES += ("delta-encrypted", "next-plain", "sealed-next-plain")
_workshop = Workshop("mending")


def run(data: bytes) -> None:
    script = Script(data)
    base = script.pick(_BASES)
    how, state, with_copy = script.below(4), script.pick((1, 2)), script.below(2)
    house, honest = _workshop.set_up(base, script)
    strict = honest or base.endswith("encrypted")
    small.show(house, state)
    if how == 3 and base.startswith("delta"):
        _merge(house, strict)
    elif how == 2:
        _salvage(house, honest)
    else:
        before = {number for number in (1, 2) if _import(house, number, strict)}
        with suppress(VdiskError):
            _repair(house, base, state, bool(with_copy))
        house.new_process()
        after = {number for number in (1, 2) if _import(house, number, strict)}
        assert before <= after, "a generation was there before the repair"
    _workshop.clean(house)


def _repair(house: Any, base: str, state: int, with_copy: bool) -> None:
    donors: list[DiskSource | ArchiveSource] = []
    copies: tuple[Path, ...] = ()
    if state:
        size = house.image.stat().st_size
        donors.append(DiskSource(house.image, ImageType.IMG, Partition(0, size), "ext4"))
    copy = bases().get(f"{base}/disk.zip")
    if with_copy and copy is not None:
        other = house.folder / "copy.zip"
        other.write_bytes(copy)
        donors.append(ArchiveSource(other))
        copies = (other,)
    with suppress(VdiskError):
        RepairFrame(house.output, copies).run(house.ctx)
    result = RepairChunks(house.output, tuple(donors)).run(house.ctx)
    assert isinstance(result, dict)
    under = house.folder / "base.zip"
    if under.exists() and under.read_bytes() != bases()[f"{base}/base.zip"]:
        return  # what a delta rests on is not what is repaired
    for generation in result["whole_generations"]:  # type: ignore[union-attr]
        assert _import(house, generation, False), "called whole, but does not import"


def _import(house: Any, generation: int, strict: bool) -> bool:
    """Whether a generation can be imported; what comes is one of the states that were."""
    house.back.unlink(missing_ok=True)
    try:
        house.import_(generation=generation)
    except VdiskError:
        return False
    finally:
        house.new_process()
    assert not strict or house.back.read_bytes() in map(small.content, (1, 2)), "another disk"
    return True


def _salvage(house: Any, honest: bool) -> None:
    task = replace(house.import_of(), salvage=True)
    house.back.unlink(missing_ok=True)
    with suppress(VdiskError):
        Prepare(task).run(house.ctx)
        Unpack(task, 0, 1).run(house.ctx)
        result = Finish(task).run(house.ctx)
        assert isinstance(result, dict)
        if not honest:
            return
        image, damage = house.back.read_bytes(), result["damage"]
        lost = damage["damaged_bytes"] if isinstance(damage, dict) else 0
        possible = []
        for known in map(small.content, (1, 2)):
            missing = 0
            for at in range(0, len(known), small.CHUNK):
                ours, theirs = known[at : at + small.CHUNK], image[at : at + small.CHUNK]
                if ours != theirs:
                    missing += len(ours) if not any(theirs) else 1 << 40
            possible.append(missing <= lost)
        assert any(possible), "a chunk that is neither what it was nor among the damaged"


def _merge(house: Any, strict: bool) -> None:
    full = house.folder / "full.zip"
    try:
        Merge(house.output, full).run(house.ctx)
    except VdiskError:
        return
    finally:
        house.new_process()
    house.output, former = full, house.output
    try:
        done = _import(house, 1, strict)
        assert done, "merged, but does not import"
    finally:
        house.output = former
