"""Appending records to an unfinished archive or update."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.steps.archive.record import Record
from portunix_vdisk.steps.archive.storage import ArchiveFile

_WRITE_BACK = 64 << 20
"""Bytes that are brought to the medium at a time, while the next ones are compressed."""
_POLL = 0.1


class Appender:
    """The end of an unfinished archive or update. Owns the file; one thread at a time.

    A record that could not be written whole is cut off again, so that the file always ends with a whole record.
    Every failure is ``Failed`` with the file kept.
    """

    def __init__(self, file: ArchiveFile, end: int, elsewhere: str = "") -> None:
        self.file = file
        self._elsewhere = elsewhere
        self.end = end
        """Where the next record goes, in this file."""
        self.written = 0
        """Bytes written by this object."""
        self._unsynced = 0
        self._background = ThreadPoolExecutor(1)
        self._write_back: Future[None] | None = None
        self._began = 0.0
        self._took = 0.0

    def append(self, record: Record, payload: bytes) -> int:
        """Write a record; the offset of its header in this file."""
        return self.append_bytes(record.header(), payload)

    def append_bytes(self, *parts: bytes) -> int:
        """Write bytes as they are; their offset in this file."""
        start, length = self.end, sum(map(len, parts))
        try:
            self.file.write(start, parts)
        except OSError as error:
            self._cut_quietly(start)
            raise self._failed(error) from error
        self.end += length
        self.written += length
        self._unsynced += length
        return start

    def keep_up(self, poll: Callable[[], None]) -> float | None:
        """Wait until the medium is not far behind; ``poll`` is called meanwhile and may raise.

        So what is shown as done is on the medium but for some 128 MiB, and the last sync has little left to wait for.
        The result, now and then: the part of the time since the last one in which the medium was busy.
        """
        if self._unsynced < _WRITE_BACK:
            return None
        busy = None
        if self._write_back is not None:
            while not wait([self._write_back], _POLL).done:
                poll()
            self._collect()
            busy = min(1.0, self._took / max(time.monotonic() - self._began, 1e-9))
        self._began = time.monotonic()
        self._unsynced = 0
        self._write_back = self._background.submit(self._bring_back)
        return busy

    def cut(self, end: int) -> None:
        """Drop everything from ``end`` on."""
        self._try(lambda: self.file.truncate(end))
        self.end = end

    def sync(self) -> None:
        """Return when everything written, and the file's name, are on stable storage."""
        self._collect()
        self._try(self.file.sync)
        self._unsynced = 0

    def close(self) -> None:
        """Release the file; whatever was written stays."""
        self._background.shutdown(wait=True)
        self.file.close()

    def _bring_back(self) -> None:
        began = time.monotonic()
        self.file.write_back()
        self._took = time.monotonic() - began

    def _collect(self) -> None:
        """Hear how the bringing back went."""
        if self._write_back is not None:
            self._try(self._write_back.result)
            self._write_back = None

    def _cut_quietly(self, end: int) -> None:
        try:
            self.file.truncate(end)
        except OSError:
            return  # the torn record is found and cut by its CRC when the file is read back

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> Failed:
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                what = f"no space left for {self.file.path}"
                hint = "free some space, then run the same command to continue"
                hint += f"; or continue on another medium: {self._elsewhere}" if self._elsewhere else ""
            case errno.EFBIG:
                what = f"{self.file.path} has reached the largest file size of its filesystem"
                hint = "export in volumes, for example: --split 4000M"
            case _:
                what, hint = f"cannot write {self.file.path}: {error.strerror}", "run the same command to continue"
        return Failed(what, state="what was written so far is kept in that file", hint=hint)
