"""What is in a file that was fetched: wheels, tarballs, ZIP archives, Debian packages, read member by member.

Sources: the wheel format (https://packaging.python.org/en/latest/specifications/binary-distribution-format/), deb(5).
"""

from __future__ import annotations

import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import IO, Final

import zstandard

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.install.tool import Form


class Kind(Enum):
    """What a member is."""

    FILE = auto()
    FOLDER = auto()
    LINK = auto()
    SAME = auto()
    """Another name of an earlier file."""
    OTHER = auto()
    """A device and the like."""


_BROKEN: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    zstandard.ZstdError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)
"""What libraries raise about what is no archive, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A member of an archive. Its name and target are as the archive says, and not to be trusted."""

    name: str
    kind: Kind
    executable: bool = False
    target: str = ""
    size: int = 0
    content: IO[bytes] | None = None

    def read(self, length: int) -> bytes:
        """The next bytes of a file, before the next member is asked for. Raises ``Corrupt``."""
        assert self.content is not None
        try:
            return self.content.read(length)
        except _BROKEN as error:
            raise _damaged(self.name, error) from error


def entries(path: Path, form: Form) -> Iterator[Entry]:
    """The members of an archive. Raises ``Corrupt`` where it is none, at latest when its end is reached."""
    read = {Form.WHEEL: _wheel, Form.ZIP: _zip, Form.TAR: _tar, Form.DEB: _deb}[form]
    try:
        yield from read(path)
    except _BROKEN as error:
        raise _damaged(path.name, error) from error


def _damaged(name: str, error: Exception) -> Corrupt:
    return Corrupt(f"{name} cannot be unpacked: {error}", state="nothing of it is on the disk")


def _zip(path: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(path) as archive:
        for one in archive.infolist():
            mode = one.external_attr >> 16
            if one.is_dir():
                yield Entry(one.filename.rstrip("/"), Kind.FOLDER)
            elif stat.S_ISLNK(mode):
                yield Entry(one.filename, Kind.LINK, target=archive.read(one).decode("utf-8", "surrogateescape"))
            elif mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                yield Entry(one.filename, Kind.OTHER)
            else:
                with archive.open(one) as content:
                    yield Entry(one.filename, Kind.FILE, bool(mode & 0o111), size=one.file_size, content=content)


def _wheel(path: Path) -> Iterator[Entry]:
    """A ZIP archive. What a wheel calls scripts goes into ``bin``; its ``data`` lies at the top."""
    for one in _zip(path):
        top, _, rest = one.name.partition("/")
        if top.endswith(".data") and rest:
            part, _, inner = rest.partition("/")
            if not inner:
                continue
            place = {"scripts": f"bin/{inner}", "purelib": inner, "platlib": inner, "data": inner}.get(part)
            if place is None:
                continue
            yield Entry(place, one.kind, one.executable or part == "scripts", one.target, one.size, one.content)
        else:
            yield one


def _tar(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        magic = file.read(6)
        file.seek(0)
        if magic.startswith(b"\x28\xb5\x2f\xfd"):
            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(file) as plain:
                yield from _tar_members(plain)
        elif magic == b"\xfd7zXZ\x00":
            with lzma.open(file) as plain:
                yield from _tar_members(plain)
        else:
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                yield from _members(archive)


def _tar_members(plain: IO[bytes]) -> Iterator[Entry]:
    with tarfile.open(fileobj=plain, mode="r|") as archive:
        yield from _members(archive)


def _members(archive: tarfile.TarFile) -> Iterator[Entry]:
    for one in archive:
        name = one.name.removeprefix("./")
        if one.isdir():
            yield Entry(name, Kind.FOLDER)
        elif one.issym():
            yield Entry(name, Kind.LINK, target=one.linkname)
        elif one.islnk():
            yield Entry(name, Kind.SAME, target=one.linkname.removeprefix("./"))
        elif one.isreg():
            yield Entry(name, Kind.FILE, bool(one.mode & 0o111), size=one.size, content=archive.extractfile(one))
        else:
            yield Entry(name, Kind.OTHER)


def _deb(path: Path) -> Iterator[Entry]:
    """A Debian package: ar(5) with the members ``debian-binary``, ``control.tar.*`` and ``data.tar.*``."""
    with path.open("rb") as file:
        if file.read(8) != b"!<arch>\n":
            raise ValueError("it is no Debian package")
        while len(header := file.read(60)) == 60:
            name, size = header[:16].rstrip(b" /"), int(header[48:58])
            if header[58:] != b"`\n" or size < 0:
                raise ValueError("it is damaged")
            if name.startswith(b"data.tar"):
                yield from _data(io.BufferedReader(_Part(file, size)), name.removeprefix(b"data.tar"))
                return
            file.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError("there is nothing in it")


def _data(part: IO[bytes], ending: bytes) -> Iterator[Entry]:
    if ending == b".zst":
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(part) as plain:
            yield from _tar_members(plain)
    elif ending == b".xz":
        with lzma.open(part) as plain:
            yield from _tar_members(plain)
    elif ending in (b".gz", b".bz2", b""):
        with tarfile.open(fileobj=part, mode="r|*") as archive:
            yield from _members(archive)
    else:
        raise ValueError(f"{ending!r} is no compression that we know")


class _Part(io.RawIOBase):
    """So many bytes of a file, from where it stands."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._file.read(min(len(view), self._left))
        view[: len(data)] = data
        self._left -= len(data)
        return len(data)
