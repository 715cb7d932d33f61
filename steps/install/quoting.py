"""A disk's environment as lines for a shell: nothing in a value is anything but text to it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum


class Shell(StrEnum):
    """Kinds of shells, by how they quote."""

    SH = "sh"
    """bash, zsh, dash and every other POSIX shell."""
    FISH = "fish"
    POWERSHELL = "powershell"


def quote(text: str, shell: Shell) -> str:
    """The text as one word of that shell, without any variable, command or escape in it."""
    if shell is Shell.SH:
        return shlex.quote(text)
    if shell is Shell.FISH:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    # PowerShell takes typographic quotes for quotes, and two of any for one.
    return "'" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", text) + "'"


def export_lines(in_front: Mapping[str, Sequence[str]], variables: Mapping[str, str], shell: Shell) -> Iterator[str]:
    """Lines that set variables, and put folders in front of lists, when a shell evaluates them."""
    for name, folders in in_front.items():
        if shell is Shell.SH:
            yield f'export {name}={quote(":".join(folders), shell)}"${{{name}:+:${name}}}"'
        elif shell is Shell.FISH:
            words = " ".join(quote(folder, shell) for folder in folders)
            # A variable that is no list of folders to fish yet becomes one.
            yield f"set -gx --path {name} {words} ${name}"
        else:
            words = ", ".join(quote(folder, shell) for folder in folders)
            rest = f"$(if ($env:{name}) {{ $env:{name} }})"
            yield f"$env:{name} = (@({words}) + @({rest})) -join [IO.Path]::PathSeparator"
    for name, value in variables.items():
        if shell is Shell.SH:
            yield f"export {name}={quote(value, shell)}"
        elif shell is Shell.FISH:
            yield f"set -gx {name} {quote(value, shell)}"
        else:
            yield f"$env:{name} = {quote(value, shell)}"
