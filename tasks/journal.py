"""The journal: which tasks are done, committed after every task.

A backend of doit 0.37 (its documentation, "Plugins", category BACKEND). doit's own backends write when the run ends, so
a kill loses every finished task; this one commits as soon as a task's success is complete, in a database that several
runs share. ``doit.dependency.Dependency.save_success`` sets the key ``deps:`` last, ``ignore`` sets only ``ignore:``:
these two keys end a task's record.

Nothing is cached: a run that waited for another one's lock must see what that one did. A read costs some ten
microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from doit.dependency import DatabaseException
from doit.exceptions import InvalidCommand

from portunix_vdisk.platform.errors import VdiskError
from portunix_vdisk.steps.database import Database, Schema

# Names and values are blobs, because names of files need not be UTF-8.
SCHEMA = Schema(
    noun="the journal of finished tasks",
    application_id=0x7076_646A,  # "pvdj"
    migrations=(
        (
            """
            CREATE TABLE facts (
                task BLOB NOT NULL,
                key BLOB NOT NULL,
                value BLOB NOT NULL,
                PRIMARY KEY (task, key)
            ) STRICT, WITHOUT ROWID
            """,
        ),
    ),
    remedy="no disk, archive or snapshot is affected: deleting the journal costs time, never data",
)

_LAST_KEYS = frozenset({"deps:", "ignore:"})


class Codec(Protocol):
    """How doit wants values to be written."""

    def encode(self, data: Any) -> str:
        """Text of a value."""

    def decode(self, data: str) -> Any:
        """Value of a text; raises ``ValueError``."""


class JournalError(DatabaseException, InvalidCommand):  # type: ignore[misc]
    """The journal cannot be used. Being an ``InvalidCommand``, doit prints it without a traceback and exits 3."""

    def __init__(self, error: VdiskError) -> None:
        super().__init__(str(error))
        self.error = error


class Journal:
    """What doit knows about each task: a dictionary a task, kept in the file ``name``.

    The file and its folder are made by the first write, so reading commands leave no trace. Every method raises
    :class:`JournalError`.
    """

    desc = "SQLite, committed after every task, shared by several runs"

    def __init__(self, name: str, codec: Codec, *, module_name: str | None = None) -> None:
        """Open the journal. ``module_name`` is part of doit's interface and means nothing here."""
        self.name = name
        self.codec = codec
        self._pending: dict[str, dict[str, Any]] = {}
        with _as_doit_wants():
            self._database = Database(Path(name).absolute(), SCHEMA)

    def get(self, task_id: str, dependency: str) -> Any:
        """One value of a task, None if there is none."""
        pending = self._pending.get(task_id, {})
        if dependency in pending:
            return pending[dependency]
        with _as_doit_wants(), self._database.reading() as database:
            row = database.execute(
                "SELECT value FROM facts WHERE task = ? AND key = ?", (_blob(task_id), _blob(dependency))
            ).fetchone()
            if row is None:
                return None
            try:
                return self.codec.decode(_text(row[0]))
            except ValueError as error:
                raise self._database.damaged(f"an unreadable value of the task {task_id!r} ({error})") from error

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        """Set one value of a task; it is stored together with the others when the last key of the record is set."""
        self._pending.setdefault(task_id, {})[dependency] = value
        if dependency in _LAST_KEYS:
            self._commit(task_id)

    def in_(self, task_id: str) -> bool:
        """Whether anything is known about a task."""
        if task_id in self._pending:
            return True
        with _as_doit_wants(), self._database.reading() as database:
            return database.execute("SELECT 1 FROM facts WHERE task = ?", (_blob(task_id),)).fetchone() is not None

    def remove(self, task_id: str) -> None:
        """Forget a task, at once."""
        self._pending.pop(task_id, None)
        if self.in_(task_id):
            with _as_doit_wants(), self._database.transaction() as database:
                database.execute("DELETE FROM facts WHERE task = ?", (_blob(task_id),))

    def remove_all(self) -> None:
        """Forget every task, at once."""
        self._pending.clear()
        with _as_doit_wants(), self._database.reading() as database:
            nothing = database.execute("SELECT 1 FROM facts").fetchone() is None
        if not nothing:
            with _as_doit_wants(), self._database.transaction() as database:
                database.execute("DELETE FROM facts")

    def dump(self) -> None:
        """Close. A record without its last key is dropped: it belongs to a task that did not succeed."""
        self._pending.clear()
        with _as_doit_wants():
            self._database.close()

    def _commit(self, task_id: str) -> None:
        # The record stays pending until it is stored; what doit cannot encode fails before anything is written.
        rows = [
            (_blob(task_id), _blob(key), _blob(self.codec.encode(value)))
            for key, value in self._pending[task_id].items()
        ]
        with _as_doit_wants():
            self._database.make()
            with self._database.transaction() as database:
                database.executemany("INSERT OR REPLACE INTO facts (task, key, value) VALUES (?, ?, ?)", rows)
        del self._pending[task_id]


@contextmanager
def _as_doit_wants() -> Iterator[None]:
    try:
        yield
    except VdiskError as error:
        raise JournalError(error) from error


def _blob(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(blob: bytes) -> str:
    return blob.decode("utf-8", "surrogatepass")
