"""Questions that only a person can answer, asked on the terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import TextIO

from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.plugin.display import is_terminal
from portunix_vdisk.steps.step import Question, QuestionKind
from portunix_vdisk.tasks.passwords import keep_memory_private


def can_ask() -> bool:
    """True if somebody sits at a terminal and this command is in its foreground."""
    if not (is_terminal(sys.stdin) or is_terminal(sys.stderr)):
        return False
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return is_terminal(sys.stdin)
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def ask_person(question: Question) -> str:
    """Ask until there is an answer: ``yes`` or ``no``, one of the choices, or the secret.

    The end of the input means the default, or no. Raises ``KeyboardInterrupt`` on Ctrl-C.
    """
    with _interruptible(), _terminal() as (source, target):
        if question.kind is QuestionKind.SECRET:
            import getpass

            keep_memory_private()
            try:
                text = getpass.getpass(f"{question.text}: ")
                text.encode()
                return text
            except EOFError:
                return ""
            except UnicodeError:  # it says which bytes, so it is not passed on
                raise BadUsage(
                    "what was typed is not text in this terminal's encoding",
                    state="nothing was done",
                    hint=f"use {question.option}",
                ) from None
        while True:
            target.write(_prompt(question))
            target.flush()
            line = source.readline()
            if not line:
                target.write("\n")
                return question.default or ("no" if question.kind is QuestionKind.CONFIRM else "")
            answer = _understand(question, line.strip())
            if answer is not None:
                return answer


def _prompt(question: Question) -> str:
    if question.kind is QuestionKind.CONFIRM:
        return f"{question.text} [{'Y/n' if question.default == 'yes' else 'y/N'}] "
    default = f" [{question.default}]" if question.default else ""
    return f"{question.text} ({', '.join(question.choices)}){default}: "


def _understand(question: Question, text: str) -> str | None:
    """The answer that was meant; None if the question has to be asked again."""
    if question.kind is QuestionKind.CONFIRM:
        text = text.lower() or question.default or "no"
        return {"y": "yes", "yes": "yes", "n": "no", "no": "no"}.get(text)
    text = text or question.default
    return text if text in question.choices else None


@contextlib.contextmanager
def _terminal() -> Iterator[tuple[TextIO, TextIO]]:
    """Where to read and write; the terminal itself even if standard input is something else."""
    try:
        descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        yield sys.stdin, sys.stderr
        return
    with (
        os.fdopen(descriptor, errors="surrogateescape") as source,
        os.fdopen(os.dup(descriptor), "w", errors="backslashreplace") as target,
    ):
        yield source, target


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """While the person is asked, Ctrl-C ends the asking and not just sets a mark."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
