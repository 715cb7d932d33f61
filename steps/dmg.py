"""Write a disk as a compressed DMG: Apple's UDZO, a UDIF whose runs are compressed by zlib. Read-only for everybody.

The format and its sources are in :mod:`portunix_vdisk.steps.foreign.udif`. As in images made by macOS, the data has a
CRC-32 as it is stored and one as it is on the disk, and the trailer has one over the latter. The disk is one table, as
macOS does it for a disk whose partitions it does not look at.
"""

from __future__ import annotations

import os
import plistlib
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

from zlib_ng.zlib_ng import crc32_combine

from portunix_vdisk.platform.base import MIB, SECTOR, ImageType
from portunix_vdisk.platform.errors import Corrupt, Failed, Interrupted, Refused, VdiskError
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.archive.pipeline import Pipeline
from portunix_vdisk.steps.compact.replace import sync_file
from portunix_vdisk.steps.compact.survey import out_of_room
from portunix_vdisk.steps.foreign.filesystems import Read
from portunix_vdisk.steps.foreign.udif import CRC32, EMPTY, RUN, TABLE, TRAILER, Kind, Run, Udif, check_data, read_udif
from portunix_vdisk.steps.source import ImageSource
from portunix_vdisk.steps.step import Context, Json

_MOST_RUNS: Final = 100_000
"""With as many empty ones in between, their table is 8 MB; QEMU takes a list of 16 MiB, which is base64."""
_LEVEL: Final = 6
_KEPT: Final = "nothing was changed"
_NOTHING_LEFT: Final = "the disk was not touched, and nothing is left of the copy"


@dataclass(frozen=True, slots=True)
class WriteUdzo:
    """Make the file ``output``, which is not there yet, a UDZO of the disk in ``image``.

    What is written has to be whole to be of use, so an interrupted run leaves nothing, and the next begins anew. Nobody
    may write to ``image`` meanwhile.
    """

    image: Path
    type: ImageType
    output: Path

    def run(self, ctx: Context) -> Json:
        """Result: bytes of the file.

        Raises ``Refused`` where something has that name, ``Corrupt`` where the file, read back, is not the disk.
        """
        partial = durable.partial_of(self.output)
        try:
            with closing(self._source(ctx)) as source:
                self._write(ctx, source, partial)
                self._prove(ctx, source, partial)
                source.check()
            size = partial.stat().st_size
            durable.publish(partial, self.output)
        except FileExistsError:
            partial.unlink(missing_ok=True)
            raise in_the_way(self.output) from None
        except Interrupted as error:
            partial.unlink(missing_ok=True)
            raise Interrupted("interrupted", state=_NOTHING_LEFT, hint="the same command begins anew") from error
        except (VdiskError, OSError) as error:
            partial.unlink(missing_ok=True)
            if out_of_room(error):
                raise Failed(
                    f"no space left for {self.output}",
                    state=_NOTHING_LEFT,
                    hint="free some space, or choose another place with --output",
                ) from error
            raise
        return {"bytes": size}

    def _write(self, ctx: Context, source: ImageSource, partial: Path) -> None:
        partial.unlink(missing_ok=True)
        # Nobody may read the copy who may not read the original.
        mode = self.image.stat().st_mode & 0o666
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            _Writer(source, file).run(ctx)
            file.flush()
            os.fchmod(descriptor, mode)
        sync_file(partial)

    def _prove(self, ctx: Context, source: ImageSource, partial: Path) -> None:
        with partial.open("rb") as file:

            def read(offset: int, length: int) -> bytes:
                return os.pread(file.fileno(), length, offset)

            made = read_udif(read, partial.stat().st_size)
            check_data(read, made, lambda done, total: ctx.safe_point())
            if made.size != source.size or not _holds(ctx, read, made, source):
                raise Corrupt(
                    f"{self.output}, read back, does not hold the disk",
                    state=_NOTHING_LEFT,
                    hint="the medium may be failing: run the same command again, or choose another --output",
                )

    def _source(self, ctx: Context) -> ImageSource:
        found = ctx.platform.map_image(self.image, self.type)
        if found.snapshots:
            raise Refused(
                f"QEMU keeps snapshots in {self.image} ({found.snapshots}), which a DMG cannot hold",
                state=_KEPT,
                hint=f"look at them: qemu-img snapshot -l {self.image}",
            )
        if found.size % SECTOR:
            raise Refused(f"the disk has {found.size} bytes, which is no whole number of sectors", state=_KEPT)
        return ImageSource(self.image, found)


def in_the_way(path: Path) -> Refused:
    """Why a copy cannot be made."""
    return Refused(f"{path} exists already", state="it was not touched", hint="name another file with --output")


def _holds(ctx: Context, read: Read, made: Udif, source: ImageSource) -> bool:
    """Whether every chunk of the disk with data is what is stored for it, zeros where nothing is."""
    chunk = chunk_of(source)
    stored = {run.start * SECTOR: run for run in made.runs if run.kind not in EMPTY}
    offsets = sorted(stored.keys() | set(_chunks(source, chunk)))

    def equal(offset: int) -> bool:
        wanted = bytearray(min(chunk, source.size - offset))
        source.read_into(offset, wanted)
        run = stored.get(offset)
        if run is None:
            return wanted == bytes(len(wanted))
        data = read(run.offset, run.length)
        return wanted == (data if run.kind is Kind.RAW else zlib.decompress(data))

    pipeline = Pipeline(equal, iter(offsets))
    try:
        for number in range(len(offsets)):
            if not pipeline.take(ctx.safe_point):
                return False
            ctx.update((len(offsets) + number + 1) * chunk, 2 * len(offsets) * chunk)
    except zlib.error:
        return False
    finally:
        pipeline.close()
    return True


