"""Whole archives, bent, read in every way. What is read is what the index's root says; what that root is of an
original state, is that state; what is encrypted is an original state or nothing.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import small  # first: it makes chunks small
from script import Script
from workshop import Workshop, root_of_image

from portunix_vdisk.platform.errors import VdiskError
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.status import archive_status
from portunix_vdisk.steps.archive.unlock import read_header, read_lock
from portunix_vdisk.steps.archive.verify import VerifyArchive

_BASES = ("full-plain", "generations-plain", "delta-plain", "generations-encrypted", "delta-encrypted")
_BASES += ("generations-volumes", "sealed-next-plain")
_workshop = Workshop("reading")


def run(data: bytes) -> None:
    script = Script(data)
    base = script.pick(_BASES)
    house, honest = _workshop.set_up(base, script)
    strict = honest or base.endswith("encrypted")
    for look in (read_header, read_lock, lambda path: archive_status(path, small.UUID)):
        with suppress(VdiskError):
            look(house.output)
    whole = False
    with suppress(VdiskError):
        VerifyArchive(house.output).run(house.ctx)
        whole = True
    generations: list[int] = []
    with suppress(VdiskError), ArchiveReader(house.output) as reader:
        generations = reader.generations[-8:]
    for generation in generations:
        done = _import(house, generation)
        assert done or not whole, "what was verified cannot be imported"
        if strict and done:
            image = house.back.read_bytes()
            assert image in map(small.content, (1, 2)), "another disk"
    _workshop.clean(house)


def _import(house: Any, generation: int) -> bool:
    _forget(house.back)
    try:
        with ArchiveReader(house.output, generation) as reader:
            index = reader.index
        # Larger ones would only fill the memory that stands for a disk here.
        if index.disk.size > 1 << 24:
            return True
        result = house.import_(generation=generation)
    except VdiskError:
        return False
    finally:
        house.new_process()
    image = house.back.read_bytes()
    rows = [chunk.offset for chunk in index.chunks]
    assert result["root"] == index.root.hex() == root_of_image(image, rows).hex(), "another content than the root says"
    return True


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
