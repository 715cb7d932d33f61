"""Whether an export will fit: told before the first byte and again under way. Both are estimates, and say so."""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.archive.export import ExportJob
from portunix_vdisk.steps.sizes import show_size
from portunix_vdisk.steps.step import Context

_ROW: Final = 300
"""Bytes that index and directory take for each chunk, about."""
_SURE: Final = 0.7
"""With less than this share of what was estimated, an export is not begun: it would be in vain."""
_LIKELY: Final = 1.1
_FEWEST, _MOST = 8, 32
"""Chunks that are compressed to see how well the others will."""

_begun: WeakKeyDictionary[ExportJob, int] = WeakKeyDictionary()
"""Bytes of the disk that were done when this process began; negative once it warned."""


def check_room(job: ExportJob, ctx: Context) -> int:
    """Estimate how many bytes are still to be written, for which there has to be room. Raises ``Refused``.

    Costs nothing where even all of it would fit uncompressed.
    """
    left, folder = job.total - job.done, job.export.output.parent
    free = ctx.platform.free_space(folder)
    _begun[job] = job.done
    # An update lies beside its archive until it is appended.
    times = 2 if job.former is not None else 1
    most = times * (left + _ROW * len(job.covered)) + (job.appender.end if times == 2 else 0)
    if free >= most or not left:
        return most
    need = most - times * int(left * (1 - _ratio(job, ctx)))
    _tell(job, ctx, need, free)
    return need


def check_again(job: ExportJob, ctx: Context) -> None:
    """Warn once if what is left will not fit, judged by what was written in this process so far."""
    before = _begun.get(job, -1)
    packed, left = job.done - before, job.total - job.done
    if before < 0 or packed <= 0 or left <= 0:
        return
    times = 2 if job.former is not None else 1
    need = times * int(left * job.appender.written / packed) + (job.appender.end if times == 2 else 0)
    free = ctx.platform.free_space(job.export.output.parent)
    if free < need:
        _begun[job] = -1
        ctx.warn(_story(job, need, free) + _elsewhere(job))


def _ratio(job: ExportJob, ctx: Context) -> float:
    """How small a few chunks become of those that are left."""
    missing = [offset for offset in job.covered if offset not in job.current]
    count = min(len(missing), max(_FEWEST, min(_MOST, len(missing) // 8)))
    some = [missing[number * len(missing) // count] for number in range(count)]
    packed = 0
    for offset in some:
        ctx.safe_point()
        packed += len(job.packer.pack(offset).payload)
    plain = sum(job.packer.data_bytes(offset) for offset in some)
    return min(1.0, packed / plain) if plain else 1.0


def _tell(job: ExportJob, ctx: Context, need: int, free: int) -> None:
    if free < _SURE * need:
        raise Refused(
            _story(job, need, free),
            state="what was written before is kept" if job.appender.end else "nothing was written",
            hint="free some space, or write to another medium" + _elsewhere(job),
        )
    if free < _LIKELY * need:
        ctx.warn(_story(job, need, free) + "; should it not fit, what was written is kept" + _elsewhere(job))


def _elsewhere(job: ExportJob) -> str:
    return f"; to go on there: {job.export.elsewhere}" if job.export.elsewhere else ""


def _story(job: ExportJob, need: int, free: int) -> str:
    folder = job.export.output.parent
    return f"about {show_size(need)} (an estimate) are needed in {folder}, {show_size(free)} are free"
