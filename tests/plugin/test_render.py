from __future__ import annotations

import io

import pytest

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.plugin.outcome import Outcome
from portunix_vdisk.plugin.render import render, render_problem, table
from portunix_vdisk.tasks.operations import OPERATIONS
from portunix_vdisk.tests.plugin.results import INSTALLED, RESULTS
from portunix_vdisk.tests.plugin.stand_in import DISK, sync_result, told


@pytest.mark.parametrize("name", [operation.name for operation in OPERATIONS])
def test_every_result_can_be_shown(name: str) -> None:
    lines = render(name, RESULTS[name])
    assert lines and all(line and "\n" not in line for line in lines)


def test_disks_in_aligned_columns() -> None:
    other = DISK | {"name": "x", "size": "900.0 MB", "mount_point": "/mnt/x", "used_bytes": 1}
    assert render("list", {"disks": [DISK, other]}) == [
        "NAME        SIZE    USED  TYPE  STATE              PATH",
        "my-dev   20.0 GB  4.4 MB  vhd   ready              /disks/my-dev.vhd",
        "x       900.0 MB     1 B  vhd   mounted at /mnt/x  /disks/my-dev.vhd",
    ]
    assert "create" in render("list", {"disks": []})[0]


def test_what_is_installed_in_aligned_columns() -> None:
    assert render("list", INSTALLED) == [
        "NAME    VERSION  ACTIVE  FROM  COMMANDS",
        "nodejs  20.20.2  active  pypi  node, npx",
        "react   18.3.1   -       npm   -",
    ]
    assert render("list", INSTALLED | {"tools": [], "packages": []}) == ["nothing is installed on my-dev"]


def test_an_environment_as_lines_for_each_shell() -> None:
    assert render("env", RESULTS["env"])[0] == 'export PATH=/mnt/dev/bin"${PATH:+:$PATH}"'
    assert render("env", RESULTS["env"] | {"shell": "fish"})[0] == "set -gx --path PATH '/mnt/dev/bin' $PATH"


def test_a_table_of_nothing_is_its_head() -> None:
    assert table(("A", "B"), []) == ["A  B"]


@pytest.mark.parametrize(
    ("name", "changed", "words"),
    [
        ("create", {"changed": False}, "exists"),
        ("mount", {"changed": False}, "already mounted at /mnt/dev"),
        ("unmount", {"changed": False}, "was not mounted"),
        ("export", {"changed": False}, "is up to date"),
        ("import", {"changed": False, "damage": None}, "exists already"),
        ("delete", {"deleted": False}, "was kept"),
        ("archive mount", {"changed": False}, "already mounted at /mnt/look"),
        ("archive unmount", {"changed": False}, "was not mounted"),
    ],
)
def test_doing_it_again_is_said(name: str, changed: dict[str, bool | None], words: str) -> None:
    assert words in render(name, RESULTS[name] | changed)[0]


@pytest.mark.parametrize("name", ["create", "import"])
def test_an_abort_is_told(name: str) -> None:
    assert "undone" in render(name, {"disk": None, "changed": True})[0]
    assert "nothing to undo" in render(name, {"disk": None, "changed": False})[0]


def test_sync_counts_what_happened() -> None:
    result = sync_result(files_copied=3, bytes_copied=2_500_000, deleted=1, skipped=["sock"])
    assert render("sync", result) == ["3 files copied (2.5 MB), 1 deleted", "warning: skipped sock"]
    assert render("sync", told("x")) == ["would copy x"]
    assert render("sync", told("x") | {"planned_count": 5}) == ["would copy x", "and 4 more"]
    assert render("sync", told()) == ["nothing to do"]


def test_info_tells_everything() -> None:
    text = "\n".join(render("info", RESULTS["info"]))
    for value in (DISK["path"], DISK["uuid"], DISK["file_system"], "/x.zip", "20.0 GB"):
        assert str(value) in text


def test_doctor_tells_what_does_not_work_and_how_to_get_it() -> None:
    lines = render("doctor", RESULTS["doctor"])
    assert "without qemu-img: w; install it with: apt-get install" in lines


def test_problems_have_up_to_three_lines() -> None:
    full = Outcome.failure(Refused("w\udcff", state="s", hint="h")).problem
    assert full is not None
    assert render_problem(full, io.StringIO()) == ["error: w\\xff", "  s", "  h"]
    short = Outcome.failure(Refused("w")).problem
    assert short is not None
    assert render_problem(short, io.StringIO()) == ["error: w"]
