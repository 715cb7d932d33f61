"""Packages of npm: ``env/node`` with package.json, package-lock.json and node_modules.

Formats: https://docs.npmjs.com/cli/configuring-npm/package-lock-json
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.steps.install.languages.language import Place, bare
from portunix_vdisk.steps.step import Context


class Node:
    """npm; see :class:`~portunix_vdisk.steps.install.languages.language.Language`."""

    folder: Final = "env/node"
    program: Final = "npm"
    lock: Final = {name: f"env/node/{name}" for name in ("package.json", "package-lock.json")}

    def install(
        self, at: Place, asked: Mapping[str, str], names: frozenset[str], upgrade: bool, again: bool, ctx: Context
    ) -> None:
        """See :class:`Language`."""
        if again:  # npm knows what should be there by package-lock.json, and its cache has it
            shutil.rmtree(at.root / self.folder / "node_modules", ignore_errors=True)
        newest = "@latest" if upgrade else ""
        wanted = [f"{name}@{asked[name]}" if asked[name] else f"{name}{newest}" for name in sorted(names)]
        self._npm(at, "install", wanted, ctx)

    def reproduce(self, at: Place, ctx: Context) -> None:
        """See :class:`Language`."""
        self._npm(at, "ci", (), ctx)

    def remove(self, at: Place, names: Sequence[str], kept: Mapping[str, str], ctx: Context) -> None:
        """See :class:`Language`."""
        self._npm(at, "uninstall", names, ctx)

    def versions(self, root: Path) -> dict[str, str]:
        """See :class:`Language`."""
        found = {}
        modules = root / self.folder / "node_modules"
        for path in (*modules.glob("*/package.json"), *modules.glob("@*/*/package.json")):
            try:
                found[str(path.parent.relative_to(modules))] = str(json.loads(path.read_bytes())["version"])
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def newer(self, at: Place, names: Sequence[str], ctx: Context) -> dict[str, str]:
        """See :class:`Language`."""
        folder = at.root / self.folder
        words = ["outdated", "--json", "--loglevel=silent", "--prefix", str(folder), "--cache", str(at.cache / "npm")]
        # It ends with 1 when something is outdated.
        lines = at.run("npm", [*words, *(["--offline"] if at.offline else [])], folder, ctx, good=(0, 1))
        found = json.loads("\n".join(lines) or "{}")
        if "error" in found:
            raise Failed(f"npm cannot say what is outdated: {found['error'].get('summary', '')}".strip())
        return {
            name: str(found[name]["wanted"])
            for name in names
            if name in found and found[name]["wanted"] != found[name].get("current")
        }

    def plain(self, name: str) -> str:
        """See :class:`Language`."""
        return bare(name)

    def _npm(self, at: Place, verb: str, names: Sequence[str], ctx: Context) -> None:
        folder = at.root / self.folder
        words = [verb, "--prefix", str(folder), "--no-fund", "--no-audit", "--loglevel=http"]
        # The lock names the files, whatever the person's own settings say: without, a cache is no help offline.
        words += [
            "--omit-lockfile-registry-resolved=false",
            "--cache",
            str(at.cache / "npm"),
            *(["--offline"] if at.offline else []),
            "--",
            *names,
        ]
        at.run("npm", words, folder, ctx)
