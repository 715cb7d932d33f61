"""What a step is, and what it is given to work with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from portunix_vdisk.platform.base import Platform
from portunix_vdisk.platform.errors import Interrupted

Json = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | bool | None


class QuestionKind(StrEnum):
    """How a question wants to be asked."""

    CONFIRM = "confirm"
    CHOICE = "choice"
    SECRET = "secret"


@dataclass(frozen=True, slots=True)
class Question:
    """Something only a person can decide.

    ``option`` is the command-line option that would have answered it (``--yes``); ``default`` answers an empty reply.
    """

    id: str
    kind: QuestionKind
    text: str
    option: str
    default: str = ""
    choices: tuple[str, ...] = ()


class Conversation(Protocol):
    """The way to the person who started the operation, and their way to stop it."""

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        """How far a task is."""

    def log(self, level: str, text: str) -> None:
        """A line for the person; level is ``info`` or ``warning``."""

    def ask(self, question: Question) -> str:
        """The answer; raises ``Refused`` naming the option where nobody can be asked."""

    def cancelled(self) -> bool:
        """True as soon as the person wants to stop."""


@dataclass(slots=True)
class Context:
    """What a step runs with. None of it is part of a step's identity."""

    platform: Platform
    conversation: Conversation
    task: str = ""

    def update(self, done: int, total: int, unit: str = "B") -> None:
        """Report progress of the running task."""
        self.conversation.progress(self.task, done, total, unit)

    def info(self, text: str) -> None:
        """A line for the person."""
        self.conversation.log("info", text)

    def warn(self, text: str) -> None:
        """A warning for the person."""
        self.conversation.log("warning", text)

    def confirm(self, id: str, text: str) -> bool:
        """Whether the person says yes to ``text``; ``--yes`` says it beforehand. See :meth:`Conversation.ask`."""
        question = Question(id=id, kind=QuestionKind.CONFIRM, text=text, option="--yes", default="no")
        return self.conversation.ask(question) == "yes"

    def safe_point(self) -> None:
        """Stop here if the person asked to: raises ``Interrupted``. Long steps call it at least every 0.2 s."""
        if self.conversation.cancelled():
            raise Interrupted(
                "interrupted",
                state="everything finished so far is kept",
                hint="run the same command to continue",
            )


class Step(Protocol):
    """A frozen dataclass whose fields are its identity.

    ``run`` is idempotent (a second run finishes what the first left) and atomic in effect (``.partial``, fsync,
    rename, fsync the folder). It raises ``VdiskError`` subclasses only; it never prints, exits, reads the
    environment or imports doit, gRPC, tqdm, plumbum or YAML.
    """

    def run(self, ctx: Context) -> Json:
        """Do it; the result is what the journal keeps."""
