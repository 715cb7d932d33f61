"""A disk that the operating system shows: what is asked of it, and what there is then."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from portunix_vdisk.platform.kinds import FileSystemType, ImageType


@dataclass(frozen=True, slots=True)
class Partition:
    """Where the one partition lies on the guest-visible disk, in bytes."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """Which partition is to be shown as a block device, and how.

    ``live``: so that it can be exported while it is used; some types always are, and it costs some speed.
    ``secret``: the password of an encrypted partition, whose plain content is shown.
    ``rootless``: by programs of the person, who then mounts the filesystem ``fs`` by such a program. Where ``fs``
    is given, that is also done when root's rights cannot be had.
    """

    image: Path
    type: ImageType
    partition: Partition
    read_only: bool
    live: bool = False
    secret: bytes = field(default=b"", compare=False, repr=False)
    fs: FileSystemType | None = None
    rootless: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """An image that the operating system shows as a block device, perhaps mounted.

    ``problem`` is empty when everything is well; otherwise it says what is stale or dead, and only
    :meth:`Platform.repair` and detaching are allowed. ``server_pid`` is the process that reads the disk out of
    ``image``, for one attached with :meth:`Platform.attach_served`, whether it still lives or not; otherwise None.
    ``live``: what is written goes through a process that can keep the present content readable meanwhile.
    ``label``: which of several states of a file's disk is shown, see :meth:`Platform.attach_served`.
    ``rootless``: programs of the person show it, and ``device`` is a file. ``mapped``: what the disk's owner owns is
    shown as the caller's. ``not_yours``: why it is not, where :meth:`Platform.mount` was to do that and could not.
    """

    image: Path
    device: str
    read_only: bool
    mount_point: Path | None
    mount_point_made: bool
    daemon_pid: int | None
    problem: str = ""
    server_pid: int | None = None
    live: bool = False
    label: str = ""
    rootless: bool = False
    mapped: bool = False
    not_yours: str = ""
