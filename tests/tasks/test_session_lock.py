"""The lock of an image belongs to the file, and the file may be replaced while somebody waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.platform.home import Home
from portunix_vdisk.platform.locks import OperationLock
from portunix_vdisk.tasks import session
from portunix_vdisk.tasks.listening import Silent
from portunix_vdisk.tasks.session import Session, lock_key


def test_a_file_replaced_while_waiting_is_locked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, other = tmp_path / "image", tmp_path / "other"
    image.write_text("old")
    other.write_text("new")
    taken: list[str] = []

    class Slow(OperationLock):
        def __init__(self, folder: Path, key: str, *more: Any) -> None:
            super().__init__(folder, key, *more)
            taken.append(key)
            if other.exists():
                other.replace(image)

    monkeypatch.setattr(session, "OperationLock", Slow)
    before = lock_key(image)
    with Session(Home(tmp_path / "home"), Silent(), tmp_path) as running:
        running.lock(image, "test")
        assert len(taken) == 2
        running.lock(image, "test")
    assert taken == [before, lock_key(image)]
    assert before != lock_key(image)
