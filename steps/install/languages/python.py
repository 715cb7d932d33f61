"""Packages of Python: ``env/python``, what pip's ``--target`` holds, put there by uv.

``.vdisk/requirements.txt`` says exactly what there is, with digests. Format:
https://pip.pypa.io/en/stable/reference/requirements-file-format/
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.steps.durable import replace_bytes, replace_text
from portunix_vdisk.steps.install.languages.language import Place, bare
from portunix_vdisk.steps.install.record import STATE, read_installed
from portunix_vdisk.steps.install.relocate import amend_records, rewrite_scripts
from portunix_vdisk.steps.step import Context

_PINS: Final = f"{STATE}/requirements.txt"


class Python:
    """uv; see :class:`~portunix_vdisk.steps.install.languages.language.Language`."""

    folder: Final = "env/python"
    program: Final = "uv"
    lock: Final = {"requirements.txt": _PINS}

    def install(
        self, at: Place, asked: Mapping[str, str], names: frozenset[str], upgrade: bool, again: bool, ctx: Context
    ) -> None:
        """See :class:`Language`."""
        beside = _emptied(at)
        pins = self._choose(at, asked, names if upgrade else frozenset(), beside, ctx)
        self._put(at, pins, again, beside, ctx)
        replace_bytes(at.root / _PINS, pins.read_bytes())
        shutil.rmtree(beside.parent)

    def reproduce(self, at: Place, ctx: Context) -> None:
        """See :class:`Language`."""
        beside = _emptied(at)
        self._put(at, at.root / _PINS, True, beside, ctx)
        shutil.rmtree(beside.parent)

    def remove(self, at: Place, names: Sequence[str], kept: Mapping[str, str], ctx: Context) -> None:
        """See :class:`Language`."""
        beside = _emptied(at)
        before = pinned(_text(at.root / _PINS))
        try:
            offline = Place(at.root, at.cache, True, at.environment)
            after = pinned(_text(self._choose(offline, kept, frozenset(), beside, ctx)))
        except Failed:  # nobody can say now what needed what, so that only these go
            gone = {self.plain(name) for name in names}
            after = {name: text for name, text in before.items() if name not in gone}
        gone = (before.keys() | {self.plain(name) for name in names}) - after.keys()
        words = ["pip", "uninstall", "--python", str(_python(at)), "--target", str(at.root / self.folder)]
        at.run("uv", [*words, "--", *sorted(gone)], beside, ctx)
        replace_text(at.root / _PINS, "".join(after.values()))
        shutil.rmtree(beside.parent)

    def versions(self, root: Path) -> dict[str, str]:
        """See :class:`Language`."""
        found = distributions(path=[str(root / self.folder)])
        return {self.plain(one.metadata["Name"] or ""): one.version for one in found}

    def newer(self, at: Place, names: Sequence[str], ctx: Context) -> dict[str, str]:
        """See :class:`Language`."""
        before = _versions_of(_text(at.root / _PINS))
        asked = {one.name + one.extra: one.asked for one in read_installed(at.root).of("pip")}
        at.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=at.cache) as beside:  # the disk may be mounted for reading only
            after = _versions_of(_text(self._choose(at, asked, frozenset(names), Path(beside), ctx)))
        plain = {name: self.plain(name) for name in names}
        return {name: after[one] for name, one in plain.items() if after.get(one) != before.get(one)}

    def plain(self, name: str) -> str:
        """PyPI's ``Foo_Bar`` is ``foo-bar``."""
        return re.sub(r"[-_.]+", "-", bare(name)).lower()

    def _choose(self, at: Place, asked: Mapping[str, str], upgrade: frozenset[str], beside: Path, ctx: Context) -> Path:
        """A file of every version, those that are there as far as possible."""
        pins, wanted = beside / "requirements.txt", beside / "requirements.in"
        if (at.root / _PINS).is_file():
            shutil.copyfile(at.root / _PINS, pins)
        wanted.write_text("".join(f"{_requirement(name, version)}\n" for name, version in asked.items()))
        words = ["pip", "compile", "--quiet", "--python", str(_python(at)), "--generate-hashes"]
        words += ["--no-header", "--no-annotate", "--output-file", str(pins)]
        words += [word for name in sorted(upgrade) for word in ("--upgrade-package", self.plain(name))]
        self._uv(at, [*words, str(wanted)], beside, ctx)
        return pins

    def _put(self, at: Place, pins: Path, again: bool, beside: Path, ctx: Context) -> None:
        """Install them; what a killed run left is not told from what is whole, and made anew beside it."""
        folder, program = at.root / self.folder, _python(at)
        target = beside / "new" if again else folder
        words = ["pip", "install", "--python", str(program), "--target", str(target), "--link-mode", "copy"]
        self._uv(at, [*words, "--no-deps", "--require-hashes", "--requirements", str(pins)], beside, ctx)
        if again:
            target.mkdir(exist_ok=True)
            folder.rename(beside / "former")
            target.rename(folder)
        amend_records(folder, rewrite_scripts(folder / "bin", "../../../", program))

    def _uv(self, at: Place, words: Sequence[str], folder: Path, ctx: Context) -> None:
        more = ["--cache-dir", str(at.cache / "uv"), *(["--offline"] if at.offline else [])]
        at.run("uv", [*words, *more], folder, ctx, {"UV_PYTHON_DOWNLOADS": "never"})


def pinned(text: str) -> dict[str, str]:
    """What a file of requirements says of each package, by name."""
    return {
        block.partition("==")[0].partition("[")[0]: block
        for block in re.findall(r"^[^\s#].*\n(?:\s+.*\n)*", text, re.M)
    }


def _versions_of(text: str) -> dict[str, str]:
    return {name: block.partition("==")[2].split()[0] for name, block in pinned(text).items()}


def _emptied(at: Place) -> Path:
    """A folder on the disk for what is in the works."""
    beside = at.root / STATE / "staging" / "python"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    return beside


def _python(at: Place) -> Path:
    python = read_installed(at.root).active("python")
    if python is None:
        raise Failed("there is no Python on the disk", hint="portunix vdisk install python")
    return at.root / python.folder / python.commands["python3"]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _requirement(name: str, version: str) -> str:
    if not version or version[0] in "<>=~!":
        return f"{name}{version}"
    return f"{name}=={version}" if version.count(".") > 1 else f"{name}=={version}.*"
