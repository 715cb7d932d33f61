"""Makes what inputs are bent from: ``python tests/fuzz/bases.py``. The result is committed, so that a seed keeps its
meaning: inputs are changes to these files.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import small
import store

from portunix_vdisk.steps.archive.keyring import key_of, set_new_password
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.seal import Seal

FILESYSTEMS = {
    "1k": ("-b", "1024", "-O", "^has_journal", "-N", "64"),
    "4k": ("-b", "4096", "-O", "^has_journal,^64bit", "-N", "64"),
    "map": ("-b", "1024", "-O", "^has_journal,^extents,^64bit,^metadata_csum", "-N", "64"),
}


def make_filesystems(work: Path) -> None:
    tree = work / "tree"
    (tree / "folder" / "inner").mkdir(parents=True)
    (tree / "folder" / "inner" / "file").write_bytes(b"content" * 900)
    (tree / "large").write_bytes(b"x" * 400_000)
    (tree / "link").symlink_to("y" * 100)
    for name, options in FILESYSTEMS.items():
        made = work / "bases" / f"{name}.ext4"
        with made.open("xb") as file:
            file.truncate(2 << 20 if name != "4k" else 4 << 20)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", *options, "-d", str(tree), str(made)], check=True)


def _full(house: Any) -> None:
    small.show(house, 1)
    house.export()
    house.new_process()


def _generations(house: Any) -> None:
    _full(house)
    small.show(house, 2)
    house.export()


def _delta(house: Any) -> None:
    _full(house)
    house.output.rename(house.folder / "base.zip")
    small.show(house, 2)
    house.options["base"] = house.folder / "base.zip"
    house.export()


def _partial(house: Any) -> None:
    house.pack()


def _sealed(house: Any) -> None:
    house.pack()
    Seal(house.export_of()).run(house.ctx)


def _next(house: Any) -> None:
    _full(house)
    small.show(house, 2)
    house.pack()


def _sealed_next(house: Any) -> None:
    _full(house)
    small.show(house, 2)
    _sealed(house)


ARCHIVES = {"full": _full, "generations": _generations, "delta": _delta, "partial": _partial}
ARCHIVES |= {"sealed": _sealed, "next": _next, "sealed-next": _sealed_next}
WAYS: dict[str, tuple[str, ...]] = {"plain": tuple(ARCHIVES), "encrypted": ("generations", "partial", "next", "delta")}
WAYS |= {"volumes": ("generations", "next")}


def make_archives(work: Path) -> None:
    keys: dict[str, str] = {}
    for way, names in WAYS.items():
        for name in names:
            folder = work / "bases" / f"{name}-{way}"
            folder.mkdir()
            house = small.house(folder)
            if way == "encrypted":
                house.options["encrypted"] = True
                set_new_password(house.output, b"secret")
            if way == "volumes":
                house.options["volume_size"] = small.VOLUME
            ARCHIVES[name](house)
            house.new_process()
            house.image.unlink()
            for path in folder.glob("*.zip") if way == "encrypted" else ():
                with ArchiveReader(path) as reader:
                    uuid = reader.header.archive_uuid
                keys[uuid] = key_of(uuid, path).secret().hex()
    (work / "bases" / "keys.json").write_text(json.dumps(keys, indent=1) + "\n")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "bases").mkdir()
        make_filesystems(work)
        make_archives(work)
        store.keep(work / "bases")
    return 0


if __name__ == "__main__":
    sys.exit(main())
