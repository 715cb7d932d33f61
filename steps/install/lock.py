"""``vdisk.lock``: exactly what a disk was filled with, so that another one can be filled with the same.

    {"version": 1, "os": "linux", "cpu": "x86_64", "tools": [...], "packages": [...],
     "files": {LANGUAGE: {NAME: TEXT}}}

``tools`` and ``packages`` are those of ``installed.json``, without the versions that no command means; ``files`` are
what each language's own program locks with: ``package-lock.json``, ``requirements.txt`` with digests, ``go.sum``.
A disk has it as ``.vdisk/vdisk.lock``. It may come from anybody, like the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from portunix_vdisk.platform.errors import Corrupt, NotFound, Refused
from portunix_vdisk.steps.durable import fsync_folder, replace_text
from portunix_vdisk.steps.install.languages import LANGUAGES
from portunix_vdisk.steps.install.record import STATE, Installed, installed_json, parse_installed
from portunix_vdisk.steps.install.tool import this_cpu, this_system

FILE: Final = "vdisk.lock"
VERSION: Final = 1
_LARGEST: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Lock:
    """What a lock file says.

    Args:
        os: the operating system that it is for, in the words of recipes.
        cpu: the processor.
        installed: tools with their files, packages.
        files: texts by name of each language.
    """

    os: str
    cpu: str
    installed: Installed
    files: Mapping[str, Mapping[str, str]]

    @property
    def text(self) -> str:
        """The same as a file."""
        tools = tuple(one for one in self.installed.tools if one.active)
        content = {
            **installed_json(Installed(tools, self.installed.packages)),
            "version": VERSION,
            "os": self.os,
            "cpu": self.cpu,
            "files": self.files,
        }
        return json.dumps(content, indent=1, sort_keys=True) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 of that."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def lock_of(root: Path, installed: Installed) -> Lock:
    """The lock of what is on the disk at ``root``. Raises ``OSError``; ``Corrupt``: a language's file is none."""
    files: dict[str, dict[str, str]] = {}
    for name in sorted({one.language for one in installed.packages}):
        places = LANGUAGES[name].lock
        try:
            texts = {file: text for file, place in places.items() if (text := _text(root / place)) is not None}
            if "package.json" in texts:
                texts["package.json"] = _dependencies_only(texts["package.json"])
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise Corrupt(
                f"{', '.join(places.values())}: no lock can be made of these: {error}",
                state="what is installed stays as it is",
                hint="mend the file, then run the same command again",
            ) from error
        files[name] = texts
    return Lock(this_system(), this_cpu(), installed, files)


def write_lock(root: Path, installed: Installed) -> None:
    """Let the disk have the lock of what is on it, durably. Raises ``OSError``, ``Corrupt``."""
    replace_text(root / STATE / FILE, lock_of(root, installed).text)
    fsync_folder(root / STATE)


def read_lock(path: Path) -> Lock:
    """What a lock file says.

    Raises ``NotFound``; ``Corrupt``: it is no lock; ``Refused``: it is one of another kind of machine; ``OSError``.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no {path}", state="nothing was done") from None
    try:
        lock = _parse(text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Corrupt(f"{path} is no lock of a disk: {error}", state="nothing was done") from error
    if (lock.os, lock.cpu) != (this_system(), this_cpu()):
        raise Refused(
            f"{path} is for {lock.os} on {lock.cpu}, and this is {this_system()} on {this_cpu()}",
            state="nothing was done",
            hint="portunix vdisk template lock TEMPLATE makes one for this machine",
        )
    return lock


def place_files(root: Path, language: str, lock: Lock) -> None:
    """Put the files of a language where its program looks for them, on a disk that has no packages of it."""
    for name, place in LANGUAGES[language].lock.items():
        if name in lock.files.get(language, {}):
            path = root / place
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, lock.files[language][name])


def _text(path: Path) -> str | None:
    """A file of a disk, but nothing that a link leads to."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, encoding="utf-8") as file:
        return file.read(_LARGEST)


def _dependencies_only(text: str) -> str:
    """What else may stand in a package.json is run by npm, and may be anybody's."""
    found = json.loads(text).get("dependencies", {})
    if not all(isinstance(one, str) for one in (*found, *found.values())):
        raise ValueError("package.json has dependencies that are none")
    return json.dumps({"dependencies": found}, indent=2) + "\n"


def _parse(text: bytes) -> Lock:
    if len(text) > _LARGEST:
        raise ValueError("it is too long")
    content: Any = json.loads(text)
    if content.pop("version") != VERSION:
        raise ValueError("its version is not known")
    files = content.pop("files")
    for name, texts in files.items():
        if not texts.keys() <= LANGUAGES[name].lock.keys() or not all(isinstance(one, str) for one in texts.values()):
            raise ValueError(f"it has files that {name} does not have")
        if name == "npm" and texts.get("package.json") != _dependencies_only(texts["package.json"]):
            raise ValueError("its package.json has more than dependencies")
        if name == "pip" and (
            odd := [line for line in texts["requirements.txt"].splitlines() if not _PIN.fullmatch(line)]
        ):
            raise ValueError(f"{odd[0]!r} is no version with a digest")
    name, cpu = content.pop("os"), content.pop("cpu")
    if not (isinstance(name, str) and isinstance(cpu, str)):
        raise ValueError("it does not say what it is for")
    return Lock(name, cpu, parse_installed(content), files)


_PIN: Final = re.compile(
    r"\s*|[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._, -]+\])?==[A-Za-z0-9.!+_-]+( ;[^\\#]*)?( \\)?"
    r"|    --hash=sha(256|384|512):[0-9a-f]+( \\)?"
)
"""A line of a file of requirements: options in it would lead to other servers or files."""
