"""Both trees on real filesystems, as the planner sees them: read folder by folder, nothing is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from portunix_vdisk.steps.step import Context
from portunix_vdisk.steps.sync.content import READ_FLAGS, equal_content
from portunix_vdisk.steps.sync.place import Places
from portunix_vdisk.steps.sync.plan import Record
from portunix_vdisk.steps.sync.pulse import Pulse
from portunix_vdisk.steps.sync.record import FOLDER_NAME, SyncRecord
from portunix_vdisk.steps.sync.scan import FILE, Descent, Listing, entry_of, open_quietly, read_folder, reason, shown

OF_THE_DISK = (FOLDER_NAME, "lost+found")
"""Names at the root of a disk that are never part of a sync."""


class ScannedTrees:
    """Implements :class:`portunix_vdisk.steps.sync.plan.Trees`.

    Args:
        source: descriptor of the source's top folder.
        target: descriptor of the target's top folder, None if it does not exist.
        device: filesystem of the target.
    """

    def __init__(
        self, ctx: Context, places: Places, source: int, target: int | None, device: int, record: SyncRecord
    ) -> None:
        self._ctx = ctx
        self._pulse = Pulse(ctx)
        self._source = Descent(source)
        self._target = Descent(target, device) if target is not None else None
        self._at_root = not places.below
        self._prefix = places.prefix
        self._record = None if record.empty else record
        self._intended = record.has_intentions
        self._unfinished: set[tuple[bytes, bytes]] = set()

    def close(self) -> None:
        """Close what was opened."""
        self._source.close()
        if self._target is not None:
            self._target.close()

    def hide_unfinished(self) -> None:
        """Don't show temporaries of a killed run; for when they may not be removed."""
        if self._record is not None:
            self._unfinished = {
                (state.folder, state.temporary) for state in self._record.intentions() if state.temporary
            }

    def source(self, folder: str) -> Listing:
        """The source's entries in a folder; at the root of a disk without what belongs to the disk."""
        self._pulse.beat()
        try:
            descriptor = self._source.open(folder)
            listing = read_folder(descriptor, self._pulse.beat)
            ours = [name for name in OF_THE_DISK if name in listing.entries or name in listing.problems]
            if not ours:
                return listing
            if os.stat("..", dir_fd=descriptor).st_dev == os.fstat(descriptor).st_dev:
                if folder or not self._at_root:
                    return listing
                self._ctx.warn(f"not synced: {', '.join(map(shown, ours))}, whose place on the disk is taken")
        except OSError as error:
            return Listing(failure=reason(error))
        return _without(listing, ours)

    def target(self, folder: str) -> Listing:
        """The target's entries in a folder."""
        self._pulse.beat()
        if self._target is None:
            return Listing()
        try:
            listing = read_folder(self._target.open(folder), self._pulse.beat)
        except OSError as error:
            return Listing(failure=reason(error))
        if self._at_root and not folder:
            listing = _without(listing, OF_THE_DISK)
        if self._unfinished:
            key = self._key(folder)
            listing = _without(listing, [n for n in listing.entries if (key, os.fsencode(n)) in self._unfinished])
        return listing

    def records(self, folder: str) -> Mapping[str, Sequence[Record]]:
        """The recorded states in a folder."""
        return {} if self._record is None else self._record.states(self._key(folder), intended=self._intended)

    def same_content(self, path: str) -> bool:
        """Whether both files have equal content; what cannot be read is not equal."""
        folder, _, name = path.rpartition("/")
        opened: list[int] = []
        try:
            for descent in (self._source, self._target):
                if descent is not None:
                    opened.append(open_quietly(name, READ_FLAGS, descent.open(folder)))
            infos = [entry_of(os.fstat(descriptor)) for descriptor in opened]
            if [info.kind for info in infos] != [FILE, FILE] or infos[0].size != infos[1].size:
                return False
            return equal_content(opened[0], opened[1], infos[0].size, self._pulse.beat)
        except OSError:
            return False
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _key(self, folder: str) -> bytes:
        inner = os.fsencode(folder)
        return b"/".join((self._prefix, inner)) if self._prefix and inner else self._prefix or inner


def _without(listing: Listing, names: Sequence[str]) -> Listing:
    return Listing(
        {name: entry for name, entry in listing.entries.items() if name not in names},
        {name: problem for name, problem in listing.problems.items() if name not in names},
        listing.failure,
    )
