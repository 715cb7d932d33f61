"""Which language is meant by the bare name of a well-known package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from portunix_vdisk.templates.document import read_document

_NAMES = {"type": "list", "required": True, "schema": {"type": "string"}}
_SCHEMA = {"npm": _NAMES, "pip": _NAMES}


@cache
def _languages() -> dict[str, str]:
    text = (files("portunix_vdisk.templates") / "packages.yaml").read_bytes()
    found = read_document(text, _SCHEMA, "packages.yaml")
    return {name: language for language, names in found.items() for name in names}


def language_of(package: str) -> str | None:
    """The language, ``npm`` or ``pip``, of a package that everybody knows; None of any other."""
    return _languages().get(package)
