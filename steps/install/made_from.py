"""Which template a disk was made from, as the disk itself remembers it: ``.vdisk/template.json``.

    {"version": 1, "template": KEY, "configuration": {VARIABLE: VALUE}, "scripts": {NAME: SHA-256}}

``scripts`` are those that ran to their end, so that a run that was interrupted goes on behind them. Like the record of
what is installed, the file comes with a disk that anybody may have made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.durable import fsync_folder, replace_text
from portunix_vdisk.steps.install.record import STATE

FILE: Final = "template.json"
VERSION: Final = 1
_LARGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class MadeFrom:
    """A template and how much of it is done.

    Args:
        template: its key.
        configuration: variables that activation sets.
        scripts: name of each script that has run, and the SHA-256 of its text.
    """

    template: str
    configuration: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)


def read_made_from(root: Path) -> MadeFrom | None:
    """What the disk that is mounted at ``root`` was made from; None if no template made it.

    Raises ``Corrupt``: it is no such file. ``OSError``: it cannot be read.
    """
    path = root / STATE / FILE
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return None
    try:
        return _parse(text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Corrupt(
            f"{path} does not say what the disk was made from: {error}",
            state="nothing was changed",
            hint="move that file away: the disk is then one that no template made",
        ) from error


def write_made_from(root: Path, made: MadeFrom) -> None:
    """Make it what the disk remembers, durably. Raises ``OSError``."""
    folder = root / STATE
    folder.mkdir(exist_ok=True)
    replace_text(folder / FILE, json.dumps({"version": VERSION, **asdict(made)}, indent=1, sort_keys=True) + "\n")
    fsync_folder(folder)


def _parse(text: bytes) -> MadeFrom:
    if len(text) > _LARGEST:
        raise ValueError("it is too long")
    content: Any = json.loads(text)
    if content.pop("version") != VERSION:
        raise ValueError("its version is not known")
    made = MadeFrom(**content)
    if not re.fullmatch("[a-z0-9][a-z0-9_-]{0,63}", made.template):
        raise ValueError(f"{made.template!r} is no key of a template")
    for name, value in made.configuration.items():
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]{0,99}", name) or not isinstance(value, str):
            raise ValueError(f"{name!r} is no variable")
        if not value.isprintable():
            raise ValueError(f"{value!r} is no value of a variable")
    for name, digest in made.scripts.items():
        if not name.isprintable() or not re.fullmatch("[0-9a-f]{64}", digest):
            raise ValueError(f"{name!r} is no script")
    return made
