"""The benchmark itself runs, from the commands to the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).with_name("bench.py")


@pytest.mark.full
def test_one_group_of_rows_on_a_small_tree(tmp_path: Path) -> None:
    """Needs what the small environment is downloaded from, the first time. Whether targets are reached is no test."""
    found = tmp_path / "figures.json"
    command = [
        sys.executable,
        BENCH,
        "--tree",
        "small",
        "--runs",
        "1",
        "--rows",
        "resume",
        "--json",
        found,
        "--folder",
        tmp_path,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "| export, resumed after a kill at 90% |" in done.stdout
    figures = json.loads(found.read_text())
    (line,) = figures["lines"]
    assert line["reached"] in (True, False) and line["values"]["share"] > 0
    assert len(line["values"]["ours"]["synced"]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json"]
