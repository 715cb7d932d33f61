"""What a storage daemon does so that a disk can be read as it was at one moment, while it is written.

A filter of QEMU (``copy-before-write``) comes between the partition and the disk. Before something is overwritten for
the first time, it copies the old content into another file, the fleece; ``snapshot-access`` shows what was there: from
the fleece what was overwritten, from the disk all else. The disk itself always has the newest state, so that a crash
costs the snapshot and nothing else; and where the fleece cannot take a copy, the snapshot breaks, not the write.

Source: QEMU 7.2, qapi/block-core.json and docs/interop/live-block-operations.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.base import Partition
from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.platform.linux.storage_daemon import DISK, PARTITION
from portunix_vdisk.platform.qmp import Declined, Json, QmpClient

EXPORT: Final = "snapshot"
"""Name of the NBD export."""
_FILTER, _SNAPSHOT = "filter", "snapshot"
_FLEECE, _LIMITED, _FILE = "fleece", "fleece-limited", "fleece-file"
_LONGEST_COPY: Final = 10
"""Seconds that a write may be held up by the copy of what was there; then the snapshot breaks."""
_PATIENCE: Final = 10.0


class Fleecing:
    """A conversation with the daemon of one disk about its snapshot.

    Every method raises ``Failed``; what was begun is taken back by :meth:`dissolve`.
    """

    def __init__(self, monitor: QmpClient, partition: Partition) -> None:
        self._monitor = monitor
        self._partition = partition

    def prepare(self, fleece: Path, *, size: int, limit: int) -> None:
        """Open the QCOW2 file that takes the old content of a disk of ``size`` bytes.

        It may take ``limit`` bytes on the host, which has to be its length: the image, too, needs room to grow. It
        never has to survive anything, so writers need not wait until it is on stable storage.
        """
        cache = {"cache": {"no-flush": True}}
        self._add("file", _FILE, {"filename": str(fleece), "locking": "off", **cache})
        self._add("raw", _LIMITED, {"file": _FILE, "size": limit, **cache})
        self._add("qcow2", _FLEECE, {"file": _LIMITED, "backing": None, **cache})
        found = self._nodes()[_FLEECE]
        image = found.get("image")
        if not isinstance(image, dict) or image.get("virtual-size") != size:
            raise Failed("the storage daemon opened another file than it was asked to")

    def begin(self) -> None:
        """From now on the content of this moment is kept."""
        on_error = {"on-cbw-error": "break-snapshot", "cbw-timeout": _LONGEST_COPY}
        self._add("copy-before-write", _FILTER, {"file": DISK, "target": _FLEECE, **on_error})
        self._write_through(_FILTER)
        self._add("snapshot-access", _SNAPSHOT, {"file": _FILTER, "read-only": True})

    def show(self, socket: Path) -> None:
        """Offer it by NBD at a Unix socket."""
        self._monitor.execute("nbd-server-start", {"addr": {"type": "unix", "data": {"path": str(socket)}}})
        export = {"type": "nbd", "id": EXPORT, "name": EXPORT, "node-name": _SNAPSHOT, "writable": False}
        self._monitor.execute("block-export-add", export)

    def dissolve(self) -> None:
        """Take away whatever of it there is, also what another process began. The disk stays as it is now."""
        deadline = time.monotonic() + _PATIENCE
        while any(found.get("id") == EXPORT for found in self._listed("query-block-exports")):
            with suppress(Declined):  # it is going already
                self._monitor.execute("block-export-del", {"id": EXPORT, "mode": "hard"})
            if time.monotonic() > deadline:
                raise Failed("the storage daemon does not let go of a snapshot")
            time.sleep(0.005)
        with suppress(Declined):  # there is none
            self._monitor.execute("nbd-server-stop")
        nodes = self._nodes()
        self._remove([_SNAPSHOT], nodes)
        if _FILTER in nodes:
            self._write_through(DISK)
        self._remove([_FILTER, _FLEECE, _LIMITED, _FILE], nodes)

    def _write_through(self, node: str) -> None:
        place = {"offset": self._partition.start, "size": self._partition.length}
        options = {"driver": "raw", "node-name": PARTITION, "file": node, "read-only": False, "discard": "unmap"}
        self._monitor.execute("blockdev-reopen", {"options": [{**options, **place}]})

    def _add(self, driver: str, name: str, options: Json) -> None:
        self._monitor.execute("blockdev-add", {"driver": driver, "node-name": name, **options})

    def _remove(self, names: Iterable[str], nodes: Iterable[str]) -> None:
        for name in names:
            if name in nodes:
                self._monitor.execute("blockdev-del", {"node-name": name})

    def _nodes(self) -> dict[str, Json]:
        found = self._listed("query-named-block-nodes", {"flat": True})
        return {str(node.get("node-name")): node for node in found}

    def _listed(self, query: str, arguments: Json | None = None) -> list[Json]:
        found = self._monitor.execute(query, arguments)
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise Failed("the storage daemon's monitor sent an answer that makes no sense")
        return found
