"""Tools on real disks, from the real registries, run from another place than where they were installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from machine import Machine

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.platform.home import Home
from portunix_vdisk.tasks.engine import run_graph
from portunix_vdisk.tasks.install import install_graph
from portunix_vdisk.tasks.listening import Silent
from portunix_vdisk.tasks.session import Session


@pytest.fixture
def mounted(machine: Machine) -> Machine:
    machine.vdisk("create", "--name", "my-dev", "--size", "4GB", "--type", "img")
    machine.vdisk("mount", "my-dev", "mnt")
    return machine


def elsewhere(machine: Machine, name: str = "other") -> Path:
    """The disk, mounted at another place."""
    machine.vdisk("unmount", "my-dev")
    machine.vdisk("mount", "my-dev", name)
    return machine.folder / name


def said(root: Path, command: str, *words: str, **environment: str) -> str:
    """What a command of the disk prints, with nothing of this machine in its environment."""
    done = subprocess.run(
        [root / command, *words], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_tool_runs_where_the_disk_is_mounted_next(mounted: Machine) -> None:
    answer = mounted.vdisk("install", "nodejs@20", "--target", "mnt", "--json")
    assert answer.result["changed"] and answer.result["missing"] == []
    (tool,) = answer.result["tools"]
    assert tool["name"] == "nodejs" and tool["version"].startswith("20.") and tool["source"] == "pypi"

    again = mounted.vdisk("install", "nodejs@20", "--disk", "my-dev", "--json")
    assert again.result == answer.result | {"changed": False} and again.json["tasks"]["run"] == 0
    assert "up to date" in mounted.vdisk("install", "nodejs").out

    root = elsewhere(mounted)
    assert said(root, "bin/node", "--version").strip() == f"v{tool['version']}"
    assert said(root, "bin/npm", "--version")[:3] in ("10.", "11.")
    link = mounted.folder / "node"
    link.symlink_to("other/bin/node")
    assert said(mounted.folder, "node", "-p", "6*7").strip() == "42"
    assert sorted(os.listdir(root / ".vdisk")) == ["installed.json", "vdisk.lock"]


def test_versions_are_switched_and_removed(mounted: Machine) -> None:
    mounted.vdisk("install", "nodejs@20", "uv")
    mounted.vdisk("install", "nodejs@18")
    root = mounted.folder / "mnt"
    assert said(root, "bin/node", "--version").startswith("v18.")
    assert said(root, "bin/npm", "--version").startswith("10."), "beside a Node.js that comes without"
    used = mounted.vdisk("use", "nodejs@20", "--json").result
    assert used["changed"] and said(root, "bin/node", "--version").strip() == f"v{used['version']}"
    assert mounted.vdisk("use", "node@20", "--json").json["tasks"]["run"] == 0
    assert "it has nodejs 18." in mounted.vdisk("use", "nodejs@22", check=3).err
    assert "there are: nodejs@18." in mounted.vdisk("uninstall", "go", check=3).err

    removed = mounted.vdisk("uninstall", "nodejs@20", "uv", "--json").result
    assert [one["name"] for one in removed["tools"]] == ["nodejs", "uv"]
    assert said(root, "bin/node", "--version").startswith("v18."), "the version that is left counts"
    assert sorted(os.listdir(root / "tools")) == ["nodejs", "npm"] and len(os.listdir(root / "tools/nodejs")) == 1
    assert sorted(os.listdir(root / "bin")) == ["node", "npm", "npx"]
    assert sorted(os.listdir(root / ".vdisk")) == ["installed.json", "vdisk.lock"]


def test_packages_of_languages_move_with_the_disk(mounted: Machine) -> None:
    answer = mounted.vdisk("install", "nodejs@20", "typescript@5.4.5", "pip:cowsay", "--json").result
    packages = [(one["language"], one["name"], one["version"]) for one in answer["packages"]]
    assert packages[0] == ("npm", "typescript", "5.4.5") and packages[1][:2] == ("pip", "cowsay")
    assert {one["name"] for one in answer["tools"]} == {"nodejs", "python", "uv"}, "npm comes along with nodejs"
    again = mounted.vdisk("install", "typescript@5", "pip:cowsay", "npm:typescript", "--json")
    assert again.result["changed"] is False and again.json["tasks"]["run"] == 0

    wrong = mounted.vdisk("install", "npm:typescript@99", check=1)
    assert "npm install failed: " in wrong.err and "No matching version" in wrong.err
    offline = mounted.vdisk("install", "npm:left-pad", "--offline", check=1)
    assert "left-pad" in offline.err
    mended = mounted.vdisk("install", "typescript@5.4.5", "--offline", "--json").result
    assert mended["packages"][0]["version"] == "5.4.5", "what a failure may have left is made anew"

    root = elsewhere(mounted)
    path = {"PATH": f"{root}/bin:/usr/bin:/bin"}
    assert said(root, "env/node/node_modules/.bin/tsc", "--version", **path) == "Version 5.4.5\n"
    assert "moved" in said(root, "env/python/bin/cowsay", "-t", "moved")
    assert said(root, "bin/python3", "-c", "import cowsay; print(cowsay.__file__)").startswith(f"{root}/env/python")
    old = bytes(mounted.folder / "mnt")
    naming = [
        path for path in root.rglob("*") if path.is_file() and "cache" not in path.parts and old in path.read_bytes()
    ]
    assert naming == []

    mounted.vdisk("uninstall", "typescript", "pip:cowsay")
    assert not (root / "env/node/node_modules/typescript").exists() and not (root / "env/python/cowsay").exists()
    assert not (root / "env/python/bin/cowsay").exists()


def test_what_cannot_be_is_refused(mounted: Machine) -> None:
    away = mounted.vdisk("install", "nodejs", "--target", ".", check=4)
    assert "is not on a mounted disk" in away.err and "mount the disk first" in away.err
    assert "did you mean nodejs?" in mounted.vdisk("install", "nodjs", check=2).err
    assert "npm:left-pad or pip:left-pad" in mounted.vdisk("install", "left-pad", check=4).err
    mounted.vdisk("unmount", "my-dev")
    assert "portunix vdisk mount my-dev" in mounted.vdisk("install", "nodejs", "--disk", "my-dev", check=4).err


def test_packages_go_with_their_tools_and_without_them(mounted: Machine) -> None:
    def there() -> list[str]:
        listed = mounted.vdisk("list", "--tools", "--json").result
        return [one["name"] for one in (*listed["tools"], *listed["packages"])]

    mounted.vdisk("install", "nodejs@20", "npm:is-odd@3.0.1", "npm:is-number@7")
    mounted.vdisk("uninstall", "nodejs", "npm:is-odd")
    assert there() == ["is-number"]
    mounted.vdisk("uninstall", "is-number")
    assert there() == []
    assert not (mounted.folder / "mnt" / "env" / "node").exists()


def test_what_a_killed_run_left_half_done_is_made_whole_with_the_next(mounted: Machine) -> None:
    mounted.vdisk("install", "python", "pip:cowsay", "pip:six[x]")
    root = mounted.folder / "mnt"
    # As a run leaves it that was killed while it replaced what is there.
    shutil.rmtree(root / "env" / "python" / "cowsay")
    (root / ".vdisk" / "unfinished-pip").write_text("")
    nothing = mounted.vdisk("install", "pip:there-is-no-such-package-anywhere", check=1)
    assert "what was installed before is still there" in nothing.err
    mounted.vdisk("install", "pip:toml", "--disk", "my-dev")
    script = "import cowsay, six, toml; print(toml.__name__)"
    assert mounted.vdisk("exec", "my-dev", "--", "python3", "-c", script).out == "toml\n"
    listed = [one["name"] for one in mounted.vdisk("list", "--tools", "--json").result["packages"]]
    assert listed == ["cowsay", "six", "toml"]
    again = mounted.vdisk("install", "pip:six[x]@>=1", "pip:cowsay", "--json")
    assert again.json["tasks"]["run"] == 0


def test_what_is_unmounted_meanwhile_is_not_written_to(mounted: Machine) -> None:
    """The command waits for the disk's lock; until then somebody may have taken the disk away."""
    with Session(Home(mounted.home), Silent(), mounted.folder) as session:
        graph = install_graph(session, {"names": "uv", "disk": "my-dev"})
        mounted.vdisk("unmount", "my-dev")
        with pytest.raises(Refused, match=r"is not mounted at .* any more"):
            run_graph(graph, session)
    assert not (mounted.folder / "mnt").exists() or not any((mounted.folder / "mnt").iterdir())


