"""What one process shares while it runs operations: home, catalog, platform, locks, the person."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from portunix_vdisk.platform.base import Platform
from portunix_vdisk.platform.choose import this_platform
from portunix_vdisk.platform.errors import VdiskError
from portunix_vdisk.platform.home import Home
from portunix_vdisk.platform.locks import OperationLock, sweep
from portunix_vdisk.platform.memory import keep_memory_private
from portunix_vdisk.steps.catalog import Catalog
from portunix_vdisk.steps.step import Context, Conversation, Question, QuestionKind
from portunix_vdisk.tasks.passwords import ask_password, check_password, is_weak
from portunix_vdisk.templates.configuration import FILE_NAME, Configuration, configuration_at


class Listener(Conversation, Protocol):
    """Hears what happens to tasks, besides talking with the person. Its methods never raise, except ``ask``."""

    def task_started(self, task: str, title: str) -> None:
        """A task begins to do its work."""

    def task_finished(self, task: str, seconds: float) -> None:
        """A task has done its work."""

    def task_skipped(self, task: str) -> None:
        """A task is up to date."""

    def task_failed(self, task: str) -> None:
        """A task could not do its work."""


class Session:
    """One run of the engine. Use as a context manager: leaving it releases every lock."""

    def __init__(self, home: Home, listener: Listener, folder: Path) -> None:
        """``folder`` is the caller's working folder; relative paths mean something there."""
        self.home = home
        self.listener = listener
        self.folder = folder
        self.error: VdiskError | None = None
        """The first failure of this run, for the exit code."""
        self.stop = False
        """True as soon as this process was asked to stop."""
        self.assume_yes = False
        """True if the person agreed to everything beforehand."""
        self.ran: set[str] = set()
        """Tasks that did work in this run, by their full names."""
        self._secrets: dict[str, bytes] = {}
        self._passwords: dict[tuple[str, str], bytes] = {}
        self._undo = ExitStack()
        self._locked: set[str] = set()
        self._at_end: list[Callable[[], None]] = []
        self._catalog: Catalog | None = None
        self._platform: Platform | None = None
        self._configuration: Configuration | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release locks and databases, forget passwords."""
        # Somebody who names a password believes that it protects something.
        if self.ran and self.error is None and self._secrets.keys() - {name for name, _ in self._passwords}:
            self.log("warning", "a password was given, but nothing was encrypted or decrypted with it")
        self._undo.close()
        if self._locked:
            locks = self.home.run / "locks"
            sweep(locks)
            with suppress(OSError):
                locks.rmdir()
        self._locked.clear()
        self._secrets.clear()
        self._passwords.clear()
        self._at_end.clear()
        self._catalog = None

    @property
    def platform(self) -> Platform:
        """The machine we run on."""
        if self._platform is None:
            self._platform = this_platform(self._secret)
        return self._platform

    @property
    def catalog(self) -> Catalog:
        """The catalog; an empty one is made by the first operation that writes."""
        if self._catalog is None:
            self._catalog = self._undo.enter_context(Catalog.open(self.home.catalog, create=self.home.catalog.exists()))
        return self._catalog

    def writable_catalog(self) -> Catalog:
        """The catalog, made if it is missing."""
        if not self.home.catalog.exists():
            self.home.make()
            self._catalog = self._undo.enter_context(Catalog.open(self.home.catalog, create=True))
        return self.catalog

    @property
    def configuration(self) -> Configuration:
        """The person's ``config.yaml``. Raises ``BadUsage``: it is not right."""
        if self._configuration is None:
            self._configuration = configuration_at(self.home.root / FILE_NAME)
        return self._configuration

    def context(self, task: str) -> Context:
        """What a step of this task runs with."""
        return Context(self.platform, self, task)

    # the conversation that steps have: the listener's, with what this process knows itself ----------------

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        """How far a task is."""
        self.listener.progress(task, done, total, unit)

    def log(self, level: str, text: str) -> None:
        """A line for the person."""
        self.listener.log(level, text)

    def ask(self, question: Question) -> str:
        """The person's answer. Raises ``Refused`` where nobody can be asked."""
        if self.assume_yes and question.kind is QuestionKind.CONFIRM:
            return "yes"
        return self.listener.ask(question)

    def give_secrets(self, secrets: Mapping[str, bytes]) -> None:
        """Passwords by name, as the person's files and descriptors held them."""
        if secrets:
            keep_memory_private()
            self._secrets.update(secrets)

    def password(self, subject: str, *, new: bool = False, name: str = "password") -> bytes:
        """The password for ``subject`` ("the archive client.zip"), asked for once in a session.

        It comes from ``--password-file`` or ``--password-fd``, else the person types it; a new one twice.

        Args:
            subject: what messages and the prompt call the thing that the password is for.
            new: the password is being set and not checked; a weak one gets a warning.
            name: ``password``, or ``new-password`` where an old one is wanted too.

        Raises:
            BadUsage: it is empty or too long, or was not typed the same way twice in three tries.
            Refused: nobody can be asked; names the option.
            Interrupted: the person gave up.
        """
        known = self._passwords.get((name, subject))
        if known is not None:
            return known
        password = self._secrets.get(name)
        if password is None:
            password = ask_password(self.ask, self.log, subject, name, new=new)
        check_password(password, subject)
        if new and is_weak(password):
            self.log("warning", f"the password for {subject} is easy to guess: several unrelated words make a good one")
        if password.endswith(b"\r"):
            self.log("warning", f"the password for {subject} ends with a carriage return, which counts as part of it")
        self._passwords[name, subject] = password
        return password

    def cancelled(self) -> bool:
        """True as soon as the person wants to stop."""
        return self.stop or self.listener.cancelled()

    def lock(self, image: Path, operation: str) -> None:
        """Take the operation lock of an image until the session ends; taking it again changes nothing.

        An existing image is locked by device and inode, so that every name of it means the same lock; one that is
        still to be made is locked by its path. Raises ``Refused`` naming the holder.
        """
        # Again if the file was replaced by another while we waited: that has a lock of its own.
        while (key := lock_key(image)) not in self._locked:
            self.home.make()
            lock = self._undo.enter_context(OperationLock(self.home.run / "locks", key, operation))
            self._undo.enter_context(self.platform.hold_in_children(lock.descriptor))
            self._locked.add(key)

    def at_end(self, action: Callable[[], None]) -> None:
        """Do this before the locks are released; the same action is done once."""
        if action not in self._at_end:
            self._at_end.append(action)
            self._undo.callback(action)

    def absolute(self, text: str) -> Path:
        """A path as the caller means it; ``~`` is the caller's home, symbolic links stay as they are."""
        path = Path(text).expanduser()
        return path if path.is_absolute() else self.folder / path

    def _secret(self, prompt: str) -> str:
        keep_memory_private()
        return self.listener.ask(Question("sudo", QuestionKind.SECRET, prompt, option="sudo portunix …"))


def lock_key(image: Path) -> str:
    """The name of an image's lock."""
    try:
        stat = image.stat()
    except OSError:
        return "path-" + hashlib.sha256(bytes(image)).hexdigest()[:24]
    return f"{stat.st_dev}-{stat.st_ino}"
