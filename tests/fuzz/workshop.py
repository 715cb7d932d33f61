"""A folder in memory where bent archives are laid out, and what their content has to be judged by."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import judge
import small
from bending import Bent, damage, parse_keys
from blake3 import blake3
from script import Script
from store import bases

from portunix_vdisk.steps.archive.keyring import add_key
from portunix_vdisk.steps.archive.keys import MasterKey


class Workshop:
    """Holds one archive at a time."""

    def __init__(self, name: str) -> None:
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._root = Path(tempfile.mkdtemp(prefix=f"fuzz-{os.getpid()}-{name}-", dir=place))
        atexit.register(shutil.rmtree, self._root, ignore_errors=True)
        self._folder = self._root / "target"
        self._folder.mkdir()
        judge.allow(self._folder)
        for uuid, secret in parse_keys(bases()["keys.json"]).items():
            add_key(uuid, MasterKey(secret))
        self._house = small.house(self._folder)

    def set_up(self, base: str, script: Script, bend: tuple[str, ...] = ()) -> tuple[Any, bool]:
        """The files of a base, of which one was changed (of ``bend`` if given), and whether by accident only."""
        files = {name.partition("/")[2]: data for name, data in bases().items() if name.startswith(f"{base}/")}
        house = self._house
        house.new_process()
        self._empty()
        small.show(house, small.LAST)
        name = script.pick([one for one in sorted(files) if not bend or one.endswith(bend)])
        before = files.get(name.removesuffix(".next"), b"") if name.endswith(".next") else b""
        bent = Bent(files[name], before)
        for _ in range(script.below(4)):
            bent.bend(script)
        data = bent.build()
        assert not bent.honest or data == files[name], "it is not put together as it was"
        while script.left:
            data = damage(script, data)
        files[name] = data
        for path, content in files.items():
            (self._folder / path).write_bytes(content)
        return house, bent.honest

    def clean(self, house: Any) -> None:
        """Release files, and see that nothing lies beside the folder."""
        house.new_process()
        house.platform.opened.clear()
        assert os.listdir(self._root) == ["target"], "something was written beside the target"

    def _empty(self) -> None:
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def root_of_image(image: bytes, rows: list[int]) -> bytes:
    """The root as FORMAT.md has it, from an image; everything but the chunks at ``rows`` must be zeros."""

    def hashed(*parts: bytes) -> bytes:
        return blake3(b"".join(parts)).digest()

    level, known = [], set(rows)
    for offset in range(0, len(image), small.CHUNK):
        chunk = image[offset : offset + small.CHUNK]
        if offset in known:
            place = offset.to_bytes(8, "little") + len(chunk).to_bytes(4, "little")
            level.append(hashed(b"\0", place, blake3(chunk).digest()))
        else:
            assert not any(chunk), "something where the index has nothing"
    while len(level) > 1:
        pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
        level = [hashed(b"\1", *pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return hashed(b"\2", len(image).to_bytes(8, "little"), level[0] if level else bytes(32))
