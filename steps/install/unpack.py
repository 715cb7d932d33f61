"""Unpacking into a folder that nobody uses yet. What is unpacked may be made by anybody, so it is not trusted."""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.install.archives import Entry, Kind

_MOST_BYTES: Final = 16 << 30
_MOST_ENTRIES: Final = 1_000_000
_BLOCK: Final = 1 << 20
_LIBRARIES: Final = (".so", ".o", ".a", ".syso")
_DOCUMENTATION: Final = ("usr/share/doc/", "usr/share/man/", "usr/share/lintian/", "usr/share/info/")


class Tree:
    """A folder that is being filled.

    Args:
        folder: must be there and empty.
        stop: raises where the person wants to stop.
    """

    def __init__(self, folder: Path, stop: Callable[[], None]) -> None:
        self.folder = folder
        self._stop = stop
        self._bytes = self._entries = 0
        self._links: list[str] = []
        self._folders: set[str] = {""}

    def fill(self, entries: Iterable[Entry], only: str = "", *, whole_system: bool = False) -> None:
        """Unpack members.

        Args:
            entries: the members.
            only: the folder among them that becomes the tree; empty means all.
            whole_system: the members belong to the root of a system, as those of Debian's packages: absolute links
                mean something in this tree, and documentation is left out.

        Raises:
            Corrupt: a member would get out of the folder, is no file, folder or link, or there is too much of it.
        """
        for one in entries:
            self._stop()
            self._entries += 1
            if self._entries > _MOST_ENTRIES:
                raise _hostile(f"there are more than {_MOST_ENTRIES} files in it")
            name = _inside(one.name, only)
            if name is None or (whole_system and f"{name}/".startswith(_DOCUMENTATION)):
                continue
            if one.kind is Kind.FOLDER:
                self._make_folder(name)
            elif one.kind is Kind.FILE:
                self._write(name, one)
            elif one.kind is Kind.LINK:
                self._link(name, one.target, whole_system)
            elif one.kind is Kind.SAME:
                self._copy(name, one.target, only)
            else:
                raise _hostile(f"{name} in it is neither file nor folder nor link")

    def add(self, name: str, text: str) -> None:
        """Write a file of our own."""
        inner = _inside(name, "")
        assert inner is not None
        self._make_folder(posixpath.dirname(inner))
        (self.folder / inner).write_text(text, encoding="utf-8")

    def close(self) -> None:
        """Look where all links lead, now that all is there. Raises ``Corrupt``: one leads out."""
        top = os.path.realpath(self.folder)
        for name in self._links:
            real = os.path.realpath(self.folder / name)
            if real != top and not real.startswith(f"{top}/"):
                raise _hostile(f"the link {name} in it leads out of its folder")

    def _make_folder(self, name: str) -> None:
        """A folder and those above it; none of them is a link."""
        if name in self._folders:
            return
        self._make_folder(posixpath.dirname(name))
        try:
            (self.folder / name).mkdir()
        except FileExistsError:
            if not stat.S_ISDIR((self.folder / name).lstat().st_mode):
                raise _hostile(f"{name} in it is a folder and something else") from None
        self._folders.add(name)

    def _open(self, name: str, *, executable: bool) -> int:
        self._make_folder(posixpath.dirname(name))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        try:
            return os.open(self.folder / name, flags, 0o755 if executable else 0o644)
        except FileExistsError:
            raise _hostile(f"{name} is in it twice") from None

    def _write(self, name: str, one: Entry) -> None:
        first = one.read(_BLOCK)
        descriptor = self._open(name, executable=one.executable or _runs(name, first))
        written = 0
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            block = first
            while block:
                self._stop()
                written += len(block)
                self._bytes += len(block)
                if written > one.size or self._bytes > _MOST_BYTES:
                    raise _hostile(f"{name} in it is larger than it says")
                file.write(block)
                block = one.read(_BLOCK)
        if written != one.size:
            raise _hostile(f"{name} in it is shorter than it says")

    def _link(self, name: str, target: str, whole_system: bool) -> None:
        self._make_folder(posixpath.dirname(name))
        if whole_system and target.startswith("/"):
            target = posixpath.relpath(target, posixpath.join("/", posixpath.dirname(name)))
        place = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        if not target or "\0" in target or target.startswith("/") or place == ".." or place.startswith("../"):
            raise _hostile(f"the link {name} in it leads out of its folder, to {target}")
        try:
            (self.folder / name).symlink_to(target)
        except FileExistsError:
            raise _hostile(f"{name} is in it twice") from None
        self._links.append(name)

    def _copy(self, name: str, target: str, only: str) -> None:
        """Another name of a file becomes a copy: not every filesystem has files of two names."""
        inner = _inside(target, only)
        if inner is None or posixpath.dirname(inner) not in self._folders:
            raise _hostile(f"{name} in it is another name of something that is not there")
        source = self.folder / inner
        try:
            mode = source.lstat().st_mode
        except FileNotFoundError:
            mode = 0
        if not stat.S_ISREG(mode):
            raise _hostile(f"{name} in it is another name of something that is no file")
        self._bytes += source.lstat().st_size
        if self._bytes > _MOST_BYTES:
            raise _hostile("there is too much in it")
        with source.open("rb") as from_, os.fdopen(self._open(name, executable=bool(mode & 0o100)), "wb") as to:
            shutil.copyfileobj(from_, to, _BLOCK)


def _inside(name: str, only: str) -> str | None:
    """The name of a member in the tree, or None if it is outside the part that is wanted. Raises ``Corrupt``."""
    if name in ("", ".", "./"):
        return None
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or "\0" in name or len(name) > 4000 or any(part in ("..", ".", "") for part in parts):
        raise _hostile(f"{name[:200]!r} in it is no name of a file in a folder")
    if not only:
        return "/".join(parts)
    above = only.split("/")
    return "/".join(parts[len(above) :]) or None if parts[: len(above)] == above else None


def _runs(name: str, first: bytes) -> bool:
    """Whether a file is a program, whatever its archive says: zip files that were made on Windows say nothing."""
    if first.startswith(b"#!/"):
        return True
    if first.startswith(b"\x7fELF"):
        last = name.rpartition("/")[2]
        return not last.endswith(_LIBRARIES) and ".so." not in last
    return first.startswith((b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")) and "." not in name.rpartition("/")[2]


def _hostile(why: str) -> Corrupt:
    return Corrupt(f"it cannot be unpacked: {why}", state="nothing of it is on the disk")
