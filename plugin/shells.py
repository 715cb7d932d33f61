"""How a person's interactive shell is opened so that its own files of commands come first and the disk's things last.

What ``~/.bashrc`` does to PATH would otherwise come in front of the disk. Each kind of shell has its own way to run
something after those files; a shell that we don't know just gets the environment.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portunix_vdisk.tasks.shell_text import Shell, applied, export_lines, quote

_POSIX = frozenset({"sh", "dash", "ash", "ksh", "mksh", "lksh"})


@dataclass(frozen=True, slots=True)
class Opening:
    """A shell's command line and its environment."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


def shell_of_person(environment: Mapping[str, str]) -> str:
    """Their login shell, or whatever SHELL says; ``/bin/sh`` if that is not there."""
    wanted = environment.get("SHELL", "")
    if not wanted:
        with contextlib.suppress(KeyError):
            wanted = pwd.getpwuid(os.geteuid()).pw_shell
    return wanted if wanted.startswith("/") and os.access(wanted, os.X_OK) else "/bin/sh"


@contextlib.contextmanager
def opening(shell: str, name: str, disk: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[Opening]:
    """How to open that shell. Its files lie in a private folder, which is gone afterwards.

    Args:
        shell: the program.
        name: the disk's name, for the prompt.
        disk: the disk's environment, as ``env`` tells it.
        environment: the person's.
    """
    kind = Path(shell).name
    # In prompts, dollars, percent signs, backslashes and backquotes are commands.
    label = f"({re.sub('[^A-Za-z0-9._-]', '_', name)}) "
    lines = list(export_lines(disk["in_front"], disk["variables"], Shell.FISH if kind == "fish" else Shell.SH))
    with tempfile.TemporaryDirectory(prefix="portunix-shell-") as place:
        folder = Path(place)
        if kind == "bash":
            text = ["[ ! -f ~/.bashrc ] || . ~/.bashrc", *lines, f"PS1='{label}'\"${{PS1-}}\""]
            command = [shell, "--rcfile", _write(folder / "bashrc", text), "-i"]
            yield Opening(tuple(command), environment)
        elif kind == "zsh":
            yield _zsh(shell, folder, [*lines, f"PS1='{label}'\"${{PS1-}}\""], environment)
        elif kind == "fish":
            text = [*lines, "functions -q fish_prompt; and functions -c fish_prompt _portunix_prompt"]
            text += [
                f"function fish_prompt; echo -n '{label}'; functions -q _portunix_prompt; and _portunix_prompt; end"
            ]
            file = _write(folder / "config.fish", text)
            yield Opening((shell, "-i", "-C", f"source {quote(file, Shell.FISH)}"), environment)
        elif kind in _POSIX:
            own = environment.get("ENV")
            text = [f'ENV={quote(own, Shell.SH)}; [ ! -f "$ENV" ] || . "$ENV"'] if own else ["unset ENV"]
            file = _write(folder / "shrc", [*text, *lines, f"PS1='{label}'\"${{PS1-}}\""])
            yield Opening((shell, "-i"), {**environment, "ENV": file})
        else:
            yield Opening((shell,), applied(disk, environment))


def _zsh(shell: str, folder: Path, lines: list[str], environment: Mapping[str, str]) -> Opening:
    """zsh reads its files in ZDOTDIR: in ours first, from where theirs are read as if nothing were different."""
    own = quote(environment.get("ZDOTDIR") or environment.get("HOME", "/"), Shell.SH)
    ours = quote(str(folder), Shell.SH)
    read = '[ ! -f "$ZDOTDIR/{0}" ] || . "$ZDOTDIR/{0}"'
    back = f"export ZDOTDIR={own}" if environment.get("ZDOTDIR") else "unset ZDOTDIR"
    _write(
        folder / ".zshenv",
        [f"ZDOTDIR={own}", read.format(".zshenv"), "_portunix_zdotdir=$ZDOTDIR", f"ZDOTDIR={ours}"],
    )
    _write(
        folder / ".zshrc",
        [
            "ZDOTDIR=$_portunix_zdotdir; unset _portunix_zdotdir",
            f'case "${{HISTFILE-}}" in {ours}/*) HISTFILE=$ZDOTDIR/.zsh_history ;; esac',
            read.format(".zshrc"),
            f'[ "$ZDOTDIR" != {own} ] || {back}',
            *lines,
        ],
    )
    return Opening((shell, "-i"), {**environment, "ZDOTDIR": str(folder)})


def _write(file: Path, lines: list[str]) -> str:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
    return str(file)
