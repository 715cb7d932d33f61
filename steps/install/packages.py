"""Packages of languages on a disk, installed and removed by the language's own program from the disk itself."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.steps.durable import replace_text
from portunix_vdisk.steps.install.languages import LANGUAGES
from portunix_vdisk.steps.install.languages.language import Language, Place, bare
from portunix_vdisk.steps.install.lock import Lock, place_files
from portunix_vdisk.steps.install.record import STATE, InstalledPackage, read_installed
from portunix_vdisk.steps.install.remember import remember
from portunix_vdisk.steps.step import Context


@dataclass(frozen=True, slots=True)
class InstallPackages:
    """Packages of one language. What is there already stays; what a killed run left is made anew.

    Args:
        at: where.
        name: the language: a key of :data:`LANGUAGES`.
        packages: version by name, with extras; an empty one is the newest, or the one that is there.
        upgrade: take the newest also of what is there.
        lock: what has to be there exactly, on a disk that has no packages of the language yet.
    """

    at: Place
    name: str
    packages: Mapping[str, str]
    upgrade: bool = False
    lock: Lock | None = None

    def run(self, ctx: Context) -> dict[str, str]:
        """The version of each, by name. Raises ``Failed``, ``ToolFailed``, ``OSError``."""
        root, language = self.at.root, LANGUAGES[self.name]
        (root / language.folder).mkdir(parents=True, exist_ok=True)
        (root / STATE).mkdir(exist_ok=True)
        marker = _marker(root, self.name)
        again = marker.exists()
        installed = read_installed(root)
        asked = {one.name + one.extra: one.asked for one in installed.of(self.name)}
        asked = {name: version for name, version in asked.items() if bare(name) not in map(bare, self.packages)}
        asked |= self.packages
        replace_text(marker, "")
        if self.lock is not None and not installed.of(self.name):
            place_files(root, self.name, self.lock)
            language.reproduce(self.at, ctx)
            asked = {one.name + one.extra: one.asked for one in self.lock.installed.of(self.name)}
        else:
            names = frozenset(asked if again else self.packages)
            language.install(self.at, asked, names, self.upgrade, again, ctx)
        found = _found(language, root, asked)
        remember(root, installed.with_packages(self.name, _packages(self.name, asked, found)))
        marker.unlink()
        return {bare(name): found[name] for name in self.packages}


@dataclass(frozen=True, slots=True)
class RemovePackages:
    """Packages of one language go, with what only they needed.

    Args:
        at: where.
        name: the language.
        packages: their names.
    """

    at: Place
    name: str
    packages: tuple[str, ...]

    def run(self, ctx: Context) -> dict[str, str]:
        """Nothing. Raises ``Failed``, ``OSError``."""
        root, language = self.at.root, LANGUAGES[self.name]
        installed = read_installed(root)
        kept = [one for one in installed.of(self.name) if one.name not in self.packages]
        marker = _marker(root, self.name)
        replace_text(marker, "")
        if kept or (root / "bin" / language.program).exists():
            language.remove(self.at, self.packages, {one.name + one.extra: one.asked for one in kept}, ctx)
        else:  # all of them, and there is nobody left who could
            shutil.rmtree(root / language.folder)
        remember(root, installed.with_packages(self.name, kept))
        marker.unlink()
        return {}


def is_whole(root: Path, name: str) -> bool:
    """Whether no installation of a language's packages was interrupted."""
    return (root / LANGUAGES[name].folder).is_dir() and not _marker(root, name).exists()


def _marker(root: Path, name: str) -> Path:
    return root / STATE / f"unfinished-{name}"


def _found(language: Language, root: Path, asked: Mapping[str, str]) -> dict[str, str]:
    """The version of each that is there now, by its name as it was asked for."""
    versions = language.versions(root)
    missing = [name for name in asked if language.plain(name) not in versions]
    if missing:
        raise Failed(f"{language.program} said that it installed {missing[0]}, but it is not there")
    return {name: versions[language.plain(name)] for name in asked}


def _packages(name: str, asked: Mapping[str, str], found: Mapping[str, str]) -> list[InstalledPackage]:
    return [
        InstalledPackage(name, bare(one), found[one], version, one.removeprefix(bare(one)))
        for one, version in asked.items()
    ]
