"""The commands of a disk: small scripts in its ``bin`` that find the disk by their own place."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.durable import fsync_folder, replace_text
from portunix_vdisk.steps.install.record import Installed, InstalledTool

FOLDER: Final = "bin"
MARK: Final = "# portunix-vdisk:"
"""Begins the second line of every script of ours, so that a file of the person's is never taken for one."""

_HEAD: Final = """#!/bin/sh
{mark} {command} of {name} {version}
here=$0
case $here in */*) ;; *) here=./$here ;; esac
while [ -L "$here" ]; do
  to=$(command -p readlink -- "$here") || exit 126
  case $to in /*) here=$to ;; *) here=${{here%/*}}/$to ;; esac
done
root=$(CDPATH= cd -- "${{here%/*}}/.." && pwd -P) || exit 126
case :$PATH: in *:"$root/bin":*) ;; *) PATH=$root/bin${{PATH:+:$PATH}}; export PATH ;; esac
"""
_BY_ENDING: Final = {".js": "node", ".cjs": "node", ".mjs": "node", ".py": "python3"}


def shim(root: Path, tool: InstalledTool, command: str) -> str:
    """The script of a command."""
    file = tool.commands[command]
    variables = {"{root}": "root", "{folder}": "folder"}
    lines = [_HEAD.format(mark=MARK, command=command, name=tool.name, version=tool.version)]
    lines.append(f"folder=$root/{shlex.quote(tool.folder)}\n")
    for name, value in sorted(tool.environment.items()):
        lines.append(f"export {name}={_quoted(value, variables)}\n")
    words = [f'"$folder"/{shlex.quote(file)}', '"$@"']
    interpreter = _interpreter(root / tool.folder / file)
    if interpreter:
        own = tool.commands.get(interpreter)
        words.insert(0, f'"$folder"/{shlex.quote(own)}' if own else f'"$root"/bin/{shlex.quote(interpreter)}')
    return "".join([*lines, f"exec {' '.join(words)}\n"])


def write_shims(root: Path, installed: Installed) -> None:
    """Make the disk's ``bin`` hold the commands of what is active, and no others of ours.

    Raises ``OSError``; ``Refused``, before anything is written, if something there is the person's own.
    """
    wanted = _wanted(root, installed)
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    refuse_foreign(root, installed)
    for path in folder.iterdir():
        if path.name not in wanted and is_ours(path):
            path.unlink()
    for name, text in wanted.items():
        path = folder / name
        if _reads(path) != text.encode():
            replace_text(path, text, 0o755)
    fsync_folder(folder)


def refuse_foreign(root: Path, installed: Installed) -> None:
    """Refuse commands whose names are taken by programs that are not ours. Raises ``Refused``."""
    for name in _wanted(root, installed):
        path = root / FOLDER / name
        if path.is_symlink() or (path.exists() and not is_ours(path)):
            raise Refused(
                f"{path} is a program of yours, which {name} would take the place of",
                state="it was not touched, and nothing was made usable",
                hint="move it away, then run the same command again",
            )


def has_shims(root: Path, tool: InstalledTool) -> bool:
    """Whether the commands of a tool are there, and ours."""
    return all(is_ours(root / FOLDER / command) for command in tool.commands)


def _wanted(root: Path, installed: Installed) -> dict[str, str]:
    return {command: shim(root, tool, command) for tool in _in_order(installed) for command in tool.commands}


def is_ours(path: Path) -> bool:
    """Whether a file is a script that we wrote, or the unfinished copy of one."""
    return (_reads(path) or b"").partition(b"\n")[2].startswith(MARK.encode())


def _in_order(installed: Installed) -> list[InstalledTool]:
    """What is active. A tool that is called like its command comes last: npm's own is meant, not that of nodejs."""
    active = [one for one in installed.tools if one.active]
    return sorted(active, key=lambda one: (one.name in one.commands, one.name))


def _reads(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError:
        return None


def _quoted(value: str, variables: dict[str, str]) -> str:
    """A value in a shell's words, in which places of the disk are variables."""
    for place, variable in variables.items():
        before, found, after = value.partition(place)
        if found:
            return f'{_quoted(before, variables)}"${{{variable}}}"{_quoted(after, variables)}'
    return shlex.quote(value) if value else ""


def _interpreter(path: Path) -> str:
    """The command that runs a script: by its first line, or by the ending of its name."""
    try:
        with path.open("rb") as file:
            first = file.readline(300)
    except OSError:
        first = b""
    words = first.removeprefix(b"#!").decode("utf-8", "replace").split() if first.startswith(b"#!") else []
    if words and words[0].endswith("/env") and len(words) > 1:
        words = words[1:]
    name = words[0].rpartition("/")[2] if words else ""
    if name in ("node", "python", "python3"):
        return name
    return "" if words else _BY_ENDING.get(path.suffix, "")
