"""The catalog: which disks exist on this machine, where their images are, and what they were exported to.

A SQLite database that several processes use at once. The image files are the truth about content; losing the catalog
loses no data.
"""

from __future__ import annotations

import json
import os
from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import Connection
from types import TracebackType
from typing import Any, Self

from portunix_vdisk.platform.base import FileIdentity, FileSystemType, ImageType, Owner, Partition
from portunix_vdisk.platform.errors import BadUsage, NotFound, Refused
from portunix_vdisk.steps.catalog_schema import SCHEMA
from portunix_vdisk.steps.database import Database
from portunix_vdisk.steps.disk import Disk, DiskState, Export
from portunix_vdisk.steps.names import check_name

_DISK = (
    "uuid, name, path, type, size, file_system, state, created_at, partition_start, partition_length, owner_uid, "
    "owner_gid, partial_inode, archive_uuid, archive_root, archive_path, imported_identity, encrypted"
)


class Catalog:
    """An open catalog. A context manager; usable from several threads.

    Every method raises ``Refused`` when another process keeps the database locked for ten seconds, and ``Failed`` when
    it is damaged or cannot be read or written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: Path, create: bool) -> Self:
        """Open the catalog at ``path``.

        With ``create`` a missing one is made, with its folders. Without it nothing is created: a missing catalog looks
        empty until somebody makes it, and takes no changes. Raises ``Refused`` for the file of a newer version or of
        another program, ``Failed`` for a damaged one.
        """
        database = Database(path, SCHEMA)
        if create:
            database.make()
        return cls(database)

    def close(self) -> None:
        """Close the database; everything was committed before."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # disks ----------------------------------------------------------------------------------------------

    def declare(self, disk: Disk) -> None:
        """Enter a disk that is about to be created or imported.

        Raises ``Refused`` naming the disk that already has the name, the image file or the UUID; ``BadUsage`` for a
        name that no disk may have or a relative path.
        """
        check_name(disk.name)
        if not disk.path.is_absolute():
            raise BadUsage(f"the path of an image must be absolute, not {_text(disk.path)}")
        with self._database.transaction() as database:
            for disk_holding, what in (
                (self._one(database, "name", disk.name), f"the name '{disk.name}'"),
                (self._one(database, "path", os.fsencode(disk.path)), f"the image file {_text(disk.path)}"),
                (self._one(database, "uuid", disk.uuid), f"the UUID {disk.uuid}"),
            ):
                if disk_holding is not None:
                    raise Refused(
                        f"{what} is taken by the disk '{disk_holding.name}' "
                        f"({disk_holding.state}, {_text(disk_holding.path)})",
                        state="nothing was changed",
                        hint=f"choose another one, or see: portunix vdisk info {disk_holding.name}",
                    )
            row = _disk_to_row(disk)
            database.execute(f"INSERT INTO disks ({_DISK}) VALUES ({', '.join('?' * len(row))})", row)

    def get(self, name: str) -> Disk | None:
        """The disk of that name."""
        with self._database.reading() as database:
            return self._one(database, "name", name) if _is_text(name) else None

    def by_uuid(self, uuid: str) -> Disk | None:
        """The disk of that UUID."""
        with self._database.reading() as database:
            return self._one(database, "uuid", uuid) if _is_text(uuid) else None

    def by_path(self, path: Path) -> Disk | None:
        """The disk with exactly this absolute path of its image file; links are not resolved."""
        with self._database.reading() as database:
            return self._one(database, "path", os.fsencode(path))

    def all(self) -> list[Disk]:
        """Every disk, sorted by name."""
        with self._database.reading() as database:
            rows = database.execute(f"SELECT {_DISK} FROM disks ORDER BY name").fetchall()
            return [self._disk(row) for row in rows]

    def set_partial(self, uuid: str, partial_inode: tuple[int, int]) -> None:
        """Remember device and inode of the partial file that we made. Raises ``NotFound``."""
        self._update(uuid, "partial_inode = ?", json.dumps(partial_inode))

    def mark_ready(self, uuid: str, imported_identity: FileIdentity | None = None) -> None:
        """The image is whole and has its final name. Raises ``NotFound``."""
        identity = json.dumps(astuple(imported_identity)) if imported_identity else None
        # A repeated call without an identity keeps the one that is known.
        self._update(
            uuid,
            f"state = '{DiskState.READY}', partial_inode = NULL, imported_identity = coalesce(?, imported_identity)",
            identity,
        )

    def set_root(self, uuid: str, root: str) -> None:
        """What the content of an imported disk is called: its archive's root, or another word. Raises ``NotFound``."""
        self._update(uuid, "archive_root = ?", root)

    def set_encrypted(self, uuid: str) -> None:
        """The partition turned out to be encrypted. Raises ``NotFound``."""
        self._update(uuid, "encrypted = ?", "1")

    def set_size(self, uuid: str, size: int) -> None:
        """The disk has so many bytes now. Raises ``NotFound``."""
        self._update(uuid, "size = ?", str(size))

    def set_partition(self, uuid: str, partition: Partition) -> None:
        """The partition lies there now. Raises ``NotFound``."""
        with self._database.transaction() as database:
            row = (partition.start, partition.length, uuid)
            words = "UPDATE disks SET partition_start = ?, partition_length = ? WHERE uuid = ?"
            if not database.execute(words, row).rowcount:
                raise _unknown(uuid)

    def set_owner(self, uuid: str, owner: Owner) -> None:
        """The files of the disk's owner are another's now. Raises ``NotFound``."""
        self._update(uuid, "owner_uid = ?, owner_gid = ?", owner.uid, owner.gid)

    def set_image(self, uuid: str, path: Path, type: ImageType, imported_identity: FileIdentity | None) -> None:
        """From now on this file, of this type, is the image of a disk that is ready.

        Raises ``NotFound``, and ``Refused`` where it is another disk's.
        """
        identity = json.dumps(astuple(imported_identity)) if imported_identity else None
        with self._database.transaction() as database:
            other = self._one(database, "path", os.fsencode(path))
            if other is not None and other.uuid != uuid:
                raise Refused(f"{_text(path)} is the image of {other.name}", state="nothing was changed")
            row = (os.fsencode(path), type.value, identity, uuid)
            words = "UPDATE disks SET path = ?, type = ?, partial_inode = NULL, imported_identity = ? WHERE uuid = ?"
            if not database.execute(words, row).rowcount:
                raise _unknown(uuid)

    def remove(self, uuid: str) -> None:
        """Forget a disk and its exports; no file is touched. Forgetting what is unknown changes nothing."""
        with self._database.transaction() as database:
            database.execute("DELETE FROM disks WHERE uuid = ?", (uuid,))

    # exports --------------------------------------------------------------------------------------------

    def start_export(self, disk_uuid: str, output: Path) -> None:
        """An export to ``output`` begins or continues; it becomes the newest. Raises ``NotFound``.

        What is known about a former finished export to the same file stays: the file still has it.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._database.transaction() as database:
            former = _take_export(database, disk_uuid, output)
            root, finished = (former.root, former.finished_at) if former else (None, None)
            self._put_export(database, Export(disk_uuid, output, now, root, finished))

    def finish_export(self, disk_uuid: str, output: Path, root: str, finished_at: str) -> None:
        """An export to ``output`` is complete with this Merkle root; it becomes the newest. Raises ``NotFound``."""
        with self._database.transaction() as database:
            former = _take_export(database, disk_uuid, output)
            started = former.started_at if former else finished_at
            self._put_export(database, Export(disk_uuid, output, started, root, finished_at))

    def exports(self, disk_uuid: str) -> list[Export]:
        """Exports of a disk, the newest first."""
        with self._database.reading() as database:
            return _select_exports(database, "disk_uuid = ?", disk_uuid)

    def last_output(self, disk_uuid: str) -> Path | None:
        """Where the newest export went."""
        return next((export.output for export in self.exports(disk_uuid)), None)

    def forget_export(self, disk_uuid: str, output: Path) -> None:
        """Forget an export; no file is touched. Forgetting what is unknown changes nothing."""
        with self._database.transaction() as database:
            _take_export(database, disk_uuid, output)

    # below ----------------------------------------------------------------------------------------------

    def _one(self, database: Connection, column: str, value: str | bytes) -> Disk | None:
        row = database.execute(f"SELECT {_DISK} FROM disks WHERE {column} = ?", (value,)).fetchone()
        return self._disk(row) if row else None

    def _update(self, uuid: str, assignment: str, *values: str | int | None) -> None:
        with self._database.transaction() as database:
            if not database.execute(f"UPDATE disks SET {assignment} WHERE uuid = ?", (*values, uuid)).rowcount:
                raise _unknown(uuid)

    def _put_export(self, database: Connection, export: Export) -> None:
        if self._one(database, "uuid", export.disk_uuid) is None:
            raise _unknown(export.disk_uuid)
        database.execute(
            "INSERT INTO exports (disk_uuid, output, started_at, root, finished_at) VALUES (?, ?, ?, ?, ?)",
            (export.disk_uuid, os.fsencode(export.output), export.started_at, export.root, export.finished_at),
        )

    def _disk(self, row: tuple[Any, ...]) -> Disk:
        try:
            return _disk_from_row(row)
        except (ValueError, TypeError) as error:
            raise self._database.damaged(f"the disk '{row[1]}' has an impossible entry ({error})") from error


def _disk_to_row(disk: Disk) -> tuple[str | int | bytes | None, ...]:
    return (
        disk.uuid,
        disk.name,
        os.fsencode(disk.path),
        disk.type.value,
        disk.size,
        disk.file_system.value,
        disk.state.value,
        disk.created_at,
        disk.partition.start,
        disk.partition.length,
        disk.owner.uid,
        disk.owner.gid,
        json.dumps(disk.partial_inode) if disk.partial_inode else None,
        disk.archive_uuid,
        disk.archive_root,
        os.fsencode(disk.archive_path) if disk.archive_path else None,
        json.dumps(astuple(disk.imported_identity)) if disk.imported_identity else None,
        int(disk.encrypted),
    )


def _disk_from_row(row: tuple[Any, ...]) -> Disk:
    uuid, name, path, type_, size, file_system, state, created_at, start, length, uid, gid, partial, *imported = row
    archive_uuid, archive_root, archive_path, identity, encrypted = imported
    return Disk(
        name=name,
        uuid=uuid,
        path=_path(path),
        type=ImageType(type_),
        size=size,
        file_system=FileSystemType(file_system),
        state=DiskState(state),
        created_at=created_at,
        partition=Partition(start, length),
        owner=Owner(uid, gid),
        partial_inode=_inode(*json.loads(partial)) if partial else None,
        archive_uuid=archive_uuid,
        archive_root=archive_root,
        archive_path=_path(archive_path) if archive_path else None,
        imported_identity=FileIdentity(*json.loads(identity)) if identity else None,
        encrypted=encrypted == 1,
    )


def _select_exports(database: Connection, condition: str, *values: str | bytes) -> list[Export]:
    rows = database.execute(
        f"SELECT disk_uuid, output, started_at, root, finished_at FROM exports WHERE {condition} "
        "ORDER BY sequence DESC",
        values,
    )
    return [Export(uuid, _path(output), started, root, done) for uuid, output, started, root, done in rows]


def _take_export(database: Connection, disk_uuid: str, output: Path) -> Export | None:
    """Remove one export and return it."""
    if not output.is_absolute():
        raise BadUsage(f"the path of an archive must be absolute, not {_text(output)}")
    key = (disk_uuid, os.fsencode(output))
    found = _select_exports(database, "disk_uuid = ? AND output = ?", *key)
    database.execute("DELETE FROM exports WHERE disk_uuid = ? AND output = ?", key)
    return found[0] if found else None


def _inode(device: int, inode: int) -> tuple[int, int]:
    return device, inode


def _path(stored: bytes) -> Path:
    return Path(os.fsdecode(stored))


def _text(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_text(name: str) -> bool:
    """False for what came from bytes that are not UTF-8: nothing in the catalog is called so."""
    return name.isprintable()


def _unknown(uuid: str) -> NotFound:
    return NotFound(f"the catalog has no disk with the UUID {uuid}", state="nothing was changed")
