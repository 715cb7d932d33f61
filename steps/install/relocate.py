"""Making what was unpacked work wherever the disk is mounted."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from portunix_vdisk.steps.durable import replace_bytes, replace_text
from portunix_vdisk.steps.step import Context

_LARGEST_TEXT: Final = 4 << 20
_AT_ONCE: Final = 100

PYTHON_HEAD: Final = """#!/bin/sh
'''exec' "$(dirname -- "$(readlink -f -- "$0")")/{up}bin/python3" "$0" "$@"
' '''
"""
"""A shell runs the second line, for Python it is a text. It finds the disk by the script's own place."""


def set_library_paths(folder: Path, patchelf: Path, ctx: Context) -> int:
    """Tell each program and library in a folder to look for libraries in the same folder first.

    By ``DT_RPATH`` with ``$ORIGIN``: unlike ``LD_LIBRARY_PATH``, the host's programs that these start don't see it.
    Returns how many were changed. Raises ``ToolFailed``.
    """
    files = list(_dynamic(folder))
    libraries = sorted({file.parent for file in files if ".so" in file.name and _is_library_folder(file.parent)})
    groups = defaultdict(list)
    for file in files:
        groups[file.parent].append(file)
    done = 0
    for place, members in groups.items():
        path = ":".join(f"$ORIGIN/{os.path.relpath(library, place)}" for library in libraries)
        for start in range(0, len(members), _AT_ONCE):
            some = [str(file) for file in members[start : start + _AT_ONCE]]
            ctx.platform.run_program(
                patchelf,
                ("--force-rpath", "--set-rpath", path, *some),
                folder=folder,
                environment={},
                told=lambda line: ctx.safe_point(),
            )
            done += len(some)
            ctx.update(done, len(files), "files")
    return done


def _is_library_folder(folder: Path) -> bool:
    return folder.name == "lib" or folder.parent.name == "lib"


def _dynamic(folder: Path) -> Iterator[Path]:
    """Programs and libraries that are linked dynamically; see elf(5)."""
    for top, _, names in os.walk(folder):
        for name in names:
            path = Path(top, name)
            if not stat.S_ISREG(path.lstat().st_mode):
                continue
            with path.open("rb") as file:
                head = file.read(4096)
            if head[:4] == b"\x7fELF" and head[16:18] in (b"\x02\0", b"\x03\0") and _has_dynamic_segment(head):
                yield path


def _has_dynamic_segment(head: bytes) -> bool:
    """Whether one of the program headers is PT_DYNAMIC (2); only for 64-bit little-endian files."""
    if head[4:6] != b"\x02\x01":
        return False
    start, size, count = (int.from_bytes(head[at : at + n], "little") for at, n in ((32, 8), (54, 2), (56, 2)))
    return any(head[start + number * size :][:4] == b"\x02\0\0\0" for number in range(count))


def rewrite_scripts(folder: Path, up: str, python: Path) -> list[str]:
    """Let the scripts of a folder be run by the disk's own Python, wherever the disk is.

    Args:
        folder: what is looked through, without the folders in it; may be missing.
        up: the way from there to the disk's root, with a slash at its end: ``../../../``.
        python: the program that their first lines name now.

    Returns the names of those that were changed.
    """
    changed: list[str] = []
    if not folder.is_dir():
        return changed
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST_TEXT:
            continue
        text = path.read_bytes()
        body = _without_interpreter(text, bytes(python))
        if body is None:
            continue
        replace_bytes(path, PYTHON_HEAD.format(up=up).encode() + body, 0o755)
        changed.append(path.name)
    return changed


def amend_records(folder: Path, scripts: Sequence[str]) -> None:
    """Let what is known of installed packages be true of their scripts that were changed, which lie in ``bin``.

    Format: https://packaging.python.org/en/latest/specifications/recording-installed-packages/
    """
    for path in sorted(folder.glob("*.dist-info/RECORD")) if scripts else ():
        lines = path.read_text(encoding="utf-8").splitlines()
        amended = [_amended(line, folder, scripts) for line in lines]
        if amended != lines:
            replace_text(path, "\n".join(amended) + "\n")


def _amended(line: str, folder: Path, scripts: Sequence[str]) -> str:
    name = line.rsplit(",", 2)[0]
    place, _, last = name.rpartition("/")
    if last not in scripts or place.rpartition("/")[2] != "bin":
        return line
    text = (folder / "bin" / last).read_bytes()
    digest = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(text)}"


def _without_interpreter(text: bytes, python: bytes) -> bytes | None:
    """The script behind the lines that start Python; None if it is no script of that Python."""
    first, _, rest = text.partition(b"\n")
    if first.startswith(b"#!") and python in first:
        return rest
    second, _, after = rest.partition(b"\n")
    if first == b"#!/bin/sh" and second.startswith(b"'''exec'") and python in second:
        return after.partition(b"\n")[2]
    return None


def mentions(folder: Path, place: bytes, stop: Callable[[], None]) -> list[str]:
    """Files in a folder that name a place of this machine, which will mean nothing on the next one."""
    found = []
    for top, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if one != "__pycache__"]
        for name in names:
            stop()
            path = Path(top, name)
            if path.is_symlink():
                if os.fsencode(path.readlink()).startswith(place):
                    found.append(str(path.relative_to(folder)))
            elif _holds(path, place):
                found.append(str(path.relative_to(folder)))
    return sorted(found)


def _holds(path: Path, place: bytes) -> bool:
    with path.open("rb") as file:
        kept = b""
        while block := file.read(1 << 20):
            if place in kept + block:
                return True
            kept = block[-len(place) :]
    return False
