"""A Linux kernel that is not this machine's: Debian's for virtual machines, unpacked into the cache, never installed.

The cache is ``${XDG_CACHE_HOME:-~/.cache}/portunix-vdisk``; removing that folder costs only the next download (27 MB).
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.tests.bench.environment import cache_folder

_META_PACKAGE = "linux-image-cloud-amd64"
_FOLDER = "guest-kernel-v1"
_PARTS = ("boot/vmlinuz-*", "lib/modules/*")
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel package."""

    image: Path
    modules: dict[str, Path]
    """File of each module, by name with underscores; what is built in has none."""

    def with_needed(self, names: Sequence[str]) -> list[Path]:
        """The files of these modules and of all that they need, in an order in which they can be loaded."""
        found: dict[str, Path] = {}

        def add(name: str) -> None:
            file = self.modules.get(name)
            if file is None or name in found:
                return
            # depmod's list is made when the package is installed; this is where it takes it from.
            for needed in _DEPENDS.findall(file.read_bytes()):
                for other in filter(None, needed.decode().split(",")):
                    add(other.replace("-", "_"))
            found[name] = file

        for name in names:
            add(name.replace("-", "_"))
        return list(found.values())


def kernel() -> Kernel:
    """The kernel, downloaded with apt if it is not in the cache; several processes may ask at once.

    Raises ``subprocess.CalledProcessError`` when apt cannot get it.
    """
    final = cache_folder() / _FOLDER
    final.parent.mkdir(parents=True, exist_ok=True)
    with final.with_name(f"{final.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.is_dir():
            partial = final.with_name(f"{final.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _unpack(_download(partial), partial)
            partial.rename(final)
    (image,) = final.glob("boot/vmlinuz-*")
    modules = {file.stem.replace("-", "_"): file for file in final.glob("lib/modules/*/kernel/**/*.ko")}
    return Kernel(image, modules)


def _download(folder: Path) -> Path:
    try:
        _fetch(folder)
    except subprocess.CalledProcessError:  # the lists are missing, or older than what the mirror still has
        subprocess.run(["apt-get", "-q", "update"], check=True, capture_output=True)
        _fetch(folder)
    (package,) = folder.glob("*.deb")
    return package


def _fetch(folder: Path) -> None:
    depends = subprocess.run(["apt-cache", "depends", _META_PACKAGE], check=True, capture_output=True, text=True)
    names = re.findall(r"Depends: (linux-image-\S+)", depends.stdout)
    subprocess.run(["apt-get", "-q", "download", *names], cwd=folder, check=True, capture_output=True)


def _unpack(package: Path, folder: Path) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as source:
        wanted = [f"./{part}" for part in _PARTS]
        subprocess.run(["tar", "-x", "--wildcards", *wanted], cwd=folder, stdin=source.stdout, check=True)
    assert source.returncode == 0, f"dpkg-deb could not read {package}"
    package.unlink()
