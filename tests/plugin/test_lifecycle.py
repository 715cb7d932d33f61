"""The plugin comes and goes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.platform.home import Home
from portunix_vdisk.plugin import address
from portunix_vdisk.tests.plugin.harness import STAND_IN, Portunix, processes_of, wait_for


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_is_started_once_and_then_used(portunix: Portunix) -> None:
    assert portunix.run("vdisk", "list").returncode == 0
    first = portunix.server_pid()
    assert portunix.run("vdisk", "list").returncode == 0
    assert portunix.server_pid() == first
    status = portunix.run("plugin", "status", "vdisk")
    assert str(first) in status.stdout and "running" in status.stdout
    assert portunix.run("plugin", "stop", "vdisk").stdout == "vdisk: stopped\n"
    assert not alive(first)
    assert portunix.run("plugin", "stop", "vdisk").stdout == "vdisk: was not running\n"
    assert "not running" in portunix.run("plugin", "status", "vdisk").stdout


def test_clients_that_come_together_start_one(portunix: Portunix) -> None:
    clients = [portunix.start("vdisk", "list") for _ in range(4)]
    assert [(client.communicate(timeout=30), client.returncode)[1] for client in clients] == [0] * 4
    servers = [p for p in processes_of(portunix.home.root) if b"\0server\0" in Path(f"/proc/{p}/cmdline").read_bytes()]
    assert servers == [portunix.server_pid()]
    assert (portunix.home.logs / "vdisk-plugin.log").read_text().count("serves") == 1


def test_it_ends_when_idle_and_leaves_nothing(portunix: Portunix) -> None:
    portunix.environment["TEST_IDLE_SECONDS"] = "0.5"
    portunix.run("vdisk", "list")
    wait_for(lambda: not processes_of(portunix.home.root), 5)
    assert list(portunix.home.run.iterdir()) == []
    assert portunix.run("vdisk", "list").returncode == 0


def test_it_does_not_end_while_something_runs(portunix: Portunix) -> None:
    portunix.environment["TEST_IDLE_SECONDS"] = "0.2"
    assert portunix.sync("sleep 1").returncode == 0


def test_clients_meet_a_plugin_that_is_ending(portunix: Portunix) -> None:
    portunix.environment["TEST_IDLE_SECONDS"] = "0.1"
    for pause in (0.0, 0.05, 0.1, 0.15, 0.2, 0.1, 0.05):
        assert portunix.run("vdisk", "list").returncode == 0
        time.sleep(pause)


def test_ctrl_c_does_not_end_it_and_sigterm_does(portunix: Portunix) -> None:
    portunix.run("vdisk", "list")
    pid = portunix.server_pid()
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGHUP)
    assert portunix.run("vdisk", "list").returncode == 0
    assert portunix.server_pid() == pid
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not alive(pid), 5)
    assert list(portunix.home.run.iterdir()) == []


def test_sigterm_lets_operations_reach_a_safe_point(portunix: Portunix, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    client = portunix.start("vdisk", "sync", "--source", f"wait {mark}", "--target", "t", "--json")
    wait_for(mark.exists)
    os.kill(portunix.server_pid(), signal.SIGTERM)
    out, _ = client.communicate(timeout=10)
    assert client.returncode == 130
    assert json.loads(out)["error"]["hint"] == "run the same command to continue"
    assert mark.with_name("mark.stopped").exists()


@pytest.mark.parametrize("whole_group", [False, True])
def test_it_is_killed_in_the_middle(portunix: Portunix, tmp_path: Path, whole_group: bool) -> None:
    mark = tmp_path / "mark"
    client = portunix.start("vdisk", "sync", "--source", f"wait {mark}", "--target", "t")
    wait_for(mark.exists)
    pid, worker = portunix.server_pid(), int(mark.read_text())
    time.sleep(0.5)  # a plugin that dies before the client has heard of it is simply started once more
    if whole_group:
        os.killpg(pid, signal.SIGKILL)
        wait_for(lambda: not alive(worker), 2)
    else:
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: mark.with_name("mark.stopped").exists(), 2)
    _, err = client.communicate(timeout=10)
    assert client.returncode == 1
    assert b"the vdisk plugin ended in the middle of sync" in err
    assert b"run the same command to continue" in err
    assert portunix.socket.exists(), "the socket file is stale"
    assert portunix.run("vdisk", "list").returncode == 0
    assert portunix.server_pid() != pid


@pytest.mark.parametrize("replaced", [False, True])
def test_it_ends_when_its_socket_is_gone(portunix: Portunix, replaced: bool) -> None:
    portunix.run("vdisk", "list")
    pid = portunix.server_pid()
    portunix.socket.unlink()
    if replaced:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(portunix.socket))
        before = portunix.socket.stat().st_ino
    wait_for(lambda: not alive(pid), 5)
    if replaced:
        assert portunix.socket.stat().st_ino == before, "the other one's socket was removed"
        portunix.socket.unlink()
    assert list(portunix.home.run.iterdir()) == []


def test_another_build_is_replaced_when_idle_and_respected_when_busy(portunix: Portunix, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    client = portunix.start("vdisk", "sync", "--source", f"wait {mark}", "--target", "t")
    wait_for(mark.exists)
    pid = portunix.server_pid()
    portunix.environment["TEST_BUILD"] = "newer"
    refused = portunix.run("vdisk", "list")
    assert refused.returncode == 4
    assert "busy: sync" in refused.stderr and "plugin stop vdisk --force" in refused.stderr
    client.send_signal(signal.SIGINT)
    client.communicate(timeout=10)
    assert portunix.run("vdisk", "list").returncode == 0
    assert portunix.server_pid() != pid and not alive(pid)


def test_a_second_server_on_the_same_socket_is_refused(portunix: Portunix) -> None:
    portunix.run("vdisk", "list")
    command = [sys.executable, STAND_IN, "server", "--socket", str(portunix.socket)]
    done = subprocess.run(command, env=portunix.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "another plugin serves" in done.stderr
    assert portunix.run("vdisk", "list").returncode == 0


def test_a_folder_that_others_can_enter_is_refused(portunix: Portunix, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    command = [sys.executable, STAND_IN, "server", "--socket", str(tmp_path / "s.sock")]
    done = subprocess.run(command, env=portunix.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "is not a private folder" in done.stderr and "0700" in done.stderr
    assert list(tmp_path.iterdir()) == []
    portunix.home.make()
    portunix.home.run.chmod(0o777)
    done = portunix.run("vdisk", "list")
    assert done.returncode == 1 and "is not a private folder" in done.stderr
    portunix.home.run.chmod(0o700)


def test_a_plugin_that_cannot_start_says_why(portunix: Portunix) -> None:
    code = "import sys; from portunix_vdisk.plugin import cli; sys.exit(cli.main(['vdisk', 'list'], server=[{}]))"
    broken = code.format("sys.executable, '-c', 'raise RuntimeError(\"no such library\")'")
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", broken], env=portunix.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ended with status 1 before it was ready" in done.stderr and "no such library" in done.stderr
    assert time.monotonic() - started < 5
    done = subprocess.run(
        [sys.executable, "-c", code.format("'/no/such/program'")],
        env=portunix.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "cannot be started" in done.stderr


@pytest.mark.parametrize("name", ["h" * 120, "has space", "100%", "b\udcff"])
def test_state_folders_that_no_socket_path_can_name(root: Path, name: str) -> None:
    portunix = Portunix(root.parent / name / "home")
    home = portunix.home
    assert address.socket_path(home).parent == address.short_folder(home)
    try:
        assert portunix.run("vdisk", "list").returncode == 0
        folder = address.short_folder(home)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert "running" in portunix.run("plugin", "status", "vdisk").stdout
    finally:
        assert portunix.run("plugin", "stop", "vdisk").returncode == 0
    assert not folder.exists()


def test_the_short_folder_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = Home(tmp_path / ("h" * 120))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    with tempfile.TemporaryDirectory(prefix="pv-") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        assert address.short_folder(home).parent == Path(short)
        Path(short).chmod(0o755)
        assert address.short_folder(home).parent != Path(short)
        folder = Path(short, "taken")
        folder.mkdir(mode=0o755)
        with pytest.raises(Refused):
            address.make_private(folder)
        folder.rmdir()
        folder.symlink_to("/root")
        with pytest.raises(Refused):
            address.make_private(folder)


def test_the_state_folder_cannot_be_made(portunix: Portunix) -> None:
    portunix.environment["PORTUNIX_HOME"] = "/proc/nowhere"
    done = portunix.run("vdisk", "list")
    assert done.returncode == 1
    assert "the state folder cannot be made" in done.stderr


def test_a_listener_that_is_not_ours_does_not_hang_the_command(portunix: Portunix) -> None:
    portunix.home.make()
    portunix.environment["TEST_DEADLINE"] = "1"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(portunix.socket))
        other.listen(8)
        started = time.monotonic()
        done = portunix.run("vdisk", "list")
    portunix.socket.unlink()
    assert done.returncode == 1
    assert "error: the vdisk plugin" in done.stderr
    assert time.monotonic() - started < 5


def test_version_of_the_plugin(portunix: Portunix) -> None:
    done = subprocess.run([sys.executable, STAND_IN, "server", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("portunix-vdisk-plugin 0.")
