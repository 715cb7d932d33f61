"""Where a sync reads and writes: checked before anything is touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.errors import BadUsage, Failed, NotFound, Refused
from portunix_vdisk.steps.sync.record import FOLDER_NAME
from portunix_vdisk.steps.sync.scan import reason, shown

NOTHING = "nothing was written"
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Places:
    """The three folders, all symbolic links resolved; ``below`` are the names from the root to the target."""

    source: Path
    target: Path
    root: Path
    below: tuple[str, ...]

    @property
    def prefix(self) -> bytes:
        """The target below the root, as the record has it."""
        return os.fsencode("/".join(self.below))


def find_places(source: Path, target: Path, root: Path) -> Places:
    """Resolve and check the folders of a sync.

    Raises:
        NotFound: there is no source, or no root.
        BadUsage: the source is no folder, or source and target lie inside each other.
        Refused: the target is no folder, lies outside the root, or in the folder that is ours.
    """
    real_source = _folder(source, "source")
    real_root = _folder(root, "disk's mount point")
    real_target = Path(os.path.realpath(target))
    if not real_target.is_relative_to(real_root):
        raise Refused(
            f"target {_name(target)} is not below {_name(root)}"
            + (f": it leads to {_name(real_target)}" if real_target != target else ""),
            state=NOTHING,
        )
    below = real_target.relative_to(real_root).parts
    if below[:1] == (FOLDER_NAME,):
        raise Refused(f"{FOLDER_NAME} on a disk holds its own records and cannot be a target", state=NOTHING)
    if os.path.lexists(real_target) and not real_target.is_dir():
        raise Refused(f"target {_name(target)} is not a folder", state=NOTHING)
    places = Places(real_source, real_target, real_root, below)
    _check_apart(places)
    return places


def _folder(path: Path, what: str) -> Path:
    try:
        real = Path(os.path.realpath(path, strict=True))
    except FileNotFoundError as error:
        raise NotFound(f"{what} {_name(path)} does not exist", state=NOTHING) from error
    except OSError as error:
        raise Failed(f"{what} {_name(path)} cannot be read: {reason(error)}", state=NOTHING) from error
    if not real.is_dir():
        raise BadUsage(f"{what} {_name(path)} is not a folder", state=NOTHING)
    return real


def _check_apart(places: Places) -> None:
    """Source and target must not contain each other, not even through a bind mount."""
    source, target = places.source, places.target
    same = "source and target are the same folder"
    if source == target or _identity(source) == _identity(target):
        raise BadUsage(same, state=NOTHING)
    if target.is_relative_to(source) or _identity(source) in map(_identity, target.parents):
        raise BadUsage(f"target {_name(target)} lies inside source {_name(source)}", state=NOTHING)
    if source.is_relative_to(target) or _identity(target) in map(_identity, source.parents):
        raise BadUsage(f"source {_name(source)} lies inside target {_name(target)}", state=NOTHING)


def _identity(path: Path) -> tuple[int, int] | Path:
    try:
        info = path.stat()
    except OSError:
        return path
    return info.st_dev, info.st_ino


@contextmanager
def open_folder(path: Path, what: str) -> Iterator[int]:
    """Descriptor of a folder that exists. Raises ``Failed``."""
    try:
        descriptor = os.open(path, _FOLDER_FLAGS)
    except OSError as error:
        raise Failed(f"{what} {_name(path)} cannot be read: {reason(error)}", state=NOTHING) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_target(root: int, below: tuple[str, ...], *, make: bool) -> int | None:
    """Descriptor of the target folder, each part opened below the one above it; no symbolic link is followed.

    With ``make``, missing folders are made (mode 0777 less the umask); otherwise a missing one gives None.

    Raises:
        Refused: a part is not a folder, or another filesystem is mounted on the way.
        OSError: it cannot be opened or made.
    """
    device = os.fstat(root).st_dev
    descriptor = os.dup(root)
    for name in below:
        try:
            try:
                inner = os.open(name, _FOLDER_FLAGS, dir_fd=descriptor)
            except FileNotFoundError:
                if not make:
                    return None
                os.mkdir(name, dir_fd=descriptor)
                inner = os.open(name, _FOLDER_FLAGS, dir_fd=descriptor)
        except (NotADirectoryError, FileExistsError) as error:
            raise Refused(f"{shown(name)} on the way to the target is not a folder", state=NOTHING) from error
        finally:
            os.close(descriptor)
        descriptor = inner
        if os.fstat(descriptor).st_dev != device:
            os.close(descriptor)
            raise Refused(f"another filesystem is mounted at {shown(name)} on the way to the target", state=NOTHING)
    return descriptor


def _name(path: Path) -> str:
    return shown(os.fspath(path))
