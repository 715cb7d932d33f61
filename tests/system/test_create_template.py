"""A disk that a template fills: from the real registries, killed and gone on, never half done without a word."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from filled import shown
from machine import Machine

TEMPLATES = """\
templates:
  small:
    name: Small
    size: 600MB
    tools: [yarn, nodejs@20]
    packages: ["npm:is-odd@3.0.1"]
    scripts:
      - name: who
        run: |
          node --version > projects/version
          ! touch /etc/made-by-a-script 2> /dev/null
      - name: greet
        run: echo "$GREETING" >> projects/greeting
    configuration: {GREETING: hello there}
  scripted:
    name: Scripted
    size: 64MB
    scripts:
      - {name: first, run: echo one >> ran}
      - {name: second, run: echo two >> ran; test -e /nowhere}
"""


@pytest.fixture
def machine(machine: Machine) -> Machine:
    machine.home.mkdir(parents=True, exist_ok=True)
    (machine.home / "vdisk-templates.yaml").write_text(TEMPLATES)
    return machine


def test_a_template_fills_a_disk_once(machine: Machine) -> None:
    refused = machine.vdisk("create", "--name", "web", "--template", "small", check=4)
    assert "node --version" in refused.err, "nobody agrees to what they have not seen"
    assert "--yes" in refused.err
    assert machine.vdisk("list", "--json").result["disks"] == []

    made = machine.vdisk("create", "--name", "web", "--template", "small", "--yes", "--json").result
    assert made["changed"]
    assert made["template"] == {
        "key": "small",
        "installed": ["nodejs", "yarn", "npm", "npm:is-odd"],
        "missing": [],
    }
    assert made["disk"]["mount_point"] is None, "it was mounted for filling it only"
    assert not Path("/etc/made-by-a-script").exists()

    image = machine.disk("web")
    before = (image.stat().st_mtime_ns, image.stat().st_ino)
    again = machine.vdisk("create", "--name", "web", "--template", "small", "--json")
    assert again.json["tasks"]["run"] == 0
    assert again.result["changed"] is False
    assert again.result["template"] == made["template"]
    assert (image.stat().st_mtime_ns, image.stat().st_ino) == before

    assert machine.vdisk("exec", "web", "--", "readlink", "node_modules").out == "env/node/node_modules\n"
    script = "console.log(require('is-odd')(7), process.env.GREETING)"
    assert machine.vdisk("exec", "web", "--", "node", "-e", script).out == "true hello there\n"
    assert machine.vdisk("exec", "web", "--", "cat", "projects/greeting", "projects/version").out.startswith(
        "hello there\nv20."
    )

    other = machine.vdisk("create", "--name", "web", "--template", "scripted", "--yes", check=4)
    assert "web was made from the template small" in other.err
    assert machine.vdisk("info", "web", "--json").result["disk"]["mount_point"] is None

    # Without the journal it looks, finds that all is there, and does nothing again.
    for file in (machine.home / "vdisk").glob("journal.db*"):
        file.unlink()
    before_that = shown(machine, "web")
    machine.vdisk("create", "--name", "web", "--template", "small", "--yes")
    assert shown(machine, "web") == before_that


def test_a_tool_that_cannot_be_had_is_named_and_keeps_nothing_else_away(machine: Machine) -> None:
    text = TEMPLATES.replace("tools: [yarn, nodejs@20]", "tools: [{name: nodejs, version: '1.2.3'}, uv]")
    text = text.replace('packages: ["npm:is-odd@3.0.1"]', "packages: []").replace("node --version", "uv --version")
    (machine.home / "vdisk-templates.yaml").write_text(text)
    failed = machine.vdisk("create", "--name", "web", "--template", "small", "--yes", check=1)
    assert "not installed: nodejs" in failed.err
    assert "web has everything else of small, and can be used" in failed.err
    assert "--allow-missing" in failed.err
    assert machine.vdisk("exec", "web", "--", "cat", "projects/version").out.startswith("uv ")
    assert machine.vdisk("info", "web", "--json").result["disk"]["mount_point"] is None
    made = machine.vdisk("create", "--name", "web", "--template", "small", "--yes", "--allow-missing", "--json").result
    assert [one["name"] for one in made["template"]["missing"]] == ["nodejs"]
    assert "uv" in made["template"]["installed"] and "nodejs" not in made["template"]["installed"]
    assert machine.vdisk("exec", "web", "--", "cat", "projects/greeting").out == "hello there\n", "scripts ran once"


@pytest.mark.parametrize("place", ["mine", None])
def test_where_somebody_mounted_it_it_stays_mounted(machine: Machine, place: str | None) -> None:
    machine.vdisk("create", "--name", "s", "--template", "scripted", "--yes", check=1)
    at = machine.vdisk("mount", "s", *([place] if place else []), "--json").result["disk"]["mount_point"]
    mended = TEMPLATES.replace("echo two >> ran; test -e /nowhere", "echo three >> ran")
    (machine.home / "vdisk-templates.yaml").write_text(mended)
    machine.vdisk("create", "--name", "s", "--template", "scripted", "--yes")
    assert machine.vdisk("info", "s", "--json").result["disk"]["mount_point"] == at
    assert Path(at, "ran").read_text() == "one\ntwo\nthree\n"
    machine.vdisk("unmount", "s")


def test_a_script_that_fails_is_where_it_goes_on(machine: Machine) -> None:
    failed = machine.vdisk("create", "--name", "s", "--template", "scripted", "--yes", check=1)
    assert "the script second failed" in failed.err
    log = machine.home / "logs" / "vdisk-scripts.log"
    assert str(log) in failed.err
    assert log.read_text().startswith("== first\n== second\n")
    mended = TEMPLATES.replace("echo two >> ran; test -e /nowhere", "echo three >> ran")
    (machine.home / "vdisk-templates.yaml").write_text(mended)
    machine.vdisk("create", "--name", "s", "--template", "scripted", "--yes")
    machine.vdisk("mount", "s", "look")
    assert (machine.folder / "look" / "ran").read_text() == "one\ntwo\nthree\n"
    machine.vdisk("unmount", "s")


def test_a_script_that_takes_too_long_is_ended(machine: Machine) -> None:
    slow = "templates:\n  slow: {name: Slow, size: 64MB, scripts: [{name: nap, run: sleep 600, timeout: 1}]}\n"
    (machine.home / "vdisk-templates.yaml").write_text(slow)
    began = time.monotonic()
    failed = machine.vdisk("create", "--name", "s", "--template", "slow", "--yes", check=1)
    assert "the script nap took longer than its 1 s" in failed.err
    assert time.monotonic() - began < 60
    assert machine.vdisk("info", "s", "--json").result["disk"]["mount_point"] is None


def test_what_cannot_be_is_refused_before_anything_is_made(machine: Machine) -> None:
    assert "did you mean small?" in machine.vdisk("create", "--name", "x", "--template", "smal", check=2).err
    (machine.home / "vdisk-templates.yaml").write_text("templates:\n  t: {name: T, size: 1GB, tools: [nodejz]}\n")
    assert "did you mean nodejs?" in machine.vdisk("create", "--name", "x", "--template", "t", check=2).err
    assert machine.vdisk("list", "--json").result["disks"] == []


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.full)], ids=["some kills", "twenty kills"])
def test_killed_at_any_moment_it_goes_on_to_the_same_disk(machine: Machine, kills: int) -> None:
    began = time.monotonic()
    machine.vdisk("create", "--name", "whole", "--template", "small", "--yes")
    took = time.monotonic() - began
    dice, words = random.Random(7), ("create", "--name", "killed", "--template", "small", "--yes")
    ended = 0
    for number in range(kills):
        command = machine.start(*words)
        # The later ones begin where the former ones stopped, so all of the way is met.
        time.sleep(dice.uniform(0.3, took / 2 if number else took / 4))
        machine.kill_plugin()
        command.communicate(timeout=60)
        ended += command.returncode == 0
    assert ended < kills
    machine.vdisk(*words)
    assert machine.vdisk("info", "killed", "--json").result["disk"]["mount_point"] is None
    machine.vdisk("mount", "killed", "look")
    root = machine.folder / "look"
    greetings = (root / "projects" / "greeting").read_text().splitlines()
    assert greetings and set(greetings) == {"hello there"}, "a script that was killed runs once more"
    assert not (root / ".vdisk" / "staging").exists()
    machine.vdisk("unmount", "killed")
    differs = {
        path
        for one, other in [(shown(machine, "whole"), shown(machine, "killed"))]
        for path in one.keys() | other.keys()
        if one.get(path) != other.get(path)
    }
    # npm notes in it when it looked for what; a script may have run twice.
    assert differs <= {"projects/greeting", "env/node/node_modules/.package-lock.json"}, sorted(differs)
    state = json.loads(machine.vdisk("list", "--json").out)
    assert {disk["state"] for disk in state["result"]["disks"]} == {"ready"}