def test_a_second_disk_needs_no_network(mounted: Machine) -> None:
    names = ("nodejs@20", "npm:is-odd@3.0.1")
    first = mounted.vdisk("install", *names, "--json").result
    mounted.vdisk("create", "--name", "second", "--size", "1GB", "--type", "img")
    mounted.vdisk("mount", "second", "other")
    again = mounted.vdisk("install", *names, "--disk", "second", "--offline", "--json").result
    assert [again[key] for key in ("tools", "packages")] == [first[key] for key in ("tools", "packages")]
    refused = mounted.vdisk("install", "npm:is-even", "--disk", "second", "--offline", check=1)
    assert "npm install failed" in refused.err
    mounted.vdisk("unmount", "second")


@pytest.mark.full
def test_compilers_run_where_the_disk_is_mounted_next(mounted: Machine) -> None:
    mounted.vdisk("install", "rust", "java", "maven")
    elsewhere(mounted)
    (mounted.folder / "other" / "projects").mkdir(exist_ok=True)
    programs = {
        "hello.rs": 'fn main() { println!("from rust"); }',
        "Hello.java": 'class Hello { public static void main(String[] a) { System.out.println("from java"); } }',
    }
    for name, text in programs.items():
        (mounted.folder / "other" / "projects" / name).write_text(text)
    script = "cd projects && rustc hello.rs && ./hello && javac Hello.java && java Hello && mvn --version"
    said = mounted.vdisk("exec", "my-dev", "--", "sh", "-c", script).out
    assert said.startswith("from rust\nfrom java\n")
    assert f"Maven home: {mounted.folder}/other/tools/maven/" in said


@pytest.mark.parametrize("folder", [".vdisk", "bin", "tools", "env", "cache"])
def test_a_disk_that_leads_elsewhere_is_not_written_to(mounted: Machine, folder: str) -> None:
    precious = mounted.folder / "precious"
    precious.mkdir()
    (precious / "node").write_text("mine")
    (mounted.folder / "mnt" / folder).symlink_to(precious)
    refused = mounted.vdisk("install", "nodejs@20", check=4)
    assert f"mnt/{folder} is a link" in refused.err
    assert [one.name for one in precious.iterdir()] == ["node"]
    assert (precious / "node").read_text() == "mine"
