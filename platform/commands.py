"""Running external commands: the one place that does.

Commands are argument lists, never shell strings. Their messages are in English (``LC_ALL=C``) because some are read
by us. A failure is :class:`ToolFailed` with the command line and its last words; an absent program is
:class:`Missing` with the command that installs it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import IO, cast

from portunix_vdisk.platform.errors import Missing, ToolFailed
from portunix_vdisk.platform.packages import install_command, manager_here

Word = str | os.PathLike[str]

ADMINISTRATION = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Folders that hold our tools but are not in the ``PATH`` of an ordinary user."""

SYSTEM_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where a process with root's rights looks for programs, whatever ``PATH`` says."""

_PATIENCE = 2.0
"""Seconds that a cancelled child has to end before it is killed."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a command left: exit status and what it printed."""

    status: int
    stdout: bytes
    stderr: bytes


class Commands:
    """Runs commands, and lets short-lived ones inherit the descriptors that are held.

    Args:
        folders: where to look for programs; by default ``PATH`` and the folders of administration.
    """

    def __init__(self, folders: Sequence[str] | None = None) -> None:
        self._folders = folders
        self._held: list[int] = []
        self._guard = threading.Lock()

    def find(self, program: str) -> str | None:
        """Absolute path of a program, or None."""
        folders = self._folders
        if folders is None:
            folders = [*os.environ.get("PATH", os.defpath).split(os.pathsep), *ADMINISTRATION]
        return shutil.which(program, path=os.pathsep.join(folders))

    def need(self, program: str) -> str:
        """Absolute path of a program. Raises ``Missing`` with the command that installs it."""
        found = self.find(program)
        if found is None:
            install = " ".join(install_command(program, manager_here(self.find)))
            raise Missing(
                f"the program {program} is not installed", hint=f"install it: sudo {install}" if install else ""
            )
        return found

    @contextmanager
    def hold(self, descriptor: int) -> Iterator[None]:
        """While the context lasts, short-lived children inherit this descriptor."""
        with self._guard:
            self._held.append(descriptor)
        try:
            yield
        finally:
            with self._guard:
                self._held.remove(descriptor)

    def held(self) -> tuple[int, ...]:
        """The descriptors that are held now."""
        with self._guard:
            return tuple(dict.fromkeys(self._held))

    def run(
        self,
        program: str,
        *arguments: Word,
        input: bytes | None = None,
        accept: Sequence[int] = (0,),
        pass_fds: Sequence[int] = (),
        user: int | None = None,
        variables: Mapping[str, str] | None = None,
        told: Callable[[bytes], None] | None = None,
    ) -> Output:
        """Run a command to its end and return what it printed.

        Args:
            program: name or absolute path.
            arguments: its arguments, one each; file names may hold any bytes.
            input: what it reads; nothing by default, so that it can never wait for a terminal.
            accept: exit statuses that are no failure.
            pass_fds: descriptors that it inherits besides the held ones.
            user: user id to run as; needs the rights to become it.
            variables: what it finds in its environment besides ours.
            told: hears each line that it prints, at once; what this raises ends the command.

        Raises:
            Missing: there is no such program.
            ToolFailed: it ended with a status that is not accepted.
        """
        # plumbum takes longer to import than most of our commands to run, and the attach program rarely needs it.
        from plumbum.machines.local import LocalCommand, local

        words = [os.fspath(word) for word in arguments]
        path = program if program.startswith("/") else self.need(program)
        # The whole environment is given: plumbum's own is a copy from the time of import, shared by all threads.
        with _Interrupt() as interrupt:
            process = cast(
                "subprocess.Popen[bytes]",
                LocalCommand(local.path(path)).popen(
                    words,
                    cwd="/",
                    env=english() | (dict(variables) if variables else {}),
                    stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(*self.held(), *pass_fds),
                    **({} if user is None else {"user": user}),
                ),
            )
            with ended(process):
                interrupt.release()
                stdout, stderr = process.communicate(input) if told is None else _heard(process, input, told)
        if process.returncode not in accept:
            raise ToolFailed((program, *map(display, words)), process.returncode, display((stderr or stdout)[-4000:]))
        return Output(process.returncode, stdout, stderr)

    def start(
        self,
        program: str,
        *arguments: Word,
        stdin: int | IO[bytes],
        stderr: int | IO[bytes],
        stdout: int = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
        folder: Word = "/",
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process that serves us while we live; it inherits the held descriptors and those of ``pass_fds``.

        It has its own session, so that Ctrl-C in a terminal reaches us alone and we can end in order. The caller
        waits for it within :func:`ended`. ``environment`` is all that it finds in its environment, by default ours.
        Raises ``Missing``.
        """
        return subprocess.Popen(
            [self.need(program), *(os.fspath(word) for word in arguments)],
            cwd=folder,
            env=english() if environment is None else dict(environment),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(*self.held(), *pass_fds),
            start_new_session=True,
        )

    def launch(self, program: str, *arguments: Word, pass_fds: Sequence[int] = (), input: bytes = b"") -> None:
        """Run a program that makes itself a daemon, and wait until it has done so; ``input`` is what it reads.

        The daemon gets its own session and only the descriptors of ``pass_fds``: the held ones are operation locks,
        which must not live as long as it does. Raises ``Missing``, ``ToolFailed``.
        """
        words = [os.fspath(word) for word in arguments]
        process = subprocess.Popen(
            [self.need(program), *words],
            cwd="/",
            env=english(),
            stdin=subprocess.PIPE if input else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
        with ended(process):
            _, stderr = process.communicate(input or None)
        if process.returncode:
            raise ToolFailed((program, *map(display, words)), process.returncode, display(stderr[-4000:]))


def _heard(process: subprocess.Popen[bytes], input: bytes | None, told: Callable[[bytes], None]) -> tuple[bytes, bytes]:
    """What it prints, told line by line, and its errors. What it reads and its errors fit into a pipe each."""
    assert process.stdout is not None and process.stderr is not None
    if process.stdin is not None:
        with suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(input or b"")
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            told(line)
    except BaseException:
        process.stdout.close()  # it may be root's, whom we cannot end: so it ends when it prints again
        raise
    stderr = process.stderr.read()
    process.wait()
    return b"".join(said), stderr


class _Interrupt:
    """Holds back Ctrl-C while a process is started: who was interrupted within could not end it.

    Only where a handler of Python's would raise, in the main thread.
    """

    def __init__(self) -> None:
        self._former: object = None
        self._caught: list[tuple[int, FrameType | None]] = []

    def __enter__(self) -> _Interrupt:
        former = signal.getsignal(signal.SIGINT)
        if callable(former) and threading.current_thread() is threading.main_thread():
            self._former = former
            signal.signal(signal.SIGINT, lambda number, frame: self._caught.append((number, frame)))
        return self

    def release(self) -> None:
        """From now on it counts, also if it came meanwhile."""
        former, self._former = self._former, None
        if callable(former):
            signal.signal(signal.SIGINT, former)
            if self._caught:
                former(*self._caught[0])

    def __exit__(self, *error: object) -> None:
        self.release()


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever happens in the context, the process has ended afterwards: no orphan after Ctrl-C."""
    try:
        yield
    except BaseException:
        with suppress(PermissionError):  # sudo is root's
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
        raise
    finally:
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def english() -> dict[str, str]:
    """The environment of a command."""
    return {**os.environ, "LC_ALL": "C", "LANGUAGE": "C"}


def display(text: bytes | str) -> str:
    """Text for people, of bytes that may be anything."""
    data = os.fsencode(text) if isinstance(text, str) else text
    return data.decode("utf-8", errors="backslashreplace")
