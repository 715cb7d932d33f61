"""Under sudo: a plugin of its own for each command, that nobody but root can reach and that ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.tests.plugin.harness import Portunix, processes_of, told, wait_for

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
AS_NOBODY: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as sudo would give it")


def python_for_everybody(folder: Path) -> tuple[str, str]:
    """An interpreter that other users can run too (root's own may lie in root's home) and its ``PYTHONPATH``."""
    (folder / "portunix_vdisk").symlink_to(ROOT)
    libraries = sysconfig.get_path("platlib")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/python{version}"):
        command = [python, "-c", "import fractions, grpc, portunix_vdisk.plugin.cli"]
        path = f"{folder}:{libraries}"
        try:
            environment = {**os.environ, "PYTHONPATH": path}
            subprocess.run(command, env=environment, cwd="/", check=True, capture_output=True, **AS_NOBODY)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python, path
    pytest.skip(f"no Python {version} here that an ordinary user can run")


@pytest.fixture
def sudo(portunix: Portunix) -> Portunix:
    """As if user 65534 had typed ``sudo portunix``."""
    root = portunix.home.root
    root.parent.chmod(0o711)
    packages = root.parent / "packages"
    packages.mkdir()
    portunix.python, portunix.environment["PYTHONPATH"] = python_for_everybody(packages)
    root.mkdir()
    os.chown(root, NOBODY, NOBODY)
    portunix.environment |= {"SUDO_UID": str(NOBODY), "SUDO_GID": str(NOBODY)}
    return portunix


def private_folders() -> set[Path]:
    return set(Path("/run").glob("portunix-plugin-*"))


def test_each_command_has_its_own_plugin(sudo: Portunix) -> None:
    before = private_folders()
    done = sudo.sync("identity", "--json")
    assert done.returncode == 0, done
    real, effective, *_ = told(done.stdout)
    assert (int(real), int(effective)) == (0, NOBODY), "root can be had again, but files belong to the person"
    wait_for(lambda: not processes_of(sudo.home.root), 5)
    assert private_folders() == before
    assert list(sudo.home.run.iterdir()) == []
    owners = {path.stat().st_uid for path in sudo.home.root.rglob("*")}
    assert owners == {NOBODY}


def test_its_socket_is_out_of_reach_and_it_ends_with_its_client(sudo: Portunix, tmp_path: Path) -> None:
    before = private_folders()
    mark = sudo.home.root / "mark"
    client = sudo.start("vdisk", "sync", "--source", f"wait {mark}", "--target", "t")
    wait_for(mark.exists)
    (folder,) = private_folders() - before
    found = folder.stat()
    assert (found.st_uid, found.st_mode & 0o777) == (0, 0o700)
    client.send_signal(signal.SIGKILL)
    client.communicate()
    wait_for(lambda: not processes_of(sudo.home.root), 5)
    assert mark.with_name("mark.stopped").exists()
    assert private_folders() == before


def test_the_person_s_own_plugin_is_left_alone(sudo: Portunix) -> None:
    own = Portunix(sudo.home.root)
    own.python, own.environment["PYTHONPATH"] = sudo.python, sudo.environment["PYTHONPATH"]
    own.environment.pop("SUDO_UID", None)
    assert own.run("vdisk", "list", **AS_NOBODY).returncode == 0
    pid = own.server_pid()
    texts = told(sudo.sync("identity", "--json").stdout)
    assert texts[0] == "0"
    assert own.server_pid() == pid
    texts = told(own.sync("identity", "--json", **AS_NOBODY).stdout)
    assert texts[:2] == [str(NOBODY)] * 2, "a command without sudo gets no root"
    assert own.run("plugin", "stop", "vdisk", **AS_NOBODY).returncode == 0


def test_ctrl_c_under_sudo(sudo: Portunix) -> None:
    mark = sudo.home.root / "mark"
    client = sudo.start("vdisk", "sync", "--source", f"wait {mark}", "--target", "t")
    wait_for(mark.exists)
    client.send_signal(signal.SIGINT)
    client.communicate(timeout=10)
    assert client.returncode == 130
    assert mark.with_name("mark.stopped").exists()
