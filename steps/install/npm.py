"""Tools that are packages of npm's registry: https://github.com/npm/registry/blob/main/docs/responses/package-metadata.md"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Final
from urllib.parse import quote

from packaging.version import InvalidVersion, Version

from portunix_vdisk.steps.install.tool import Artifact, Form, NoSuchVersion, Source, Unreachable, fits
from portunix_vdisk.steps.install.web import Web

REGISTRY: Final = "https://registry.npmjs.org"
_ACCEPT: Final = "application/vnd.npm.install-v1+json"
_FOLDER: Final = "package"
"""Where everything lies in npm's archives."""


def find(web: Web, source: Source, wanted: str, registry: str = REGISTRY) -> tuple[str, tuple[Artifact, ...]]:
    """The newest version that fits, and its file. Raises ``Unreachable``, ``NoSuchVersion``."""
    address = f"{registry}/{quote(source.package, safe='@')}"
    try:
        said = json.loads(web.index(address, _ACCEPT))
        versions = {
            version: (text, one)
            for text, one in said["versions"].items()
            if fits(text, wanted) and (version := _version(text)) and (not version.is_prerelease or text == wanted)
        }
        latest = _version(said["dist-tags"]["latest"]) if wanted in ("", "latest") else None
        if not versions:
            raise NoSuchVersion(f"registry.npmjs.org has no {source.package} {wanted}")
        chosen = latest if latest in versions else max(versions)
        text, one = versions[chosen]
        digest = _digest(one["dist"]["integrity"])
        folder = "/".join(part for part in (_FOLDER, source.folder) if part)
        return text, (Artifact(one["dist"]["tarball"], digest, Form.TAR, 0, folder),)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreachable(f"{address} does not answer as npm's registry does: {error!r}") from error


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _digest(integrity: str) -> str:
    """The strongest of ``sha512-BASE64 …`` in our form; SHA-1 is none."""
    for algorithm, length in (("sha512", 64), ("sha256", 32)):
        for word in integrity.split():
            name, _, text = word.partition("-")
            if name == algorithm:
                try:
                    digest = base64.b64decode(text, validate=True)
                except binascii.Error as error:
                    raise ValueError(f"{word} is no digest") from error
                if len(digest) == length:
                    return f"{algorithm}:{digest.hex()}"
    raise ValueError(f"{integrity!r} has no digest to trust")
