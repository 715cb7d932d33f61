"""vdisk.lock: what it holds, and that one from anybody is believed nothing that leads elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.platform.errors import Corrupt, NotFound, Refused
from portunix_vdisk.steps.install.languages.python import pinned
from portunix_vdisk.steps.install.lock import Lock, lock_of, place_files, read_lock, write_lock
from portunix_vdisk.steps.install.record import Installed, InstalledPackage, InstalledTool, write_installed
from portunix_vdisk.steps.install.tool import Artifact, Form

WHEEL = Artifact("https://example.org/uv.whl", "sha256:" + "a" * 64, Form.WHEEL, 10, "uv", True)
UV = InstalledTool("uv", "1.0", "pypi", "tools/uv/1.0", {"uv": "bin/uv"}, {}, (WHEEL,), {"a": "text"}, True, "1")
OLD = replace(UV, version="0.9", folder="tools/uv/0.9", active=False)
INSTALLED = Installed((OLD, UV), (InstalledPackage("npm", "react", "18.3.1", "18"), InstalledPackage("pip", "x", "1")))
PINS = "six==1.15.0 \\\n    --hash=sha256:" + "b" * 64 + "\nx==1 ; python_version < '4' \\\n    --hash=sha256:00\n"


def disk(root: Path) -> Path:
    """A disk with the files of languages."""
    (root / "env/node").mkdir(parents=True)
    (root / ".vdisk").mkdir()
    package = {"dependencies": {"react": "^18.3.1"}, "scripts": {"preinstall": "evil"}}
    (root / "env/node/package.json").write_text(json.dumps(package))
    (root / "env/node/package-lock.json").write_text('{"lockfileVersion": 3}')
    (root / ".vdisk/requirements.txt").write_text(PINS)
    return root


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    root = disk(tmp_path / "disk")
    write_lock(root, INSTALLED)
    found = read_lock(root / ".vdisk/vdisk.lock")
    assert found.installed == Installed((UV,), INSTALLED.packages), "versions that no command means are not in it"
    assert found.text == lock_of(root, INSTALLED).text == (root / ".vdisk/vdisk.lock").read_text()
    assert found.digest == lock_of(root, INSTALLED).digest
    assert "evil" not in found.text, "npm would run it"
    assert found.files["pip"] == {"requirements.txt": PINS}
    assert UV.plan.artifacts == (WHEEL,) and UV.plan.folder == UV.folder
    assert InstalledTool.of(UV.plan, "1") == UV

    other = tmp_path / "other"
    for language in ("npm", "pip", "go"):
        place_files(other, language, found)
    assert json.loads((other / "env/node/package.json").read_text()) == {"dependencies": {"react": "^18.3.1"}}
    assert (other / ".vdisk/requirements.txt").read_text() == PINS
    assert not (other / "env/go").exists()


def test_what_a_link_leads_to_is_not_in_it(tmp_path: Path) -> None:
    root = disk(tmp_path / "disk")
    (tmp_path / "secret").write_text("secret")
    (root / "env/node/package-lock.json").unlink()
    (root / "env/node/package-lock.json").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError):
        lock_of(root, INSTALLED)


@pytest.mark.parametrize("text", ["{", "[]", '{"dependencies": 5}', '{"dependencies": {"react": 5}}', "\0"])
def test_a_file_of_a_language_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    root = disk(tmp_path / "disk")
    (root / "env/node/package.json").write_text(text)
    with pytest.raises(Corrupt, match=r"env/node/package\.json, .* no lock can be made"):
        write_lock(root, INSTALLED)


def test_a_file_of_pins_is_told_apart_by_package() -> None:
    assert list(pinned(PINS)) == ["six", "x"] and "".join(pinned(PINS).values()) == PINS
    assert pinned("") == {} and pinned("# nothing\n") == {}


CHANGES: dict[str, Callable[[Any], object]] = {
    "version": lambda one: one.update(version=2),
    "no version": lambda one: one.pop("version"),
    "no tools": lambda one: one.pop("tools"),
    "cpu": lambda one: one.update(cpu=7),
    "address": lambda one: one["tools"][0]["artifacts"][0].update(address="file:///etc/passwd"),
    "digest": lambda one: one["tools"][0]["artifacts"][0].update(digest="md5:00"),
    "form": lambda one: one["tools"][0]["artifacts"][0].update(form="exe"),
    "size": lambda one: one["tools"][0]["artifacts"][0].update(size=-1),
    "folder in it": lambda one: one["tools"][0]["artifacts"][0].update(folder="../x"),
    "folder": lambda one: one["tools"][0].update(folder="bin"),
    "command": lambda one: one["tools"][0].update(commands={"uv": "../../../etc/x"}),
    "file": lambda one: one["tools"][0].update(files={"../x": ""}),
    "text": lambda one: one["tools"][0].update(files={"x": 1}),
    "asked": lambda one: one["packages"][0].update(asked="--registry=x"),
    "extra": lambda one: one["packages"][0].update(extra="; evil"),
    "language": lambda one: one["files"].update(perl={}),
    "another file": lambda one: one["files"]["npm"].update({".npmrc": "registry=evil"}),
    "script": lambda one: one["files"]["npm"].update({"package.json": '{"dependencies": {}, "scripts": {"x": "y"}}'}),
    "dependencies": lambda one: one["files"]["npm"].update({"package.json": '{\n  "dependencies": [1]\n}\n'}),
    "option": lambda one: one["files"]["pip"].update({"requirements.txt": "--index-url http://evil\n"}),
    "include": lambda one: one["files"]["pip"].update({"requirements.txt": "-r /etc/passwd\n"}),
    "link": lambda one: one["files"]["pip"].update({"requirements.txt": "x @ http://evil/x.whl\n"}),
    "no digest": lambda one: one["files"]["pip"].update({"requirements.txt": 5}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_of_anybody_is_not_believed(name: str, tmp_path: Path) -> None:
    root = disk(tmp_path / "disk")
    write_lock(root, INSTALLED)
    path = root / ".vdisk/vdisk.lock"
    content = json.loads(path.read_text())
    CHANGES[name](content)
    path.write_text(json.dumps(content))
    with pytest.raises(Corrupt, match="is no lock of a disk"):
        read_lock(path)


def test_of_another_machine_or_absent(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_lock(tmp_path / "none")
    lock = Lock("windows", "x86_64", Installed(), {})
    (tmp_path / "lock").write_text(lock.text)
    with pytest.raises(Refused, match="is for windows on x86_64"):
        read_lock(tmp_path / "lock")
    (tmp_path / "lock").write_bytes(b"\xff" * 100)
    with pytest.raises(Corrupt):
        read_lock(tmp_path / "lock")


def test_a_disk_remembers_it_with_everything_else(tmp_path: Path) -> None:
    write_installed(tmp_path, INSTALLED)
    content = json.loads((tmp_path / ".vdisk/installed.json").read_text())
    assert content["tools"][1]["artifacts"][0]["form"] == "wheel"
