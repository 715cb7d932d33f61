"""Unfinished archives and updates, damaged or bent, that an export has to continue or refuse.

After damage, and whatever was done to encrypted ones, the result is the source; what was there stays in any case.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import small  # first: it makes chunks small
from script import Script
from workshop import Workshop

from portunix_vdisk.platform.errors import VdiskError
from portunix_vdisk.steps.archive.commit import finish_update

_BASES = ("partial-plain", "sealed-plain", "partial-encrypted", "next-plain", "sealed-next-plain", "next-encrypted")
_BASES += ("next-volumes",)
_workshop = Workshop("resuming")


def run(data: bytes) -> None:
    script = Script(data)
    base = script.pick(_BASES)
    state = script.pick((small.LAST, 1))
    only_end = script.below(4) != 3
    house, honest = _workshop.set_up(base, script, (".partial", ".next", ".next.001") if only_end else ())
    # Who forges a header with its checksum says what is on the disk: an unfinished archive is believed, unless sealed.
    strict = honest or base.endswith("encrypted")
    small.show(house, state)
    house.options["encrypted"] = base == "partial-encrypted"
    if script.below(4) == 3 and house.output.exists():
        with suppress(VdiskError):
            finish_update(house.output)
    try:
        house.export()
    except VdiskError:
        house.new_process()
        if base.startswith(("next", "sealed-next")) and only_end:
            _imports(house, 1, True, must=True)
    else:
        house.new_process()
        # A chunk of a former generation is not read again: if it is damaged, only its import, or verify, tells.
        _imports(house, state, strict, must=strict and only_end)
    _workshop.clean(house)


def _imports(house: Any, state: int, strict: bool, *, must: bool) -> None:
    """The archive under its name gives this state of the disk, or a later one."""
    try:
        house.import_()
    except VdiskError as error:
        assert not must, f"an export that was done, or the state before, does not import: {error.what}"
        return
    assert not strict or house.back.read_bytes() in map(small.content, range(state, small.LAST + 1)), "another disk"
