"""Names and sizes of archive version 2; the full description is in ``FORMAT.md`` beside this file."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final

from portunix_vdisk.platform.errors import Refused

FORMAT: Final = "portunix-vdisk-archive"
VERSION: Final = 2
"""Version 1 had other digests and was never released."""
CHUNK_SIZE: Final = 4 << 20

HEADER_NAME: Final = "portunix-vdisk.json"
RECOVER_NAME: Final = "RECOVER.txt"

MAX_DISK_SIZE: Final = 64 << 40
MAX_CHUNKS: Final = 1 << 20
"""Stored chunks of one generation: 4 TiB of data that isn't zero."""
MAX_MEMBERS: Final = MAX_CHUNKS + 4096
MAX_NAME: Final = 64
MIN_VOLUME: Final = 1 << 20
MAX_NUMBER: Final = 0xFFFF
"""Highest number of a session, a generation, a set of keys."""
MAX_DOCUMENT: Final = 64 << 10
"""Plain size of every document but the index."""
MAX_INDEX: Final = 256 << 20
"""Plain size of the index; half of it at most when stored."""
SEALED_EXTRA: Final = 61
"""What sealing adds to a payload: the inner header and the tag."""


class NotAnArchive(Refused):
    """The file is no archive of this program."""


class NewerVersion(Refused):
    """The archive was written by a newer version of this program."""


class Kind(IntEnum):
    """What a record of the archive file is."""

    DOCUMENT = 0
    ZSTD = 1
    """A chunk as one zstd frame."""
    RAW = 2
    """A chunk as it is."""
    PATCH = 3
    """A chunk as changed blocks against a former chunk, in one zstd frame."""
    SAME = 4
    """No payload: this chunk equals an earlier one (same digest). Not in the directory."""
    ZERO = 5
    """No payload: this chunk was read and is all zeros. Not in the directory."""
    SEALED = 6
    """Any of the others, encrypted."""


_NUMBER = "[1-9][0-9]{0,4}"
MEMBER = re.compile(
    r"portunix-vdisk\.json|RECOVER\.txt"
    rf"|session-(?P<session>{_NUMBER})\.json"
    rf"|keys-(?P<keys>{_NUMBER})\.json"
    rf"|next-(?P<next>{_NUMBER})\.json"
    rf"|index-(?P<index>{_NUMBER})(\.json\.zst|-(?P<indexer>{_NUMBER})-(?P<place>[0-9a-f]{{8}})\.sealed)"
    rf"|chunks/(?P<generation>{_NUMBER})-(?P<offset>[0-9a-f]{{12,16}})(-{_NUMBER})?"
    r"\.(?P<kind>zst|raw|patch\.zst|same|zero)"
    rf"|sealed/(?P<sealer>{_NUMBER})-(?P<number>[0-9a-f]{{8}})",
    re.ASCII,
)
"""The only names that a member may have; with it no name can leave the folder that an archive is unpacked in."""

SUFFIX: Final = {Kind.ZSTD: "zst", Kind.RAW: "raw", Kind.PATCH: "patch.zst", Kind.SAME: "same", Kind.ZERO: "zero"}


def session_name(number: int) -> str:
    """Member name of a session document."""
    return f"session-{number}.json"


def keys_name(number: int) -> str:
    """Member name of a set of keys; the highest number holds."""
    return f"keys-{number}.json"


def next_name(generation: int) -> str:
    """Name of the record that begins an update."""
    return f"next-{generation}.json"


def index_name(generation: int) -> str:
    """Member name of the index of a generation."""
    return f"index-{generation}.json.zst"


def sealed_name(session: int, number: int, generation: int = 0) -> str:
    """Member name of what is encrypted under this number of this session; with a ``generation`` that one's index."""
    return f"index-{generation}-{session}-{number:08x}.sealed" if generation else f"sealed/{session}-{number:08x}"


def chunk_name(kind: Kind, generation: int, offset: int, again: int = 0) -> str:
    """Member name of a chunk; ``again`` is the session that stored another state of a chunk already stored."""
    tail = f"-{again}" if again else ""
    return f"chunks/{generation}-{offset:012x}{tail}.{SUFFIX[kind]}"


def kind_of(name: str) -> Kind:
    """The kind of the member of this name, which must be valid."""
    match = MEMBER.fullmatch(name)
    assert match is not None
    if match["kind"]:
        return next(kind for kind, suffix in SUFFIX.items() if suffix == match["kind"])
    return Kind.SEALED if match["sealer"] or name.endswith(".sealed") else Kind.DOCUMENT


def stored_sane(kind: Kind, length: int, stored: int) -> bool:
    """Whether a chunk of ``length`` bytes can take ``stored`` bytes in the archive."""
    match kind:
        case Kind.ZSTD | Kind.PATCH:
            return 0 < stored < length
        case Kind.RAW:
            return stored == length
        case Kind.SEALED:
            return SEALED_EXTRA <= stored <= length + SEALED_EXTRA
        case _:
            return stored == 0


def chunk_length(offset: int, disk_size: int) -> int:
    """Length of the chunk at ``offset``: the last one of a disk may be short."""
    return min(CHUNK_SIZE, disk_size - offset)


def chunk_count(disk_size: int) -> int:
    """Chunks that a disk is divided into."""
    return -(-disk_size // CHUNK_SIZE)


def range_count(disk_size: int) -> int:
    """Into how many ranges the work on a disk is divided: at most 64, none below 64 MiB but the only one."""
    return max(1, min(64, chunk_count(disk_size) // 16))


def range_of(index: int, count: int, disk_size: int) -> tuple[int, int]:
    """First byte and end of a range; borders lie on chunks."""
    chunks = chunk_count(disk_size)
    start, end = chunks * index // count, chunks * (index + 1) // count
    return start * CHUNK_SIZE, min(end * CHUNK_SIZE, disk_size)