def chunk_of(source: ImageSource) -> int:
    """Bytes of the disk that are compressed at once: 1 MiB, more where that would make the tables too long."""
    chunk = MIB
    while sum(1 for _ in _chunks(source, chunk)) > _MOST_RUNS:
        chunk *= 2
    return chunk


def _chunks(source: ImageSource, chunk: int) -> Iterator[int]:
    """Offsets of the aligned chunks that have data, ascending."""
    last = -1
    for start, end in source.extents:
        for number in range(max(start // chunk, last + 1), -(-end // chunk)):
            yield number * chunk
            last = number


@dataclass(frozen=True, slots=True)
class _Packed:
    """A chunk as it will be stored, nothing if it is all zeros; ``plain_sum`` is the CRC-32 of what it holds."""

    kind: Kind
    data: bytes
    plain_sum: int


class _Writer:
    """Writes one image, run by run, and what it must know of them at the end."""

    def __init__(self, source: ImageSource, file: BinaryIO) -> None:
        self._source = source
        self._file = file
        self._chunk = chunk_of(source)
        self._runs: list[Run] = []
        self._end = 0
        """Bytes of the disk that the runs say something about."""
        self._length = 0
        self._stored_sum = 0
        self._plain_sum = 0

    def run(self, ctx: Context) -> None:
        """Write it all."""
        offsets = _chunks(self._source, self._chunk)
        total = sum(1 for _ in _chunks(self._source, self._chunk)) * self._chunk
        done = 0
        pipeline = Pipeline(self._pack, offsets)
        try:
            while (offset := pipeline.head) is not None:
                packed = pipeline.take(ctx.safe_point)
                if packed.kind is not Kind.ZERO:
                    self._put(offset, packed)
                done += self._chunk
                ctx.update(done, 2 * total)
        finally:
            pipeline.close()
        self._leave_empty(self._source.size)
        table = self._table()
        self._file.write(table)
        self._file.write(self._trailer(len(table)))

    def _pack(self, offset: int) -> _Packed:
        plain = bytearray(min(self._chunk, self._source.size - offset))
        self._source.read_into(offset, plain)
        if plain == bytes(len(plain)):
            return _Packed(Kind.ZERO, b"", 0)
        packed, plain_sum = zlib.compress(plain, _LEVEL), zlib.crc32(plain)
        return _Packed(*((Kind.ZLIB, packed) if len(packed) < len(plain) else (Kind.RAW, bytes(plain))), plain_sum)

    def _put(self, offset: int, packed: _Packed) -> None:
        self._leave_empty(offset)
        length = min(self._chunk, self._source.size - offset)
        self._file.write(packed.data)
        self._add(packed.kind, length, len(packed.data))
        self._stored_sum = zlib.crc32(packed.data, self._stored_sum)
        self._plain_sum = crc32_combine(self._plain_sum, packed.plain_sum, length)

    def _leave_empty(self, until: int) -> None:
        """Everything up to there reads as zeros."""
        if length := until - self._end:
            self._add(Kind.ZERO, length, 0)
            self._plain_sum = crc32_combine(self._plain_sum, sum_of_zeros(length), length)

    def _add(self, kind: Kind, length: int, stored: int) -> None:
        self._runs.append(Run(kind, self._end // SECTOR, length // SECTOR, self._length, stored))
        self._end += length
        self._length += stored

    def _table(self) -> bytes:
        """The property list with the table of all runs."""
        sectors = self._source.size // SECTOR
        # What macOS writes: the sectors of a run and eight more.
        buffers = self._chunk // SECTOR + 8
        head = (b"mish", 1, 0, sectors, 0, buffers, 0, CRC32, 32, _value(self._plain_sum), len(self._runs) + 1)
        data = bytearray(TABLE.pack(*head))
        for run in self._runs:
            data += RUN.pack(run.kind, 0, run.start, run.count, run.offset, run.length)
        data += RUN.pack(Kind.END, 0, sectors, 0, self._length, 0)
        name = "whole disk (unknown partition : 0)"
        table = {"Attributes": "0x0050", "CFName": name, "Data": bytes(data), "ID": "0", "Name": name}
        return plistlib.dumps({"resource-fork": {"blkx": [table]}})

    def _trailer(self, table: int) -> bytes:
        every = zlib.crc32(self._plain_sum.to_bytes(4, "big"))
        return TRAILER.pack(
            *(b"koly", 4, SECTOR, 1, 0, 0, self._length, 0, 0, 1, 1, uuid4().bytes),
            *(CRC32, 32, _value(self._stored_sum), self._length, table),
            *(CRC32, 32, _value(every), 1, self._source.size // SECTOR),
        )


def sum_of_zeros(length: int) -> int:
    """The CRC-32 of so many zeros, without looking at any: they only move on the ones with which it begins and ends."""
    ones = 0xFFFFFFFF
    return crc32_combine(ones, ones, length)


def _value(checksum: int) -> bytes:
    return checksum.to_bytes(4, "big")
