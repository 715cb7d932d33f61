"""``config.yaml`` in the state folder: which disks this machine is to have.

disks:
  - name: my-dev
    size: 20GB
    type: qcow2
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.templates.document import parse_document, read_document, refusal

FILE_NAME: Final = "config.yaml"
_TEXT: Final = {"type": "string", "empty": False}
_DISK: Final = {
    "name": {**_TEXT, "required": True},
    "size": _TEXT,
    "type": _TEXT,
    "fs": _TEXT,
    "path": _TEXT,
    "template": _TEXT,
    "allow-missing": {"type": "boolean"},
    "fixed": {"type": "boolean"},
    "portable": {"type": "boolean"},
    "encrypted": {"type": "boolean"},
}
_SCHEMA: Final = {"disks": {"type": "list", "schema": {"type": "dict", "schema": _DISK}}}


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a person wants of this program on this machine.

    ``disks``: for each disk that is to exist, by name, the parameters of ``create`` as they would be typed.
    """

    disks: Mapping[str, Mapping[str, str]]


def configuration_at(path: Path) -> Configuration:
    """What a file says; nothing if it does not exist. Raises ``BadUsage``: it is not right."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return Configuration({})
    except OSError as error:
        raise BadUsage(f"cannot read {path}: {error.strerror}", state="nothing was done") from error
    return read_configuration(text, str(path))


def read_configuration(text: bytes, origin: str) -> Configuration:
    """What a file says. Raises ``BadUsage``: line, key, what was expected, and what was probably meant."""
    disks: dict[str, Mapping[str, str]] = {}
    _, lines = parse_document(text, origin)
    for number, given in enumerate(read_document(text, _SCHEMA, origin).get("disks", ())):
        name = given["name"]
        if name in disks:
            place = ("disks", number, "name")
            raise refusal(origin, lines[place], place, f"{name} is declared twice")
        disks[name] = {key: str(value).lower() if value is True else value for key, value in given.items() if value}
    return Configuration(disks)
