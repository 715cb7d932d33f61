"""A tool on its way to a disk: whole or not there, wherever it is killed."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from packing import archive
from serving import Served, serving
from silent import Silent

from portunix_vdisk.platform.errors import Corrupt, Failed
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.steps.install.downloads import fetch_all
from portunix_vdisk.steps.install.put import Activate, Unpack, clean_staging
from portunix_vdisk.steps.install.record import InstalledTool, read_installed
from portunix_vdisk.steps.install.tool import Artifact, Form, Plan
from portunix_vdisk.steps.install.web import Web
from portunix_vdisk.steps.step import Context
from portunix_vdisk.tests.support.trees import facts

COMMANDS = {"tool": "bin/tool", "script": "lib/script.py"}
SCRIPT = b'#!/bin/sh\necho "$0 $ROOT $FOLDER $*"\n'


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as made:
        yield made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "mnt it's").mkdir()
    return tmp_path / "mnt it's"


def planned(served: Served, folder: Path, version: str = "1.0", **more: bytes) -> Plan:
    """A tool whose only file the server has."""
    members = [("t/bin/tool", SCRIPT), ("t/lib/script.py", b"print(1)\n"), ("t/version", version.encode())]
    path = archive(folder / "t.whl", *members, *((f"t/{name}", data) for name, data in more.items()))
    data = path.read_bytes()
    path.unlink()
    served.files[f"/t-{version}.whl"] = data
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    artifact = Artifact(f"{served.address}/t-{version}.whl", digest, Form.WHEEL, len(data), "t")
    environment = {"ROOT": "{root}/x y", "FOLDER": "{folder}", "PLAIN": "it's $HOME"}
    return Plan("tool", version, "pypi", (artifact,), COMMANDS, environment, {"share/note": "ours\n"})


def context(person: Silent | None = None) -> Context:
    return Context(LinuxPlatform(), person or Silent())


def install(root: Path, plan: Plan, web: Web, ctx: Context) -> None:
    clean_staging(root)
    fetch_all(plan.artifacts, web, ctx)
    Unpack(root, plan, web).run(ctx)
    Activate(root, InstalledTool.of(plan, "")).run(ctx)


def ran(root: Path, *words: str) -> str:
    return subprocess.run([*words], env={}, cwd=root, capture_output=True, text=True, check=True).stdout


def test_it_runs_from_wherever_the_disk_is(served: Served, root: Path, tmp_path: Path) -> None:
    plan = planned(served, tmp_path)
    install(root, plan, Web(tmp_path / "cache", lambda: None), context())
    moved = root.rename(tmp_path / "else where")
    expected = f"{moved}/tools/tool/1.0/bin/tool {moved}/x y {moved}/tools/tool/1.0 a b\n"
    assert ran(moved, "bin/tool", "a b") == expected
    (tmp_path / "links").mkdir()
    (tmp_path / "links/first").symlink_to(moved / "bin/tool")
    (tmp_path / "links/second").symlink_to("first")
    assert ran(tmp_path, "links/second", "a b") == expected
    assert ran(moved / "bin", "/bin/sh", "tool", "a b") == expected
    assert (moved / "tools/tool/1.0/share/note").read_text() == "ours\n"
    assert 'exec "$root"/bin/python3 "$folder"/lib/script.py "$@"' in (moved / "bin/script").read_text()
    assert str(tmp_path).encode() not in b"".join(path.read_bytes() for path in moved.rglob("*") if path.is_file())
    tool = read_installed(moved).active("tool")
    assert tool and tool.artifacts == plan.artifacts


def test_versions_lie_side_by_side_and_the_last_one_counts(served: Served, root: Path, tmp_path: Path) -> None:
    web = Web(tmp_path / "cache", lambda: None)
    for version in ("2.0", "1.0"):
        install(root, planned(served, tmp_path, version), web, context())
    assert sorted(os.listdir(root / "tools/tool")) == ["1.0", "2.0"]
    assert "/tools/tool/1.0/" in ran(root, "bin/tool")
    installed = read_installed(root)
    assert [(one.version, one.active) for one in installed.tools] == [("1.0", True), ("2.0", False)]


def test_scripts_of_the_persons_own_stay(served: Served, root: Path, tmp_path: Path) -> None:
    (root / "bin").mkdir()
    (root / "bin/mine").write_text("#!/bin/sh\n")
    (root / "bin/gone").write_text("#!/bin/sh\n# portunix-vdisk: gone of old 1\n")
    install(root, planned(served, tmp_path), Web(tmp_path / "cache", lambda: None), context())
    assert sorted(os.listdir(root / "bin")) == ["mine", "script", "tool"]


def test_a_file_that_rotted_in_the_cache_is_noticed(served: Served, root: Path, tmp_path: Path) -> None:
    plan, web = planned(served, tmp_path), Web(tmp_path / "cache", lambda: None)
    fetch_all(plan.artifacts, web, context())
    path = web.place(plan.artifacts[0])
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Corrupt, match="damaged in the cache"):
        Unpack(root, plan, web).run(context())
    assert list(root.iterdir()) == []
    install(root, plan, web, context())


def test_what_has_not_the_commands_is_not_installed(served: Served, root: Path, tmp_path: Path) -> None:
    plan, web = planned(served, tmp_path), Web(tmp_path / "cache", lambda: None)
    wrong = Plan(plan.name, "1.0", "pypi", plan.artifacts, {"tool": "bin/other"}, {}, {})
    fetch_all(plan.artifacts, web, context())
    with pytest.raises(Failed, match="has no bin/other"):
        Unpack(root, wrong, web).run(context())
    assert not (root / "tools").exists()


def test_killed_anywhere_the_next_run_ends_with_the_same(served: Served, root: Path, tmp_path: Path) -> None:
    more = {f"f{number}": os.urandom(300_000) for number in range(12)}
    plan = planned(served, tmp_path, **more)
    whole = tmp_path / "whole"
    whole.mkdir()
    counted = Silent()
    ctx = context(counted)
    install(whole, plan, Web(tmp_path / "cache-0", ctx.safe_point), ctx)
    assert counted.asked > 30
    deaths = 0
    for patience in range(0, counted.asked, 3):
        child = os.fork()
        if child == 0:
            try:
                dying = context(Silent(patience=patience))
                install(root, plan, Web(tmp_path / "cache", dying.safe_point), dying)
            finally:
                os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        deaths += status == -9
        final = root / plan.folder
        assert not final.exists() or facts(final).keys() == facts(whole / plan.folder).keys()
        assert status == 0 or not read_installed(root).tools or final.exists()
    assert deaths > 10
    install(root, plan, Web(tmp_path / "cache", lambda: None), context())
    assert _content(root) == _content(whole)
    assert len([path for path, _ in served.asked if path.endswith(".whl")]) < deaths + 5


def _content(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes()) for path in files}
