"""Which disks a machine is to have, as a person writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.templates.configuration import Configuration, configuration_at, read_configuration

GOOD = b"""
disks:
  - name: my-dev
    size: 20GB
  - {name: safe, size: 1GiB, type: qcow2, fs: ntfs, path: /data/, encrypted: true, fixed: false}
"""


def test_disks_are_the_parameters_of_create() -> None:
    assert read_configuration(GOOD, "f").disks == {
        "my-dev": {"name": "my-dev", "size": "20GB"},
        "safe": {
            "name": "safe",
            "size": "1GiB",
            "type": "qcow2",
            "fs": "ntfs",
            "path": "/data/",
            "encrypted": "true",
        },
    }


def test_no_file_and_an_empty_one_declare_nothing(tmp_path: Path) -> None:
    assert configuration_at(tmp_path / "config.yaml") == Configuration({})
    (tmp_path / "config.yaml").write_text("# nothing yet\n")
    assert configuration_at(tmp_path / "config.yaml") == Configuration({})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("disk:\n  - name: x\n", r"f, line 1: disk: this key is not known; did you mean disks"),
        ("disks: my-dev\n", r"f, line 1: disks: .*list"),
        ("disks:\n  - my-dev\n", r"f, line 2: disks.0"),
        ("disks:\n  - size: 20GB\n", r"f, line 2: disks.0.name: required"),
        ("disks:\n  - {name: x, sise: 20GB}\n", r"f, line 2: disks.0.sise: this key is not known; did you mean size"),
        ("disks:\n  - {name: x, size: 20}\n", r"f, line 2: disks.0.size: must be of string type"),
        ("disks:\n  - {name: x, encrypted: 'maybe'}\n", r"f, line 2: disks.0.encrypted"),
        ("disks:\n  - {name: x}\n  - {name: x}\n", r"f, line 3: disks.1.name: x is declared twice"),
        ("disks:\n  - {name: ''}\n", r"f, line 2: disks.0.name"),
        ("disks: [\n", r"f, line"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, says: str) -> None:
    with pytest.raises(BadUsage, match=says):
        read_configuration(text.encode(), "f")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match="cannot read"):
        configuration_at(tmp_path)
