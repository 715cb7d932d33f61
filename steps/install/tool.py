"""A tool on its way to a disk: what is wanted, where it may come from, what was chosen."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from portunix_vdisk.platform.errors import Failed


class Form(StrEnum):
    """How a file that was fetched is packed."""

    WHEEL = "wheel"
    TAR = "tar"
    ZIP = "zip"
    DEB = "deb"


@dataclass(frozen=True, slots=True)
class Source:
    """One place that a tool can be had from; see :class:`portunix_vdisk.templates.recipe.Source`."""

    kind: str
    package: str = ""
    packages: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    closed: bool = False
    repository: str = ""
    suite: str = "bookworm"
    keyring: str = ""
    language: str = ""
    address: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    versions: tuple[str, ...] = ()
    os: tuple[str, ...] = ()
    cpu: tuple[str, ...] = ()
    folder: str = ""
    commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tool that somebody wants.

    Args:
        name: the recipe's name.
        version: exact, the beginning of one, or ``latest``.
        sources: in the order in which they are tried.
        commands: names of commands and their files, seen from the tool's folder.
        environment: as in :class:`~portunix_vdisk.steps.install.record.InstalledTool`.
        files: what is written into its folder besides.
    """

    name: str
    version: str
    sources: tuple[Source, ...]
    commands: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file to fetch.

    Args:
        address: where it is.
        digest: ``sha256:`` or ``sha512:`` and the digest in hexadecimal.
        form: how it is packed.
        size: bytes, 0 where nobody said.
        folder: the folder in it whose content is taken, without slashes around it; empty means everything.
        helper: it is needed to install the tool, and not part of it.
    """

    address: str
    digest: str
    form: Form
    size: int = 0
    folder: str = ""
    helper: bool = False

    @property
    def name(self) -> str:
        """The file's name."""
        name = self.address.rpartition("/")[2].partition("?")[0]
        return re.sub(r"[^A-Za-z0-9._+~-]", "_", name)[-100:] or "file"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to be installed: one version of a tool, with every file of it known by digest."""

    name: str
    version: str
    source: str
    artifacts: tuple[Artifact, ...]
    commands: Mapping[str, str]
    environment: Mapping[str, str]
    files: Mapping[str, str]

    @property
    def folder(self) -> str:
        """Its place on the disk."""
        return f"tools/{self.name}/{self.version}"


class Unreachable(Failed):
    """A server could not be asked, or has not what it was asked for."""


class NoSuchVersion(Failed):
    """A source does not have the version that is wanted, or not for this machine."""


CPU: Final = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}
SYSTEM: Final = {"linux": "linux", "darwin": "macos", "win32": "windows"}


def this_cpu() -> str:
    """The processor of this machine, in the words of recipes."""
    return CPU.get(platform.machine().lower(), platform.machine().lower())


def this_system() -> str:
    """The operating system of this machine, in the words of recipes."""
    return SYSTEM.get(sys.platform, sys.platform)


def fits(version: str, wanted: str) -> bool:
    """Whether a version is the wanted one, or begins with it at a border: 20.1.0 with 20 and 20.1, not with 2."""
    if wanted in ("", "latest") or version == wanted:
        return True
    return version.startswith(wanted) and not (wanted[-1].isalnum() and version[len(wanted)].isdigit())
