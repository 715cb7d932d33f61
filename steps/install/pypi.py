"""Tools that are wheels on the Python Package Index.

Its JSON API: https://packaging.python.org/en/latest/specifications/simple-repository-api/
"""

from __future__ import annotations

import json
from typing import Any, Final

from packaging.tags import sys_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from portunix_vdisk.steps.install.tool import Artifact, Form, NoSuchVersion, Source, Unreachable, fits
from portunix_vdisk.steps.install.web import Web

INDEX: Final = "https://pypi.org/simple"
_ACCEPT: Final = "application/vnd.pypi.simple.v1+json"


def newest_wheel(web: Web, package: str, wanted: str, folder: str = "", index: str = INDEX) -> tuple[str, Artifact]:
    """The newest version that fits, of those with a wheel for this machine, and that wheel.

    Versions before their release, and those that were withdrawn, are taken only where exactly they are wanted.
    Raises ``Unreachable``, ``NoSuchVersion``.
    """
    address = f"{index}/{package}/"
    try:
        files = json.loads(web.index(address, _ACCEPT))["files"]
        wheels = [found for one in files if (found := _wheel(one, wanted))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreachable(f"{address} does not answer as the Python Package Index does: {error!r}") from error
    ranks = {tag: -number for number, tag in enumerate(sys_tags())}
    usable = [
        ((version, max(rank)), one) for version, tags, one in wheels if (rank := [ranks[t] for t in tags if t in ranks])
    ]
    if not usable:
        there = sorted({version for version, _, _ in wheels})
        why = f"has no wheel for this machine of {package} {there[-1]}" if there else f"has no {package} {wanted}"
        raise NoSuchVersion(f"pypi.org {why}")
    (version, _), chosen = max(usable, key=lambda pair: pair[0])
    digest = chosen["hashes"].get("sha256", "")
    if len(digest) != 64:
        raise Unreachable(f"{address} gives no SHA-256 of {chosen['filename']}")
    return str(version), Artifact(chosen["url"], f"sha256:{digest}", Form.WHEEL, chosen.get("size") or 0, folder)


def find(web: Web, source: Source, wanted: str) -> tuple[str, tuple[Artifact, ...]]:
    """Version and files of a tool; see :func:`newest_wheel`."""
    version, wheel = newest_wheel(web, source.package, wanted, source.folder)
    return version, (wheel,)


def _wheel(file: dict[str, Any], wanted: str) -> tuple[Version, frozenset[Any], dict[str, Any]] | None:
    if not file["filename"].endswith(".whl"):
        return None
    try:
        _, version, _, tags = parse_wheel_filename(file["filename"])
    except InvalidWheelFilename:
        return None
    if not fits(str(version), wanted):
        return None
    if str(version) != wanted and (version.is_prerelease or file.get("yanked")):
        return None
    return version, tags, file
