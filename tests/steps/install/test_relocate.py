"""Scripts that are run by the disk's own Python, and what package managers say when they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from portunix_vdisk.steps.install.languages import LANGUAGES
from portunix_vdisk.steps.install.languages.language import reason
from portunix_vdisk.steps.install.relocate import amend_records, mentions, rewrite_scripts


def test_scripts_follow_the_disk(tmp_path: Path) -> None:
    disk = tmp_path / "a disk"
    scripts = disk / "env/python/bin"
    scripts.mkdir(parents=True)
    (disk / "bin").mkdir()
    (disk / "bin/python3").symlink_to(sys.executable)
    python = disk / "tools/python/bin/python3.11"
    body = "import sys\nprint(sys.argv[1:])\n"
    long = f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n"
    (scripts / "short").write_text(f"#!{python}\n{body}")
    (scripts / "long").write_text(long + body)
    (scripts / "shell").write_text("#!/bin/sh\necho kept\n")
    (scripts / "binary").write_bytes(os.urandom(100))
    before = (scripts / "shell").read_bytes(), (scripts / "binary").read_bytes()
    assert rewrite_scripts(scripts, "../../../", python) == ["long", "short"]
    assert rewrite_scripts(scripts, "../../../", python) == []
    assert ((scripts / "shell").read_bytes(), (scripts / "binary").read_bytes()) == before
    moved = disk.rename(tmp_path / "else where")
    for name in ("short", "long"):
        done = subprocess.run([moved / "env/python/bin" / name, "a b"], capture_output=True, text=True, check=True)
        assert done.stdout == "['a b']\n"
    assert mentions(moved, bytes(disk), lambda: None) == []
    assert rewrite_scripts(tmp_path / "missing", "", python) == []


def test_records_are_true_of_what_was_changed(tmp_path: Path) -> None:
    record = tmp_path / "x-1.dist-info" / "RECORD"
    record.parent.mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/x").write_text("abc")
    record.write_text("../../bin/x,sha256=old,9\nx/bin.py,sha256=a,1\n../../bin/other,,\nlib/x,sha256=b,2\n")
    amend_records(tmp_path, ["x"])
    digest = "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"
    assert record.read_text().splitlines() == [
        f"../../bin/x,sha256={digest},3",
        "x/bin.py,sha256=a,1",
        "../../bin/other,,",
        "lib/x,sha256=b,2",
    ]


def test_places_of_this_machine_are_found(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/at-a-border").write_bytes(b"x" * ((1 << 20) - 3) + b"/mnt/dev/x")
    (tmp_path / "d/link").symlink_to("/mnt/dev/bin")
    (tmp_path / "d/other").write_text("/mnt/other")
    assert mentions(tmp_path, b"/mnt/dev", lambda: None) == ["d/at-a-border", "d/link"]


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (
            "npm http fetch GET 404 https://x\nnpm error code E404\nnpm error 404 Not Found - GET https://x/y\n"
            "npm error A complete log of this run can be found in: /root/x.log",
            "Not Found - GET https://x/y",
        ),
        (
            "Using Python 3.11\n  \u00d7 No solution found:\n  \u2570\u2500\u25b6 Because x was not found",
            "No solution found: Because x was not found",
        ),
        (
            "error: Failed to fetch: `https://x`\n  Caused by: dns error",
            "Failed to fetch: `https://x` Caused by: dns error",
        ),
        ("go: downloading x\ngo: module x: not found", "module x: not found"),
        ("", "it did not say why"),
    ],
)
def test_the_reason_is_one_line(output: str, told: str) -> None:
    assert reason(output) == told


def test_versions_are_read_where_they_lie(tmp_path: Path) -> None:
    for name, text in (("react", '{"version": "1.2"}'), ("@types/node", '{"version": "3"}'), ("odd", "nonsense")):
        (tmp_path / "env/node/node_modules" / name).mkdir(parents=True)
        (tmp_path / "env/node/node_modules" / name / "package.json").write_text(text)
    assert LANGUAGES["npm"].versions(tmp_path) == {"react": "1.2", "@types/node": "3"}
    (tmp_path / "env/go/modules").mkdir(parents=True)
    (tmp_path / "env/go/modules/go.mod").write_text(
        "module m\n\ngo 1.21\n\nrequire a.b/c v1.0.0\n\nrequire (\n\tx.y/z v2.0.0 // indirect\n)\n"
    )
    assert LANGUAGES["go"].versions(tmp_path) == {"a.b/c": "v1.0.0", "x.y/z": "v2.0.0"}
    assert LANGUAGES["pip"].plain("Foo_Bar.x[extra]") == "foo-bar-x" and LANGUAGES["npm"].plain("A_b") == "A_b"
