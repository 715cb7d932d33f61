"""What we left in the target, kept on the disk itself so that it travels with the disk and its snapshots.

A SQLite database ``.vdisk/sync.db`` at the disk's root, ``user_version`` 1. Paths are bytes relative to the root,
split into folder and name. ``synced`` holds confirmed states: they were on stable storage when they were written
down. ``intended`` holds what a run is about to make, written before the first byte, so that a killed run leaves
nothing that looks like somebody else's; ``temporary`` is the name under which a file is written until it is whole.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from portunix_vdisk.platform.errors import Failed, Interrupted, Refused, VdiskError
from portunix_vdisk.steps.sync.plan import Record

FOLDER_NAME = ".vdisk"
FILE_NAME = "sync.db"
TEMPORARY_MARK = b".vdisk-sync-"
"""In every temporary name, so that a foreign record cannot make us remove other files."""
VERSION = 1
_APPLICATION = 0x76647379  # "vdsy"

# STRICT: the check at opening then covers the types, too.
_STATE = (
    "folder BLOB NOT NULL, name BLOB NOT NULL, kind INT NOT NULL, size INT NOT NULL, mtime_ns INT NOT NULL, link BLOB"
)
_SCHEMA = {
    "synced": f"CREATE TABLE synced ({_STATE}, PRIMARY KEY (folder, name)) STRICT, WITHOUT ROWID",
    "intended": f"CREATE TABLE intended ({_STATE}, temporary BLOB, PRIMARY KEY (folder, name)) STRICT, WITHOUT ROWID",
}
SIDES = ("", "-journal", "-wal", "-shm")
_OPCODES_PER_PAUSE = 100_000
_ENCODING = sys.getfilesystemencoding()


class Damaged(Exception):
    """The database is there and is not what we wrote."""


class State(NamedTuple):
    """A state of one target path; ``folder``, ``name``, ``link`` and ``temporary`` are bytes as the kernel has them."""

    folder: bytes
    name: bytes
    kind: int
    size: int
    mtime_ns: int
    link: bytes | None = None
    temporary: bytes | None = None


class SyncRecord:
    """The open database. Every method raises ``VdiskError`` subclasses, the constructor also :class:`Damaged`.

    Args:
        folder: the ``.vdisk`` folder, which must exist, be a real folder and stay ours during the run.

    A missing database reads as empty until :meth:`create` makes it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._connection: sqlite3.Connection | None = None
        if folder.is_symlink():
            raise Refused(f"{folder} is a symbolic link", state="nothing was written", hint="move it away")
        for side in SIDES:
            try:
                mode = os.lstat(f"{os.fspath(self.path)}{side}").st_mode
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Failed(f"{self.path} cannot be read: {error.strerror}") from error
            if not stat.S_ISREG(mode):
                raise Damaged(f"{self.path.name}{side} is not a regular file")
        if self.path.exists():
            self._open()

    def create(self) -> None:
        """Make the database if there is none."""
        if self._connection is None:
            self._open()

    def _open(self) -> None:
        try:
            self._connection = connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            # The disk may come from anybody: nothing in its database may do more than hold rows.
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute("PRAGMA cache_size=-16000")
            connection.execute("PRAGMA journal_mode=TRUNCATE")
            self._check(connection)
        except sqlite3.Error as error:
            self.close()
            if _primary(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise Damaged(str(error)) from error
            raise _explained(error, self.path) from error
        except BaseException:
            self.close()
            raise

    def _check(self, connection: sqlite3.Connection) -> None:
        found = dict(connection.execute("SELECT name, sql FROM sqlite_master").fetchall())
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if not found and not version:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.values():
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={_APPLICATION}")
            connection.execute(f"PRAGMA user_version={VERSION}")
            connection.execute("COMMIT")
            return
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application == _APPLICATION and version > VERSION:
            raise Refused(
                f"the sync record {self.path} was written by a newer version of this program",
                state="nothing was written",
                hint="update portunix-vdisk",
            )
        if application != _APPLICATION or version != VERSION or found != _SCHEMA:
            raise Damaged("it is not a sync record")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise Damaged(str(verdict))

    @property
    def empty(self) -> bool:
        """Whether nothing is recorded."""
        return not self._rows("SELECT 1 FROM synced LIMIT 1") and not self.has_intentions

    @property
    def has_intentions(self) -> bool:
        """Whether an earlier run did not come to its end."""
        return bool(self._rows("SELECT 1 FROM intended LIMIT 1"))

    def states(self, folder: bytes, *, intended: bool) -> dict[str, list[Record]]:
        """The accepted states of the names in a folder; ``intended``: also those that a killed run was to make."""
        found: dict[str, list[Record]] = {}
        for table in _SCHEMA if intended else ("synced",):
            query = f"SELECT name, kind, size, mtime_ns, link FROM {table} WHERE folder=?"
            confirmed = table == "synced"
            for name, kind, size, mtime_ns, link in self._rows(query, (folder,)):
                text = name.decode(_ENCODING, "surrogateescape")  # os.fsdecode without its cost for each name
                record = Record(kind, size, mtime_ns, os.fsdecode(link) if link else "", confirmed)
                if text in found:
                    found[text].append(record)
                else:
                    found[text] = [record]
        return found

    def intentions(self) -> Iterator[State]:
        """What runs before this one were about to make, folder by folder."""
        query = "SELECT folder, name, kind, size, mtime_ns, link, temporary FROM intended ORDER BY folder, name"
        if self._connection is None:
            return
        try:
            for row in self._connection.execute(query):
                yield State(*row)
        except sqlite3.Error as error:
            raise _explained(error, self.path) from error

    def intend(self, states: Iterable[State]) -> None:
        """Write down, durably, what is going to be made."""
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO intended VALUES (?,?,?,?,?,?,?)", states)

    def confirm(
        self,
        *,
        given_up: Iterable[tuple[bytes, bytes]] = (),
        forgotten: Iterable[tuple[bytes, bytes]] = (),
        adopted: Iterable[State] = (),
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        """In one transaction: drop intentions that came to nothing, and make the rest the accepted states.

        Only to be called when the target is on stable storage. Raises what ``pause`` raises; then nothing has changed.
        """
        stopped: list[VdiskError] = []

        def poll() -> int:
            try:
                pause()
            except Interrupted as error:
                stopped.append(error)
            return len(stopped)

        if self._connection is not None:
            self._connection.set_progress_handler(poll, _OPCODES_PER_PAUSE)
        try:
            with self._transaction() as connection:
                connection.executemany("DELETE FROM intended WHERE folder=? AND name=?", given_up)
                connection.executemany("DELETE FROM synced WHERE folder=? AND name=?", forgotten)
                connection.execute(
                    "INSERT OR REPLACE INTO synced SELECT folder, name, kind, size, mtime_ns, link FROM intended"
                )
                connection.execute("DELETE FROM intended")
                rows = (state[:6] for state in adopted)
                connection.executemany("INSERT OR REPLACE INTO synced VALUES (?,?,?,?,?,?)", rows)
        except VdiskError:
            if stopped:
                raise stopped[0] from None
            raise
        finally:
            if self._connection is not None:
                self._connection.set_progress_handler(None, 0)

    def close(self) -> None:
        """Close the database."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _rows(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        if self._connection is None:
            return []
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _explained(error, self.path) from error

    def _transaction(self) -> _Transaction:
        if self._connection is None:
            raise Failed(f"the sync record {self.path} is not open for writing")
        return _Transaction(self._connection, self.path)


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT, rolled back on any exception."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def __enter__(self) -> sqlite3.Connection:
        self._run("BEGIN IMMEDIATE")
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._run("COMMIT")
            return
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise _explained(error, self._path) from error

    def _run(self, statement: str) -> None:
        try:
            self._connection.execute(statement)
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise _explained(error, self._path) from error


def _primary(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _explained(error: sqlite3.Error, path: Path) -> VdiskError:
    code = _primary(error)
    if code == sqlite3.SQLITE_FULL:
        return Failed(
            "the target disk is full",
            state="what was copied so far is kept; no file is half written",
            hint="free some space on the disk, then run the same command again: it continues",
        )
    if code == sqlite3.SQLITE_READONLY:
        return Refused(f"the sync record {path} cannot be written: it is read-only", state="nothing was written")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Refused(f"the sync record {path} is in use by another program", hint="try again when it is done")
    return Failed(
        f"the sync record {path} cannot be used: {error}",
        state="what was copied so far is kept",
        hint="run the same command again",
    )
