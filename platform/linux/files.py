"""The part of the platform protocol that is about files: images, overlays, and filesystems made in files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from portunix_vdisk.platform.base import (
    Attachment,
    BlockImage,
    FileSystemType,
    ForeignType,
    ImageMap,
    ImageType,
    OverlayMap,
    Owner,
)
from portunix_vdisk.platform.commands import display
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.platform.linux import filesystems, foreign, images, luks, overlays
from portunix_vdisk.platform.linux.this_host import ThisHost


class Images(ThisHost, ABC):
    """Image files; see :class:`Platform`."""

    @abstractmethod
    def attachment(self, image: Path) -> Attachment | None:
        """See :class:`Platform`."""

    # images -------------------------------------------------------------------------------------------

    def create_image(self, path: Path, type: ImageType, size: int) -> None:
        """See :class:`Platform`."""
        self._refuse_attached(path)
        images.create_image(self._commands, path, type, size)

    def map_image(self, path: Path, type: ImageType) -> ImageMap:
        """See :class:`Platform`."""
        return images.map_image(self._commands, path, type)

    def open_image(self, path: Path, type: ImageType, *, writable: bool) -> AbstractContextManager[BlockImage]:
        """See :class:`Platform`."""
        if writable:
            self._refuse_attached(path)
        return images.open_image(self._commands, path, type, writable=writable)

    def open_foreign(
        self, path: Path, type: ForeignType, *, below: Sequence[tuple[Path, ImageType]] = ()
    ) -> AbstractContextManager[BlockImage]:
        """See :class:`Platform`."""
        return foreign.open_foreign(self._commands, path, type, below)

    def foreign_server(self, path: Path, type: ForeignType) -> Sequence[str]:
        """See :class:`Platform`."""
        return foreign.server_of(path, type)

    def peek(self, path: Path, type: ImageType, offset: int, length: int) -> bytes:
        """See :class:`Platform`."""
        return luks.peek(self._commands, path, type, offset, length)

    def check_image(self, path: Path, type: ImageType) -> None:
        """See :class:`Platform`."""
        images.check_image(self._commands, path, type)

    def make_overlay(self, overlay: Path, size: int) -> None:
        """See :class:`Platform`."""
        overlays.make_overlay(self._commands, overlay, size)

    def map_overlay(self, overlay: Path) -> OverlayMap:
        """See :class:`Platform`."""
        return overlays.map_overlay(self._commands, overlay)

    def _refuse_attached(self, path: Path) -> None:
        found = self.attachment(path)
        if found is not None:
            raise Refused(
                f"{display(str(path))} is attached as {found.device or 'a block device'}",
                state="nothing was changed",
                hint="unmount the disk first",
            )

    # filesystems --------------------------------------------------------------------------------------

    def make_filesystem(
        self, path: Path, fs: FileSystemType, *, label: str, uuid: str, owner: Owner, start: int = 0
    ) -> None:
        """See :class:`Platform`."""
        filesystems.make_filesystem(self._commands, path, fs, label=label, uuid=uuid, owner=owner, start=start)
