"""Appending records to a partial archive."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.steps.archive.files import write_all
from portunix_vdisk.steps.archive.layout import Record
from portunix_vdisk.steps.durable import fsync_folder

_WRITE_BACK = 128 << 20


class Appender:
    """The end of a partial archive. Owns the descriptor; one thread at a time.

    A record that could not be written whole is cut off again, so that the file always ends with a whole record.
    Every failure is ``Failed`` with the file kept.
    """

    def __init__(self, path: Path, descriptor: int, end: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.end = end
        """Where the next record goes."""
        self.written = 0
        """Bytes written by this object."""
        self._unsynced = 0
        self._background = ThreadPoolExecutor(1)
        self._write_back: Future[None] | None = None

    def append(self, record: Record, payload: bytes) -> int:
        """Write a record; the offset of its header."""
        return self.append_bytes(record.header(), payload)

    def append_bytes(self, *parts: bytes) -> int:
        """Write bytes as they are; their offset."""
        start, length = self.end, sum(map(len, parts))
        try:
            write_all(self.descriptor, start, parts)
        except OSError as error:
            self._cut_quietly(start)
            raise self._failed(error) from error
        self.end += length
        self.written += length
        self._unsynced += length
        if self._unsynced >= _WRITE_BACK:
            self._start_write_back()
        return start

    def cut(self, end: int) -> None:
        """Drop everything from ``end`` on."""
        self._try(lambda: os.ftruncate(self.descriptor, end))
        self.end = end

    def sync(self) -> None:
        """Return when everything written, and the file's name, are on stable storage."""
        if self._write_back is not None:
            self._try(self._write_back.result)
            self._write_back = None
        self._try(lambda: os.fsync(self.descriptor))
        self._try(lambda: fsync_folder(self.path.parent))
        self._unsynced = 0

    def close(self) -> None:
        """Release the file; whatever was written stays."""
        self._background.shutdown(wait=True)
        os.close(self.descriptor)

    def _start_write_back(self) -> None:
        """Let the device work while we compress, so that the last fsync has little left to wait for."""
        if self._write_back is not None:
            if not self._write_back.done():
                return
            self._try(self._write_back.result)
        self._write_back = self._background.submit(os.fdatasync, self.descriptor)
        self._unsynced = 0

    def _cut_quietly(self, end: int) -> None:
        try:
            os.ftruncate(self.descriptor, end)
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
                what, hint = f"no space left for {self.path}", "free some space, then run the same command to continue"
            case errno.EFBIG:
                what = f"{self.path} has reached the largest file size of its filesystem"
                hint = "export to another filesystem: move the .partial file there and run the command with that output"
            case _:
                what, hint = f"cannot write {self.path}: {error.strerror}", "run the same command to continue"
        return Failed(what, state="what was written so far is kept in that file", hint=hint)
