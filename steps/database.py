"""A small SQLite database that several processes share and that no kill -9 may hurt.

Write-ahead log, so that readers never wait; ``synchronous=FULL``, so that what was committed survives a power cut; a
``user_version`` with migrations, so that every file says which program may read it.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.errors import Failed, Refused, VdiskError
from portunix_vdisk.steps.durable import fsync_folder

BUSY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Schema:
    """What a database holds and how it came to its present form.

    ``migrations[n]`` are the statements that lead from version ``n`` to ``n + 1``; all that are missing run in one
    transaction. ``application_id`` marks the file as ours (SQLite file format, offset 68).
    """

    noun: str
    """What a person calls it: "the catalog of disks"."""
    application_id: int
    migrations: tuple[tuple[str, ...], ...]
    remedy: str
    """What is lost, and what is not, when a damaged file is moved away."""

    @property
    def version(self) -> int:
        """The version that this program reads and writes."""
        return len(self.migrations)


class Database:
    """An open database; usable from several threads, and in a child process after a fork.

    A file that is missing is not made until :meth:`make` is called, and reads as empty. Every method raises

    * ``Refused`` for a newer program's file, another program's file, or one that is locked for more than ten seconds;
    * ``Failed`` for a file that is damaged or cannot be read or written.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self.schema = schema
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._empty: sqlite3.Connection | None = None
        self._inherited: list[sqlite3.Connection] = []
        with self.reading():
            pass  # whatever is wrong with the file shows now

    def make(self) -> None:
        """Make the file and its folders, if they are missing. Two processes may do this at the same time."""
        with self._lock, self._explained():
            if not self._exists():
                _make_file(self.path)
            self._open()

    def close(self) -> None:
        """Close it; everything was committed before. Using it again opens it again."""
        with self._lock, self._explained():
            for connection in (self._connection, self._empty):
                if connection is not None and self._process == os.getpid():
                    connection.close()
            self._connection = self._empty = None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, in autocommit mode: each SELECT sees what other processes have committed until then."""
        with self._lock, self._explained():
            yield self._open() if self._exists() else self._nothing()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction that holds the write lock: committed at the end, rolled back on any exception."""
        with self._lock, self._explained():
            if not self._exists():
                raise Failed(f"{self.schema.noun} {_text(self.path)} does not exist")
            with _immediate(self._open()) as connection:
                yield connection

    def damaged(self, details: str) -> Failed:
        """The error for a database that holds what it never should."""
        return Failed(
            f"{self.schema.noun} {_text(self.path)} is damaged: {details}",
            state=self.schema.remedy,
            hint=_move_away(self.path),
        )

    def _exists(self) -> bool:
        """An empty file, as a kill right after its creation leaves it, is as good as none."""
        if self._connection is not None:
            return True
        try:
            return self.path.stat().st_size > 0
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _open(self) -> sqlite3.Connection:
        if self._process != os.getpid():
            # SQLite forbids to use, and even to close, a connection that came through a fork.
            self._inherited += [connection for connection in (self._connection, self._empty) if connection]
            self._connection = self._empty = None
            self._process = os.getpid()
        if self._connection is None:
            connection = _connect(self.path)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _nothing(self) -> sqlite3.Connection:
        """What a missing database looks like."""
        if self._empty is None:
            self._empty = _connect(":memory:")
            self._migrate(self._empty)
        return self._empty

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # One snapshot, because another process may just be making the tables. Looking before switching to WAL leaves
        # a newer or another program's file exactly as it was.
        connection.execute("BEGIN")
        version = _pragma(connection, "user_version")
        application_id = _pragma(connection, "application_id")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        connection.execute("COMMIT")
        if (version or tables) and application_id != self.schema.application_id:
            raise self._foreign()
        if version > self.schema.version:
            raise Refused(
                f"{self.schema.noun} {_text(self.path)} was written by a newer version of this program "
                f"(format {version}; this program knows {self.schema.version})",
                state="nothing was changed",
                hint="use the newer version of portunix-vdisk",
            )
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous=FULL")
        if version < self.schema.version:
            self._migrate(connection)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        with _immediate(connection):
            version = _pragma(connection, "user_version")  # again: another process may have done it meanwhile
            if version >= self.schema.version:
                return
            for statements in self.schema.migrations[version:]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id={self.schema.application_id:d}")
            connection.execute(f"PRAGMA user_version={self.schema.version:d}")

    def _foreign(self) -> Refused:
        return Refused(
            f"{_text(self.path)} is the database of another program, not {self.schema.noun}",
            state="nothing was changed",
            hint=_move_away(self.path),
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's and the operating system's errors into messages for people."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise Failed(f"{self.schema.noun} {_text(self.path)} cannot be opened: {reason}") from error

    def _explain(self, error: sqlite3.Error) -> VdiskError:
        code = _primary_code(error)
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self.damaged(str(error))
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Refused(
                f"{self.schema.noun} {_text(self.path)} has been locked by another process for {BUSY_SECONDS:.0f} s",
                state="the last change was not recorded",
                hint="run the command again when the other one has finished",
            )
        reason = _REASONS.get(code, "")
        details = f"{reason} ({error})" if reason else str(error)
        return Failed(
            f"{self.schema.noun} {_text(self.path)}: {details}",
            state="the last change was not recorded; everything recorded before is kept",
        )


_REASONS = {
    sqlite3.SQLITE_FULL: "no space is left for it",
    sqlite3.SQLITE_READONLY: "it may not be written",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_PERM: "access is not permitted",
    sqlite3.SQLITE_IOERR: "reading or writing it failed",
}


@contextmanager
def _immediate(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        # After a full disk or an I/O error SQLite has rolled back by itself.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _make_file(path: Path) -> None:
    """Make an empty file, which is a valid empty database, with the right mode from the start."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, stat.S_IRUSR | stat.S_IWUSR)
    except FileExistsError:
        return  # another process was faster
    os.close(descriptor)
    fsync_folder(path.parent)


def _connect(database: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(database, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite doesn't wait for the locks that the switch takes, so two first openings must take turns."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.002)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code: the low byte of the extended one."""
    return int(getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _move_away(path: Path) -> str:
    name = _text(path)
    return f"move {name} away, with {name}-wal and {name}-shm where they exist"


def _text(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
