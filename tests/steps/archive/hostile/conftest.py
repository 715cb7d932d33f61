"""Archives made to hurt: each is refused at once, in little memory, and nothing is written outside the target."""

from __future__ import annotations

from pathlib import Path

import pytest

from portunix_vdisk.tests.support.forging import Forge


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path / "forged.zip")
