"""How a password gets from a file, a descriptor or a person to the task that needs it, and nowhere else.

The process that the person started reads files and descriptors: the latter are its own. From there a password travels
in a message over the private socket and a pipe. It is never an argument or a variable of the environment, and no log,
event, result, journal or traceback has it. Imports nothing heavy: the command line uses it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from portunix_vdisk.platform.errors import BadUsage, NotFound, Refused
from portunix_vdisk.platform.memory import keep_memory_private
from portunix_vdisk.steps.step import Question, QuestionKind
from portunix_vdisk.tasks.operations import Kind, Operation

__all__ = [
    "ask_password",
    "check_password",
    "check_secrets",
    "is_weak",
    "keep_memory_private",
    "on_the_command_line",
    "secret_names",
    "take_secrets",
]

LONGEST = 4096
"""Bytes of a password, at most."""
_TRIES = 3
_WEAK_BITS = 64

_SUFFIXES = {Kind.SECRET_FILE: "-file", Kind.SECRET_FD: "-fd"}


def secret_names(known: Operation) -> set[str]:
    """The secrets that an operation takes: ``password`` for ``password-file`` and ``password-fd``."""
    return {one.name.removesuffix(_SUFFIXES[one.kind]) for one in known.parameters if one.kind in _SUFFIXES}


def take_secrets(known: Operation, options: Mapping[str, str], folder: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """Read the passwords that the options name: the options without those, and the passwords.

    Of a file or descriptor the first line counts, without its newline, whatever else its bytes are.

    Args:
        known: the operation.
        options: the text of each parameter.
        folder: the caller's working folder.

    Raises:
        BadUsage: two sources of one password, or one that holds none.
        NotFound: there is no such file.
        Refused: it cannot be read.
    """
    rest, found = dict(options), dict[str, bytes]()
    for name in sorted(secret_names(known)):
        if rest.get(name, "true") != "true":
            raise on_the_command_line(name)
        given = [each for each in (name, f"{name}-file", f"{name}-fd") if each in rest]
        if len(given) > 1:
            raise BadUsage(f"--{given[0]} and --{given[1]}: only one of them can be")
        if f"{name}-file" in rest:
            found[name] = _from_file(folder / Path(rest.pop(f"{name}-file")).expanduser())
        elif f"{name}-fd" in rest:
            found[name] = _from_descriptor(rest.pop(f"{name}-fd"), f"--{name}-fd")
    return rest, found


def on_the_command_line(name: str) -> BadUsage:
    """What to say to somebody who typed the password itself; without repeating it."""
    return BadUsage(
        f"--{name} takes no value: whatever stands on a command line can be seen by everybody on this machine",
        state="nothing was done; better use another password now",
        hint=f"--{name} asks for it; --{name}-file FILE and --{name}-fd N read it",
    )


def ask_password(
    ask: Callable[[Question], str], log: Callable[[str, str], None], subject: str, name: str, *, new: bool
) -> bytes:
    """Ask the person; see :meth:`portunix_vdisk.tasks.session.Session.password`."""
    keep_memory_private()
    option = f"--{name}-file FILE or --{name}-fd N"
    text = f"{'new ' if new else ''}password for {subject}"
    for _ in range(_TRIES):
        password = _answer(ask, Question(name, QuestionKind.SECRET, text, option))
        if not password:
            log("warning", "the password is empty")
        elif not new or password == _answer(ask, Question(name, QuestionKind.SECRET, f"{text}, again", option)):
            return password
        else:
            log("warning", "the two passwords are not the same")
    raise BadUsage(f"no password for {subject} after {_TRIES} tries", state="nothing was done", hint="try again")


def check_password(password: bytes, subject: str) -> None:
    """Raises ``BadUsage`` for a password that cannot be one."""
    if not password:
        raise BadUsage(f"the password for {subject} is empty", state="nothing was done")
    if len(password) > LONGEST:
        raise BadUsage(f"the password for {subject} is longer than {LONGEST} bytes", state="nothing was done")


def check_secrets(known: Operation, secrets: Mapping[str, bytes]) -> None:
    """Raises ``BadUsage`` for secrets that an operation does not take, or that cannot be any."""
    if secrets:
        keep_memory_private()
    for name, secret in secrets.items():
        if name not in secret_names(known):
            raise BadUsage(f"{known.name} takes no secret {name!r}")
        check_password(secret, known.name)


def is_weak(password: bytes) -> bool:
    """Whether a patient guesser may find it: a rough count of the passwords of its kind."""
    text = password.decode("utf-8", "surrogateescape")
    kinds = (
        (26, any(char.islower() for char in text)),
        (26, any(char.isupper() for char in text)),
        (10, any(char.isdigit() for char in text)),
        (33, any(not char.isalnum() for char in text)),
    )
    pool = sum(size for size, present in kinds if present) or 26
    return min(len(text), 2 * len(set(text))) * math.log2(pool) < _WEAK_BITS


def _answer(ask: Callable[[Question], str], question: Question) -> bytes:
    return ask(question).encode("utf-8", "surrogateescape")


def _from_file(path: Path) -> bytes:
    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        raise NotFound(f"there is no password file {shown}", state="nothing was done") from None
    except (OSError, ValueError) as error:
        raise _unreadable(shown, error) from None
    try:
        return _first_line(descriptor, shown)
    finally:
        os.close(descriptor)


def _from_descriptor(text: str, option: str) -> bytes:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadUsage(f"{option} wants the number of an open file descriptor", state="nothing was done")
    return _first_line(int(text), f"descriptor {int(text)}")


def _first_line(descriptor: int, shown: str) -> bytes:
    """The first line, byte by byte: what follows it belongs to somebody else, perhaps to the next password."""
    keep_memory_private()
    line = bytearray()
    try:
        if os.isatty(descriptor):
            raise BadUsage(
                f"{shown} is a terminal, which would show the password",
                state="nothing was done",
                hint="leave the option away to be asked without that",
            )
        while (byte := os.read(descriptor, 1)) not in (b"", b"\n"):
            line += byte
            if len(line) > LONGEST:
                raise BadUsage(f"the first line of {shown} is longer than {LONGEST} bytes", state="nothing was done")
    except OSError as error:
        raise _unreadable(shown, error) from None
    if not line:
        raise BadUsage(f"the first line of {shown} is empty: no password", state="nothing was done")
    return bytes(line)


def _unreadable(shown: str, error: OSError | ValueError) -> Refused:
    why = error.strerror if isinstance(error, OSError) else error
    return Refused(f"the password cannot be read from {shown}: {why}", state="nothing was done")
