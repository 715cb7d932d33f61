"""The tables of the catalog, and how those of older versions become these."""

from __future__ import annotations

from portunix_vdisk.steps.database import Schema

# Paths are blobs, because file names need not be UTF-8. Inode numbers use all 64 bits on some filesystems and SQLite's
# integers are signed, so identities are JSON texts.
SCHEMA = Schema(
    noun="the catalog of disks",
    application_id=0x7076_6463,  # "pvdc"
    migrations=(
        (
            """
            CREATE TABLE disks (
                uuid TEXT PRIMARY KEY NOT NULL,
                name TEXT NOT NULL UNIQUE,
                path BLOB NOT NULL UNIQUE,
                type TEXT NOT NULL,
                size INTEGER NOT NULL,
                file_system TEXT NOT NULL,
                state TEXT NOT NULL,
                created_at TEXT NOT NULL,
                partition_start INTEGER NOT NULL,
                partition_length INTEGER NOT NULL,
                owner_uid INTEGER NOT NULL,
                owner_gid INTEGER NOT NULL,
                partial_inode TEXT,
                archive_uuid TEXT,
                archive_root TEXT,
                archive_path BLOB,
                imported_identity TEXT
            ) STRICT
            """,
            """
            CREATE TABLE exports (
                sequence INTEGER PRIMARY KEY,
                disk_uuid TEXT NOT NULL REFERENCES disks (uuid) ON DELETE CASCADE,
                output BLOB NOT NULL,
                started_at TEXT NOT NULL,
                root TEXT,
                finished_at TEXT,
                UNIQUE (disk_uuid, output)
            ) STRICT
            """,
        ),
        ("ALTER TABLE disks ADD COLUMN encrypted INTEGER NOT NULL DEFAULT 0",),
    ),
    remedy="disk images, archives and snapshots are untouched; without the catalog only the names are forgotten, "
    "and every image can be registered again",
)
