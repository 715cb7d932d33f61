"""What a person would use instead of an export, and how it is called."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from portunix_vdisk.tests.bench.stage import Contestant, Stage, quoted, say

THREADS = os.cpu_count() or 1
PACKAGES = {"rsync": "rsync", "zip": "zip", "restic": "restic", "borg": "borgbackup"}
"""Programs that only the benchmark wants, and the Debian packages that have them."""


def install() -> None:
    """Install what is missing, with apt, where nobody has to be asked; without them their lines are left out."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not missing or shutil.which("apt-get") is None:
        return
    say(f"installing with apt: {' '.join(missing)}")
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
    for words in (["update"], ["install", "--no-install-recommends", *missing]):
        done = subprocess.run([*apt, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            say(f"that failed, their lines are left out: {done.stderr.strip().splitlines()[-1:]}")
            return


def has(program: str) -> bool:
    """Whether there is such a program."""
    return shutil.which(program) is not None


def removed(path: Path) -> Callable[[], None]:
    """An action that makes room: ``path`` is gone afterwards."""

    def remove() -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    return remove


def tar(stage: Stage) -> Contestant:
    """The tree in one compressed tar, with as many threads as ours."""
    line = f"tar -C {quoted(stage.tree.path)} -cf - . | zstd -q -3 -T{THREADS} -o {quoted(stage.packed)}"
    name = f"`tar \\| zstd -3 -T{THREADS}`"
    return Contestant(name, stage.shell(line), stage.tree.path, removed(stage.packed))


def untar(stage: Stage, folder: Path) -> Contestant:
    """That tar unpacked again."""

    def before() -> None:
        removed(folder)()
        folder.mkdir()

    line = f"zstd -dcq {quoted(stage.packed)} | tar -C {quoted(folder)} -xf -"
    return Contestant("`zstd -d \\| tar x`", stage.shell(line), stage.packed, before)


def compressed_image(stage: Stage, kind: str) -> Path:
    """Where ``qemu-img convert -c`` puts the disk."""
    return stage.folder / f"bench-{kind}.qcow2"


def qemu(stage: Stage, kind: str) -> Contestant:
    """The image as a compressed qcow2; ``kind`` is ``zlib`` or ``zstd``."""
    output = compressed_image(stage, kind)
    options = f"-c -O qcow2 -o compression_type={kind}"
    line = f"qemu-img convert -f vpc {options} {quoted(stage.image)} {quoted(output)}"
    return Contestant(f"`qemu-img convert -c` {kind}", stage.shell(line), stage.image, removed(output))


def unqemu(stage: Stage) -> Contestant:
    """That image as a VHD again."""
    packed, output = compressed_image(stage, "zstd"), stage.folder / "bench-qemu.vhd"
    line = f"qemu-img convert -f qcow2 -O vpc {quoted(packed)} {quoted(output)}"
    return Contestant("`qemu-img convert` of its zstd", stage.shell(line), packed, removed(output))


def zipped(stage: Stage) -> Contestant:
    """The tree in an ordinary ZIP."""
    output = stage.folder / "bench-tree.zip"
    line = f"cd {quoted(stage.tree.path)} && zip -qry {quoted(output)} ."
    return Contestant("`zip -r`", stage.shell(line), stage.tree.path, removed(output), once=True)


def copied(stage: Stage, output: Path) -> Contestant:
    """The tree as a tree, on the host's own filesystem."""
    line = f"cp -a {quoted(stage.tree.path)} {quoted(output)}"
    return Contestant("`cp -a`", stage.shell(line), stage.tree.path, removed(output))


def mirrored(stage: Stage, source: Path, output: Path, *, again: bool = False) -> Contestant:
    """The same with rsync; ``again`` brings an older copy up to date."""
    before = (lambda: None) if again else removed(output)
    line = f"rsync -a --delete {quoted(source)}/ {quoted(output)}/"
    return Contestant("`rsync -a`" + (" again" if again else ""), stage.shell(line), source, before)


class Backups:
    """The repositories of the two backup programs; each has the tree after its first backup."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        secret = stage.folder / "restic-password"
        secret.write_text("bench\n", encoding="ascii")
        cache = quoted(stage.folder / "restic-cache")
        self.repositories = {"restic": stage.folder / "restic", "borg": stage.folder / "borg"}
        restic = f"restic -q -r {quoted(self.repositories['restic'])} -p {quoted(secret)} --cache-dir {cache}"
        borg = f"env BORG_BASE_DIR={quoted(stage.folder / 'borg-base')} borg"
        repository = quoted(self.repositories["borg"])
        self._init = {"restic": f"{restic} init", "borg": f"{borg} init -e none {repository}"}
        self._backup = {
            "restic": f"{restic} backup --compression auto .",
            "borg": f"{borg} create -C zstd,3 {repository}::{{now:%H%M%S%f}} .",
        }

    @property
    def programs(self) -> list[str]:
        """Those that are there."""
        return [program for program in self.repositories if has(program)]

    def first(self, program: str, source: Path) -> Contestant:
        """Into an empty repository."""

        def before() -> None:
            removed(self.repositories[program])()
            self._stage.shell(self._init[program])()

        line = f"cd {quoted(source)} && {self._backup[program]}"
        return Contestant(f"`{program}`, first", self._stage.shell(line), source, before, once=True)

    def again(self, program: str, source: Path) -> Contestant:
        """Into one that has an earlier state of the same folder."""
        line = f"cd {quoted(source)} && {self._backup[program]}"
        return Contestant(f"`{program}` again", self._stage.shell(line), source)
