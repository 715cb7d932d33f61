"""The level follows what the medium takes."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from portunix_vdisk.platform.errors import Interrupted
from portunix_vdisk.steps.archive import storage, write_back
from portunix_vdisk.steps.archive.pace import LADDER, next_level
from portunix_vdisk.steps.archive.packing import LEVEL, Packer

MIB = 1 << 20


@pytest.mark.parametrize(
    ("level", "busy", "then"),
    [(3, 1.0, 4), (3, 0.96, 4), (3, 0.95, 3), (3, 0.5, 3), (3, 0.49, 2), (1, 0.0, 1), (12, 1.0, 12), (9, 1.0, 12)],
)
def test_next_level(level: int, busy: float, then: int) -> None:
    assert next_level(level, busy) == then


def test_the_ladder_has_the_level_to_begin_with() -> None:
    assert LEVEL in LADDER
    assert list(LADDER) == sorted(set(LADDER))


class Medium:
    """What the system does, with a medium that takes ``speed`` bytes a second."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._behind = 0.0
        self._os = storage.os

    def __getattr__(self, name: str) -> Any:
        return getattr(self._os, name)

    def pwritev(self, descriptor: int, parts: Any, offset: int) -> int:
        written = self._os.pwritev(descriptor, parts, offset)
        self._behind += written / self._speed
        return written

    def fdatasync(self, descriptor: int) -> None:
        behind, self._behind = self._behind, 0.0
        time.sleep(behind)


def fill(house: Any) -> None:
    """A disk of 15 chunks, each with some bytes that hardly compress."""
    dice = random.Random(4)
    house.make(60 * MIB, {4 * MIB * number: dice.randbytes(128 << 10) for number in range(15)})


@pytest.mark.parametrize(("speed", "expected"), [(1e6, LADDER[3:]), (1e12, LADDER[:2])], ids=["slow", "fast"])
def test_level_follows_the_medium(
    house: Any, monkeypatch: pytest.MonkeyPatch, speed: float, expected: tuple[int, ...]
) -> None:
    fill(house)
    levels: list[int] = []
    pack = Packer.pack
    monkeypatch.setattr(Packer, "pack", lambda self, offset: (levels.append(self.level), pack(self, offset))[1])
    monkeypatch.setattr(write_back, "_AT_ONCE", 64 << 10)
    monkeypatch.setattr(storage, "os", Medium(speed))
    house.options["level"] = None
    house.export()
    assert levels[0] == LEVEL
    assert levels[-1] in expected, levels
    house.import_()
    house.assert_same()


def test_a_level_that_was_asked_for_stays(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(house)
    levels: set[int] = set()
    pack = Packer.pack
    monkeypatch.setattr(Packer, "pack", lambda self, offset: (levels.add(self.level), pack(self, offset))[1])
    monkeypatch.setattr(write_back, "_AT_ONCE", 64 << 10)
    monkeypatch.setattr(storage, "os", Medium(1e6))
    house.export()
    assert levels == {LEVEL}


def test_waiting_for_the_medium_can_be_interrupted(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(house)
    monkeypatch.setattr(write_back, "_AT_ONCE", 64 << 10)
    monkeypatch.setattr(storage, "os", Medium(1e6))
    began = time.monotonic()
    house.talk.cancel = lambda: time.monotonic() > began + 0.5
    with pytest.raises(Interrupted):
        house.export()
    house.talk.cancel = lambda: False
    monkeypatch.undo()
    house.export()
    house.import_()
    house.assert_same()
