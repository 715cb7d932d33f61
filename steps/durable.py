"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from portunix_vdisk.platform.base import FileIdentity


def partial_of(path: Path) -> Path:
    """The sibling in which a file is written until it is whole."""
    return path.with_name(path.name + ".partial")


def fsync_folder(folder: Path) -> None:
    """Make names in a folder durable. Raises ``OSError``."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(partial: Path, final: Path) -> None:
    """fsync ``partial``, give it its final name, fsync the folder.

    An existing ``final`` is never replaced: raises ``FileExistsError``, unless it is this very file (a run that
    was killed between the two names), in which case the work is finished.
    """
    descriptor = os.open(partial, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # link + unlink instead of rename: rename would silently replace what appeared meanwhile. Filesystems
    # without hard links (FAT, exFAT) get a checked rename.
    try:
        os.link(partial, final)
    except FileExistsError:
        if not final.samefile(partial):
            raise
        partial.unlink()
    except OSError:
        if final.exists():
            raise FileExistsError(str(final)) from None
        partial.rename(final)
    else:
        partial.unlink()
    fsync_folder(final.parent)


def replace_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a small file by rename; see :func:`replace_bytes`."""
    replace_bytes(path, text.encode(), mode)


def replace_bytes(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a small file by rename. What lies under its unfinished name is removed: it may be a link to anywhere."""
    partial = partial_of(path)
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    partial.replace(path)


def identity_of(path: Path) -> FileIdentity:
    """Identity of an existing file. Raises ``OSError``."""
    stat = path.stat()
    return FileIdentity(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def has_inode(path: Path, inode: tuple[int, int]) -> bool:
    """Whether this is the name of that very file."""
    try:
        stat = path.stat()
    except OSError:
        return False
    return (stat.st_dev, stat.st_ino) == inode
