"""Whose disk an image is, by its top folder; nothing in it is trusted."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portunix_vdisk.platform.base import MIB, Owner
from portunix_vdisk.steps.foreign.owners import owner_in

START = 512


@pytest.mark.parametrize(
    ("options", "owner"),
    [
        ("root_owner=1234:5678", Owner(1234, 5678)),
        ("root_owner=70000:4294967294", Owner(70000, 2**32 - 2)),
        ("root_owner=0:5", None),
    ],
)
@pytest.mark.parametrize("block", [1024, 4096])
def test_the_owner_of_the_top_folder(tmp_path: Path, options: str, owner: Owner | None, block: int) -> None:
    made = tmp_path / "fs"
    command = ["mke2fs", "-q", "-t", "ext4", "-b", str(block), "-E", options, made, "4M"]
    subprocess.run(command, check=True, capture_output=True)
    data = bytes(START) + made.read_bytes()
    assert owner_in(lambda offset, length: data[offset : offset + length], START, 4 * MIB) == owner


@given(st.binary(max_size=4096), st.integers(0, 8192))
def test_anything_else_has_none_that_can_be_told(noise: bytes, length: int) -> None:
    assert owner_in(lambda offset, size: noise[offset : offset + size], 0, length) is None
