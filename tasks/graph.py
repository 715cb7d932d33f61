"""The shape of an operation: named members, each one step bound to one disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.operations import slug

Values = Mapping[str, Json]
"""What the journal kept of a task's last success; empty when it knows nothing."""


@dataclass(frozen=True, slots=True)
class Member:
    """One task of an operation.

    Args:
        name: unique within the operation (``scan``, ``pack:07``).
        doc: what ``doit list`` says about it.
        run: does the work; idempotent. Its result is kept by the journal.
        done: looks at the world, and at the journal's values, and tells if there is nothing to do. It must be cheap
            and must never raise.
        clean: removes what an unfinished run left; never a finished image or archive.
    """

    name: str
    doc: str
    run: Callable[[Context], Json]
    done: Callable[[Values], bool]
    clean: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """An operation on one disk: its members run in order.

    Args:
        operation: ``create``, ``export``, ``archive mount`` …
        disk: the disk's name; the doit group is called ``operation:disk``, with dashes for blanks.
        doc: one line for ``doit list``.
        locks: the image, and any other file that the operation must have for itself.
        members: in the order in which they run.
        result: makes the operation's result after all members are done; gets the members' values by name.
    """

    operation: str
    disk: str
    doc: str
    locks: tuple[Path, ...]
    members: tuple[Member, ...]
    result: Callable[[Mapping[str, Values]], Json] = field(default=lambda values: {})

    @property
    def name(self) -> str:
        """The doit task that stands for all members."""
        return f"{slug(self.operation)}:{self.disk}"
