"""What of an archive tells, before any password, whether it needs one."""

from __future__ import annotations

from pathlib import Path

from portunix_vdisk.platform.errors import Corrupt, Failed, NotFound
from portunix_vdisk.steps.archive.directory import last_whole_directory
from portunix_vdisk.steps.archive.documents import Header, parse_object
from portunix_vdisk.steps.archive.keys import KeySlot
from portunix_vdisk.steps.archive.layout import NewerVersion, NotAnArchive
from portunix_vdisk.steps.archive.members import check_payload, read_first, read_key_slot, read_member
from portunix_vdisk.steps.archive.rebuild import walk
from portunix_vdisk.steps.archive.storage import ArchiveFile, whole_path


def read_header(path: Path) -> Header:
    """The first document of an archive, finished or not.

    Raises ``NotFound``, ``NotAnArchive``, ``Corrupt``, ``Failed``.
    """
    try:
        with ArchiveFile(whole_path(path)) as file:
            return read_first(file)[1]
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except (NotAnArchive, NewerVersion, Corrupt) as error:
        raise type(error)(f"{path}: {error.what}", error.state, error.hint) from error
    except OSError as error:
        raise Failed(f"cannot read {path}: {error.strerror}") from error


def read_lock(path: Path) -> KeySlot:
    """The key slot of an encrypted archive, finished or not. Raises ``Corrupt``, ``Failed``."""
    try:
        with ArchiveFile(whole_path(path)) as file:
            try:
                return read_key_slot(file, last_whole_directory(file))
            except Corrupt:
                # Unfinished, or the directory is damaged: the last keys hold. Former ones were overwritten.
                keys = [(name, entry) for name, entry in walk(file) if name.startswith("keys-")]
                if not keys:
                    raise
                name, entry = keys[-1]
                record, payload = read_member(file, entry.offset, name)
                check_payload(record, payload)
                return KeySlot.parse(parse_object(payload, "the archive's key slot"))
    except OSError as error:
        raise Failed(f"cannot read {path}: {error.strerror}") from error
