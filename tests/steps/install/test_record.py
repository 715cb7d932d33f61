"""What a disk remembers of what is installed on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.install.record import (
    FILE,
    STATE,
    Installed,
    InstalledPackage,
    InstalledTool,
    read_installed,
    write_installed,
)
from portunix_vdisk.steps.install.tool import Artifact, Form

NODE = InstalledTool(
    "nodejs",
    "20.20.2",
    "pypi",
    "tools/nodejs/20.20.2",
    {"node": "bin/node"},
    {"NODE_HOME": "{folder}"},
    (Artifact("https://example.org/node.whl", "sha256:" + "0" * 64, Form.WHEEL),),
)


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    assert read_installed(tmp_path) == Installed()
    installed = Installed((NODE,), (InstalledPackage("npm", "@types/node", "22.0.0"),))
    write_installed(tmp_path, installed)
    assert read_installed(tmp_path) == installed
    assert [one.name for one in (tmp_path / STATE).iterdir()] == [FILE]


def test_one_version_of_a_tool_is_active() -> None:
    older = InstalledTool("nodejs", "18.0.0", "npm", "tools/nodejs/18.0.0")
    both = Installed().with_tool(older).with_tool(NODE)
    assert [(one.version, one.active) for one in both.tools] == [("18.0.0", False), ("20.20.2", True)]
    assert both.active("nodejs") == NODE
    assert both.with_tool(older).active("nodejs") == older
    assert both.without_tool("nodejs", "20.20.2").tools == (both.tools[0],)
    assert both.active("go") is None


def test_packages_of_a_language_are_replaced_as_a_whole() -> None:
    numpy, react, eslint = (
        InstalledPackage(*one) for one in (("pip", "numpy", "2"), ("npm", "react", "18"), ("npm", "e", "9"))
    )
    some = Installed().with_packages("pip", [numpy]).with_packages("npm", [react, eslint])
    assert some.of("npm") == (eslint, react)
    assert some.with_packages("npm", [react]).packages == (react, numpy)


WRONG: list[Any] = [
    [],
    {},
    {"version": 2, "tools": [], "packages": []},
    {"version": 1, "tools": 5, "packages": []},
    {"version": 1, "tools": [{"name": "x"}], "packages": []},
    {
        "version": 1,
        "tools": [{"name": "x", "version": "1", "source": "npm", "folder": "tools/x/1", "more": 1}],
        "packages": [],
    },
]
TOOL = {"name": "x", "version": "1", "source": "npm", "folder": "tools/x/1"}
BENT: list[dict[str, Any]] = [
    {"folder": "/etc"},
    {"folder": "../../etc"},
    {"folder": ""},
    {"name": "../x"},
    {"name": "a/../../b"},
    {"version": 5},
    {"commands": {"x": "/bin/sh"}},
    {"commands": {"../x": "bin/x"}},
    {"commands": {"x": "bin/\nx"}},
    {"commands": []},
    {"environment": {"A=B": "c"}},
    {"environment": {"A": "b\nc"}},
    {"environment": {"A": 5}},
    {"artifacts": [{"address": "https://example.org", "digest": "sha256:" + "f" * 63, "form": "wheel"}]},
    {"active": "yes"},
]


@pytest.mark.parametrize("content", [*WRONG, *({"version": 1, "tools": [TOOL | one], "packages": []} for one in BENT)])
def test_what_somebody_made_up_is_refused(tmp_path: Path, content: Any) -> None:
    (tmp_path / STATE).mkdir()
    (tmp_path / STATE / FILE).write_text(json.dumps(content))
    with pytest.raises(Corrupt):
        read_installed(tmp_path)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b" " * (5 << 20)])
def test_no_json_at_all(tmp_path: Path, text: bytes) -> None:
    (tmp_path / STATE).mkdir()
    (tmp_path / STATE / FILE).write_bytes(text)
    with pytest.raises(Corrupt):
        read_installed(tmp_path)
