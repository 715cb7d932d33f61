"""Locks of templates: the same disk again, from the lock alone; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from filled import shown
from machine import Machine

TEMPLATE = """\
templates:
  team:
    name: Team
    size: 700MB
    tools: [yarn, nodejs@20, python]
    packages: ["npm:is-odd@3", "pip:cowsay"]
    configuration: {GREETING: hello}
"""


@pytest.fixture
def team(machine: Machine) -> Path:
    file = machine.folder / "team.yaml"
    file.write_text(TEMPLATE)
    return file


def but_for_names(disk: dict[str, object]) -> dict[str, object]:
    """npm notes the time in its own hidden copy of the lock; the lock file itself is compared apart."""
    return {name: what for name, what in disk.items() if not name.endswith("node_modules/.package-lock.json")}


def test_a_tool_is_taken_as_it_is_locked(machine: Machine) -> None:
    (machine.folder / "one.yaml").write_text("templates: {one: {name: One, size: 200MB, tools: [uv]}}")
    assert "there is no lock of one" in _create(machine, "--locked", check=3)
    machine.vdisk("template", "lock", "one.yaml")
    lock = machine.folder / "one.vdisk.lock"
    content = json.loads(lock.read_text())
    (uv,) = content["tools"]
    digest = uv["artifacts"][0]["digest"]
    uv["artifacts"][0]["digest"] = digest[:7] + digest[7:][::-1]
    lock.write_text(json.dumps(content))
    assert "is another file" in _create(machine, "--locked", check=5)
    uv["artifacts"][0]["digest"] = digest
    lock.write_text(json.dumps({**content, "cpu": "z80"}))
    assert "is for linux on z80" in _create(machine, "--locked", check=4)
    lock.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    _create(machine, "--locked", "--offline")
    machine.vdisk("mount", "disk", "place")
    assert (machine.folder / "place/.vdisk/vdisk.lock").read_text() == lock.read_text()
    assert machine.vdisk("exec", "disk", "--", "uv", "--version").out.split()[1] == uv["version"]
    machine.vdisk("unmount", "disk")
    assert "no template is named" in machine.vdisk("create", "--name", "x", "--size", "64MB", "--locked", check=2).err


def _create(machine: Machine, *words: str, check: int = 0) -> str:
    return machine.vdisk("create", "--name", "disk", "--template", "one.yaml", *words, check=check).err


@pytest.mark.full
def test_a_lock_makes_the_same_disk_twice_and_a_disk_becomes_a_template(machine: Machine, team: Path) -> None:
    refused = machine.vdisk("create", "--name", "early", "--template", "team.yaml", "--locked", check=3)
    assert "there is no lock of team" in refused.err
    locked = machine.vdisk("template", "lock", "team.yaml", "--json").result
    lock = machine.folder / "team.vdisk.lock"
    assert {one["name"] for one in locked["tools"]} >= {"nodejs", "yarn", "python", "uv"}
    assert locked["missing"] == []
    assert not (machine.home / "vdisk" / "locking" / "team").exists(), "it was only for finding out"

    # From here on the lock and the cache have all that is needed.
    words = ("--template", "team.yaml", "--locked", "--offline")
    disks = []
    for name in ("one", "two"):
        machine.vdisk("create", "--name", name, *words)
        disks.append(but_for_names(shown(machine, name)))
    assert disks[0] == disks[1]
    assert len(disks[0]) > 3000
    machine.vdisk("mount", "one", "one")
    assert (machine.folder / "one/.vdisk/vdisk.lock").read_text() == lock.read_text()
    again = machine.vdisk("create", "--name", "two", *words, "--json")
    assert again.json["tasks"]["run"] == 0
    said = machine.vdisk("exec", "one", "--", "sh", "-c", "node -p 'require(\"is-odd\")(7)'; python3 -m cowsay -t moo")
    assert "true" in said.out and "moo" in said.out

    # A disk becomes a template with a lock; the disk that is made by these is the same but for the template's name.
    told = machine.vdisk("template", "from-disk", "one", "--output", "mine.yaml", "--json").result
    assert told["lost"] == [] and told["template"] == "mine"
    assert (machine.folder / "mine.vdisk.lock").read_text() == lock.read_text()
    assert "exists" in machine.vdisk("template", "from-disk", "one", "--output", "mine.yaml", check=4).err
    machine.vdisk("create", "--name", "three", "--template", "mine.yaml", "--locked", "--offline")
    third = but_for_names(shown(machine, "three"))
    assert {name for name in third if third[name] != disks[0].get(name)} == {".vdisk/template.json"}
    assert third.keys() == disks[0].keys()

    # What is asked for and not in the lock is not made up.
    team.write_text(TEMPLATE.replace('"pip:cowsay"', '"pip:cowsay", "npm:is-even"'))
    lacking = machine.vdisk("create", "--name", "four", *words, check=4)
    assert "the lock of team lacks npm:is-even" in lacking.err and "template lock" in lacking.err

    # A digest that changed is refused, whoever finds it: here uv, npm and ourselves.
    team.write_text(TEMPLATE)
    content = json.loads(lock.read_text())
    for number, change in enumerate((_wrong_wheel, _wrong_package, _wrong_tool)):
        other = json.loads(json.dumps(content))
        change(other)
        lock.write_text(json.dumps(other))
        answer = machine.vdisk("create", "--name", f"wrong{number}", "--template", "team.yaml", "--locked", check=None)
        assert answer.code in (1, 5), answer.err
        tools = machine.vdisk("exec", f"wrong{number}", "--", "ls", "/", check=None)
        assert tools.code == 0, "the disk itself is whole"

    machine.vdisk("unmount", "one")


def _wrong_wheel(content: dict) -> None:
    text = content["files"]["pip"]["requirements.txt"]
    digest = text.partition("--hash=sha256:")[2][:64]
    content["files"]["pip"]["requirements.txt"] = text.replace(digest, digest[::-1])


def _wrong_package(content: dict) -> None:
    found = json.loads(content["files"]["npm"]["package-lock.json"])
    entry = found["packages"]["node_modules/is-odd"]
    entry["integrity"] = "sha512-" + "A" * 86 + "=="
    content["files"]["npm"]["package-lock.json"] = json.dumps(found)


def _wrong_tool(content: dict) -> None:
    yarn = next(one for one in content["tools"] if one["name"] == "yarn")
    digest = yarn["artifacts"][0]["digest"]
    yarn["artifacts"][0]["digest"] = digest[:7] + digest[7:][::-1]


@pytest.mark.full
def test_newer_versions_are_shown_and_taken_within_what_was_asked_for(machine: Machine) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "900MB", "--type", "img")
    machine.vdisk("mount", "my-dev", "place")
    assert "nothing is installed" in machine.vdisk("template", "from-disk", check=4).err
    machine.vdisk("install", "nodejs@20", "python", "npm:is-odd@2.0.0", "pip:cowsay@5.0", "npm:is-number@6")
    assert machine.vdisk("outdated", "--json").result["outdated"] == [], "what was asked for exactly stays"
    assert "the newest already" in machine.vdisk("upgrade").out

    # As if is-odd and cowsay had been asked for without a version when these were the newest.
    file = machine.folder / "place/.vdisk/installed.json"
    content = json.loads(file.read_text())
    for one in content["packages"]:
        one["asked"] = "" if one["name"] != "is-number" else one["asked"]
    file.write_text(json.dumps(content))
    pack = machine.folder / "place/env/node/package.json"
    pack.write_text(pack.read_text().replace('"^2.0.0"', '">=2"').replace('"2.0.0"', '">=2"'))
    found = {one["name"]: one for one in machine.vdisk("outdated", "--json").result["outdated"]}
    assert found.keys() == {"is-odd", "cowsay"}
    assert found["is-odd"]["version"] == "2.0.0" and found["is-odd"]["newest"] == "3.0.1"
    one = machine.vdisk("upgrade", "npm:is-odd", "--json").result["upgraded"]
    assert one == [{"language": "npm", "name": "is-odd", "from": "2.0.0", "to": "3.0.1"}]
    rest = machine.vdisk("upgrade").out
    assert rest.startswith("pip:cowsay 5.0 -> 6.")
    assert machine.vdisk("outdated").out == "nothing on my-dev has a newer version\n"
    assert "is not on my-dev" in machine.vdisk("upgrade", "go", check=3).err
    machine.vdisk("unmount", "my-dev")
