"""Packages of Go: ``env/go`` is GOPATH, with a module in ``modules`` that requires what was asked for.

Formats: https://go.dev/ref/mod#go-mod-file, https://go.dev/ref/mod#go-sum-files
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from portunix_vdisk.steps.install.languages.language import Place, bare
from portunix_vdisk.steps.step import Context

_MODULE: Final = "modules"


class Go:
    """The go command; see :class:`~portunix_vdisk.steps.install.languages.language.Language`."""

    folder: Final = "env/go"
    program: Final = "go"
    lock: Final = {name: f"env/go/{_MODULE}/{name}" for name in ("go.mod", "go.sum")}

    def install(
        self, at: Place, asked: Mapping[str, str], names: frozenset[str], upgrade: bool, again: bool, ctx: Context
    ) -> None:
        """See :class:`Language`."""
        module = at.root / self.folder / _MODULE
        module.mkdir(exist_ok=True)
        if not (module / "go.mod").exists():
            self._go(at, ["mod", "init", _MODULE], ctx)
        # Offline it cannot be asked what the latest is.
        newest = "" if at.offline else "@latest"
        wanted = [f"{name}@{asked[name]}" if asked[name] else f"{name}{newest}" for name in sorted(names)]
        self._go(at, ["get", *wanted], ctx)
        self._go(at, ["mod", "download", "all"], ctx)

    def reproduce(self, at: Place, ctx: Context) -> None:
        """See :class:`Language`."""
        self._go(at, ["mod", "download", "all"], ctx)

    def remove(self, at: Place, names: Sequence[str], kept: Mapping[str, str], ctx: Context) -> None:
        """See :class:`Language`."""
        self._go(at, ["get", *(f"{name}@none" for name in names)], ctx)

    def versions(self, root: Path) -> dict[str, str]:
        """See :class:`Language`."""
        text = (root / self.lock["go.mod"]).read_text(encoding="utf-8")
        return dict(re.findall(r"^(?:require)?\s+([^\s()]+)\s+(v[^\s]+)", text, re.MULTILINE))

    def newer(self, at: Place, names: Sequence[str], ctx: Context) -> dict[str, str]:
        """See :class:`Language`."""
        shown = "{{with .Update}}{{.Path}} {{.Version}}{{end}}"
        lines = self._go(at, ["list", "-m", "-u", "-f", shown, *names], ctx)
        return dict(pair for line in lines if len(pair := line.split()) == 2)

    def plain(self, name: str) -> str:
        """See :class:`Language`."""
        return bare(name)

    def _go(self, at: Place, words: Sequence[str], ctx: Context) -> list[str]:
        more = {"GOFLAGS": "-modcacherw"} | ({"GOPROXY": "off"} if at.offline else {})
        return at.run("go", words, at.root / self.folder / _MODULE, ctx, more)
