"""Smart export as a person meets it: caches stay on the disk and are not in the archive."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from blocks import check_filesystem, raw_of
from machine import Machine
from person import person

from portunix_vdisk.platform.base import Partition
from portunix_vdisk.steps.durable import identity_of
from portunix_vdisk.tests.support.excluding import make, tree
from portunix_vdisk.tests.support.trees import facts, grow
from portunix_vdisk.tests.system.test_kill import kill_at, length

OF_A_PERSON = ["r/Cargo.toml", "r/src/main.rs", "p/target/holiday.jpg", "w/node_modules/react/index.js", "p/a.py"]
MADE_AGAIN = ["r/target/debug/app", "p/__pycache__/a.pyc", "w/node_modules/.cache/x", "caf\udce9\n/__pycache__/b.pyc"]

VHD_FIRST = pytest.mark.parametrize("filled", ["vhd", pytest.param("img", marks=pytest.mark.full)], indirect=True)
IMG_FIRST = pytest.mark.parametrize("filled", ["img", pytest.param("vhd", marks=pytest.mark.full)], indirect=True)


@pytest.fixture
def filled(request: pytest.FixtureRequest, machine: Machine) -> Machine:
    machine.vdisk("create", "--name", "my-dev", "--size", "128MiB", "--type", request.param)
    machine.vdisk("mount", "my-dev", "mnt")
    top = machine.folder / "mnt"
    make(top, *OF_A_PERSON, *MADE_AGAIN)
    (top / "r/target/debug/app").write_bytes(os.urandom(5 << 20))
    grow(top / "grown", files=60)
    (machine.folder / "expected").mkdir()
    machine.run("cp", "-a", f"{top}/.", machine.folder / "expected", check=0)
    for path in ("r/target", "p/__pycache__", "w/node_modules/.cache", "caf\udce9\n/__pycache__"):
        folder = (machine.folder / "expected" / path).parent
        when = folder.stat().st_mtime_ns
        shutil.rmtree(machine.folder / "expected" / path)
        os.utime(folder, ns=(when, when))
    machine.vdisk("unmount", "my-dev")
    return machine


def image_of(machine: Machine) -> Path:
    return next((machine.home / "vdisk" / "disks").glob("my-dev.*"))


def imported(machine: Machine, archive: str, name: str) -> Path:
    """Mount point of a disk made of an archive."""
    machine.vdisk("import", archive, "--name", name)
    with raw_of(next((machine.home / "vdisk" / "disks").glob(f"{name}.*"))) as raw:
        check_filesystem(raw, Partition(1 << 20, raw.stat().st_size - (2 << 20)))
    machine.vdisk("mount", name, name)
    return machine.folder / name


@VHD_FIRST
def test_caches_leave_the_copy_only(filled: Machine) -> None:
    image = image_of(filled)
    before = identity_of(image), hashlib.sha256(image.read_bytes()).hexdigest()
    answer = filled.vdisk("export", "--disk", "my-dev", "--exclude-cache", "--output", "a.zip")
    assert "left out: 4 files" in answer.out and "python-bytecode      2" in answer.out
    assert (identity_of(image), hashlib.sha256(image.read_bytes()).hexdigest()) == before
    assert (filled.folder / "a.zip").stat().st_size < 4 << 20

    again = filled.vdisk("export", "--disk", "my-dev", "--exclude-cache", "--output", "a.zip", "--json").json
    assert again["tasks"]["run"] == 0 and again["result"]["changed"] is False
    assert again["result"]["excluded"]["files"] == 4
    assert [one["rule"] for one in again["result"]["excluded"]["rules"]] == ["cargo", "python-bytecode", "node-cache"]

    assert facts(imported(filled, "a.zip", "copy")) == facts(filled.folder / "expected")
    filled.vdisk("unmount", "copy")
    whole = filled.vdisk("export", "--disk", "my-dev", "--output", "a.zip", "--json").result
    assert (whole["generation"], whole["excluded"]) == (2, None) and whole["added_bytes"] > 5 << 20
    assert "without caches: 1\n" in filled.vdisk("archive", "list", "a.zip").out


@IMG_FIRST
@pytest.mark.full
def test_with_and_without_are_generations_of_one_archive(filled: Machine) -> None:
    words = ("export", "--disk", "my-dev", "--output", "a.zip", "--json")
    first = filled.vdisk(*words, "--exclude-cache").result
    whole = filled.vdisk(*words).result
    assert (whole["generation"], whole["excluded"]) == (2, None) and first["root"] != whole["root"]
    assert whole["added_bytes"] > 5 << 20
    third = filled.vdisk(*words, "--exclude-cache", "--keep", "3").result
    assert third["generation"] == 3 and third["added_bytes"] < 300_000, "its content is in the archive already"
    filled.vdisk("import", "a.zip", "--generation", "2", "--name", "whole")
    filled.vdisk("mount", "whole", "whole")
    assert set(MADE_AGAIN) <= tree(filled.folder / "whole")
    filled.vdisk("unmount", "whole")


@IMG_FIRST
@pytest.mark.full
def test_as_a_task_and_with_rules_of_ones_own(filled: Machine) -> None:
    filled.doit("export:my-dev", "exclude-cache=true", "output=a.zip")
    rules = filled.home / "vdisk-excludes.yaml"
    rules.write_text("rules:\n  python-bytecode: off\n  react: {patterns: [react/]}\nkeep: [/r/target/]\n")
    result = filled.vdisk("export", "--disk", "my-dev", "--exclude-cache", "--output", "a.zip", "--json").result
    assert result["generation"] == 2, "other rules, another copy"
    assert {one["rule"] for one in result["excluded"]["rules"]} == {"react", "node-cache"}
    rules.write_text("rules:\n  react:\n    paterns: [react/]\n")
    refused = filled.vdisk("export", "--disk", "my-dev", "--exclude-cache", "--output", "b.zip", check=2)
    assert "line 3: rules.react.paterns" in refused.err and "patterns" in refused.err
    filled.vdisk("export", "--disk", "my-dev", "--output", "b.zip")


def test_whatever_is_killed_the_next_run_finishes(machine: Machine) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "128MiB")
    machine.vdisk("mount", "my-dev", "mnt")
    top = machine.folder / "mnt"
    make(top, *OF_A_PERSON, *MADE_AGAIN)
    more = [f"many/__pycache__/{number}.pyc" for number in range(2000)]
    make(top, *more)  # so that deleting takes a moment
    (top / "data").write_bytes(os.urandom(48 << 20))
    (top / "r/target/debug/app").write_bytes(os.urandom(8 << 20))
    wanted = hashlib.sha256((top / "data").read_bytes()).hexdigest()
    refused = machine.vdisk("export", "--exclude-cache", "--output", "a.zip", check=4)
    assert "cannot be exported with --exclude-cache" in refused.err and "unmount my-dev" in refused.err
    machine.vdisk("unmount", "my-dev")
    command = ("export", "--disk", "my-dev", "--exclude-cache", "--output", "a.zip", "--json")
    partial = machine.folder / "a.zip.partial"

    def is_mounted() -> int:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        ours = (str(machine.temporary), str(machine.folder), str(machine.home))
        return any("portunix-vdisk-overlay" in line and any(place in line for place in ours) for line in lines)

    assert kill_at(machine, command, is_mounted, 1) == 1 and is_mounted()
    machine.vdisk("mount", "my-dev", "mnt")
    machine.vdisk("unmount", "my-dev")
    assert not is_mounted()
    before = identity_of(image_of(machine))
    assert kill_at(machine, command, is_mounted, 1) == 1 and is_mounted()
    assert kill_at(machine, command, lambda: length(partial), 30 << 20) >= 30 << 20
    left = length(partial)
    assert not is_mounted()
    result = machine.vdisk(*command).result
    assert result["reused_bytes"] > left - (12 << 20) and result["excluded"]["files"] == 4 + len(more)
    assert identity_of(image_of(machine)) == before and not partial.exists()
    copy = imported(machine, "a.zip", "copy")
    assert hashlib.sha256((copy / "data").read_bytes()).hexdigest() == wanted
    assert {path for path in tree(copy) if not path.endswith("/")} == {*OF_A_PERSON, "data"}
    machine.vdisk("unmount", "copy")


@pytest.mark.full
def test_as_an_ordinary_user() -> None:
    with person(sudo=True) as user:
        user.vdisk("create", "--name", "my-dev", "--size", "64MB")
        user.vdisk("mount", "my-dev", "mnt")
        make(user.folder / "mnt", "mine/__pycache__/x.pyc", "protected/__pycache__/y.pyc", "roots/__pycache__/z.pyc")
        for folder in ("mine", "protected", "roots"):
            subprocess.run(["chown", "-R", user.name, user.folder / "mnt" / folder], check=True)
        subprocess.run(["chown", "0:0", user.folder / "mnt/roots/__pycache__"], check=True)
        (user.folder / "mnt/protected/__pycache__").chmod(0o555)
        user.vdisk("unmount", "my-dev")
        answer = user.vdisk("export", "--disk", "my-dev", "--exclude-cache", "--output", "a.zip", "--json")
        assert (answer.result["excluded"]["files"], answer.result["excluded"]["stayed"]) == (2, 1)
        assert "roots/__pycache__/z.pyc: permission denied" in answer.err
        user.sudo("export", "--disk", "my-dev", "--exclude-cache", "--output", "b.zip")
        owner = user.home.stat().st_uid
        for place in (user.home, user.folder):
            assert [path for path in place.rglob("*") if path.lstat().st_uid != owner] == []
        rule = Path("/etc/sudoers.d") / user.name
        rule.rename(rule.with_suffix(".away"))
        missing = user.vdisk("export", "--disk", "my-dev", "--exclude-cache", "--output", "c.zip", check=6)
        rule.with_suffix(".away").rename(rule)
        assert "portunix-vdisk-attach" in missing.err and not (user.folder / "c.zip").exists()
        user.run("portunix", "plugin", "stop", "vdisk", check=0)
