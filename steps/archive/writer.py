"""Appending records to an unfinished archive or update."""

from __future__ import annotations

import errno
from collections.abc import Callable

from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.steps.archive.record import Record
from portunix_vdisk.steps.archive.storage import ArchiveFile
from portunix_vdisk.steps.archive.write_back import WriteBack


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
        self._write_back = WriteBack(file.write_back)

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
        self._write_back.wrote(length)
        return start

    def keep_up(self, poll: Callable[[], None]) -> float | None:
        """Wait until the medium is not far behind; see :meth:`WriteBack.keep_up`."""
        try:
            return self._write_back.keep_up(poll)
        except OSError as error:
            raise self._failed(error) from error

    def cut(self, end: int) -> None:
        """Drop everything from ``end`` on."""
        self._try(lambda: self.file.truncate(end))
        self.end = end

    def sync(self) -> None:
        """Return when everything written, and the file's name, are on stable storage."""
        self._try(self._write_back.wait)
        self._try(self.file.sync)

    def close(self) -> None:
        """Release the file; whatever was written stays."""
        self._write_back.close()
        self.file.close()

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
