"""What may not lie on a disk that is exported while it is mounted."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from portunix_vdisk.platform.base import Attachment
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.platform.home import Home
from portunix_vdisk.tasks.live_source import LiveExport

OTHER = Path("/dev/shm")
"""A filesystem that is not the one of the test's folder."""


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LiveExport]:
    """An export of a disk that is mounted at the test's folder; all else lies elsewhere unless it is said."""
    assert tmp_path.stat().st_dev != OTHER.stat().st_dev
    (tmp_path / "image").touch()

    def make(home: Path = OTHER, output: Path = OTHER / "a.zip", temporary: Path = OTHER, **more: Any) -> LiveExport:
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        held = Attachment(tmp_path / "image", "/dev/loop9", **({"read_only": False} | more), mount_point=tmp_path,
                          mount_point_made=False, daemon_pid=1)  # fmt: skip
        platform = SimpleNamespace(attachment=lambda image: held)
        session: Any = SimpleNamespace(home=Home(home), platform=platform)
        disk: Any = SimpleNamespace(name="my-dev", path=tmp_path / "image")
        return LiveExport(session, disk, output)

    return make


def test_elsewhere_it_may(export: Callable[..., LiveExport]) -> None:
    export().check()


def test_on_the_disk_it_may_not(export: Callable[..., LiveExport], tmp_path: Path) -> None:
    link = OTHER / "portunix-test-link"
    link.symlink_to(tmp_path)
    try:
        for place, where in (
            ("output", tmp_path / "deep/new/a.zip"),
            ("output", link / "a.zip"),
            ("home", tmp_path / "home"),
            ("temporary", tmp_path / "tmp"),
        ):
            with pytest.raises(Refused, match="lies on my-dev itself") as caught:
                export(**{place: where}).check()
            assert "unmount my-dev" in caught.value.hint
            export(**{place: where}, read_only=True).check()  # nothing has to be held still
    finally:
        link.unlink()


def test_one_that_is_broken_is_not_exported(export: Callable[..., LiveExport]) -> None:
    with pytest.raises(Refused, match="cannot be exported: the storage daemon has died"):
        export(problem="the storage daemon has died").check()
