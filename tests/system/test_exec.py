"""exec and env on a real disk, with a small tool on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from machine import BIN, Machine
from tooled import mount_point, own_place


def wait_for_line(stream: Any, line: bytes) -> None:
    while found := stream.readline():
        if line in found:
            return
    raise AssertionError(f"{line!r} was not printed")


def wait_until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_command_on_a_disk_that_is_not_mounted(prepared: Machine) -> None:
    root = own_place(prepared)
    answer = prepared.vdisk("exec", "my-dev", "--", "hello", "a b", "", "--json", "$HOME", check=0)
    assert answer.out == f"{root}/tools/hello/1.0|{root}|{root}|a b||--json|$HOME|\n"
    assert answer.err == "warning: hello wants to set LD_PRELOAD, which a disk may not; it is left as it is\n"
    assert mount_point(prepared) is None and not root.exists()


def test_exit_codes_are_the_commands_own(prepared: Machine) -> None:
    for code in (1, 4, 130, 255):
        prepared.vdisk("exec", "my-dev", "--", "hello", "exit", str(code), check=code)
    prepared.vdisk("exec", "my-dev", "--", "hello", "kill", "TERM", check=128 + signal.SIGTERM)
    prepared.vdisk("exec", "my-dev", "--", "hello", "kill", "KILL", check=128 + signal.SIGKILL)
    missing = prepared.vdisk("exec", "my-dev", "--", "helo", check=127)
    assert "error: helo: there is no such command" in missing.err
    assert "no such file" in prepared.vdisk("exec", "my-dev", "--", "./hello", check=127).err
    assert "no program" in prepared.vdisk("exec", "my-dev", "--", "./.vdisk/installed.json", check=126).err
    assert mount_point(prepared) is None
    assert "no disk called" in prepared.vdisk("exec", "your-dev", "--", "hello", check=3).err


def test_standard_streams_are_the_persons(prepared: Machine) -> None:
    command = [BIN / "portunix", "vdisk", "exec", "my-dev", "--", "sh", "-c", "hello read; echo bad >&2"]
    data = os.urandom(1 << 20)
    done = subprocess.run(
        command, cwd=prepared.folder, env=prepared.environment, input=data, capture_output=True, check=True
    )
    assert done.stdout.split(b"\n", 1)[1] == data
    assert done.stderr.endswith(b"\nbad\n")


def test_a_mounted_disk_stays_mounted_where_it_is(prepared: Machine) -> None:
    place = prepared.folder / "a place $x"
    prepared.vdisk("mount", "my-dev", place)
    answer = prepared.vdisk("exec", "my-dev", "--", "hello")
    assert answer.out == f"{place}/tools/hello/1.0|{place}|{place}|\n"
    # Which disk, and the folder, go by where the person is.
    inside = place / "projects" / "my app"
    assert prepared.vdisk("exec", "--", "hello", folder=inside).out.split("|")[2] == str(inside)
    assert prepared.vdisk("exec", "--", "../../bin/hello", folder=inside).out.split("|")[2] == str(inside)
    assert mount_point(prepared) == str(place)


def test_a_disk_that_is_mounted_for_reading_is_used_as_it_is(prepared: Machine) -> None:
    prepared.vdisk("mount", "my-dev", "place", "--read-only")
    prepared.vdisk("exec", "my-dev", "--", "sh", "-c", "hello && ! touch x 2>&1")
    assert mount_point(prepared) == str(prepared.folder / "place")


def test_a_folder_that_becomes_the_mount_point(prepared: Machine) -> None:
    root = own_place(prepared)
    root.mkdir(parents=True)
    assert prepared.vdisk("exec", "my-dev", "--", "hello", folder=root).out.split("|")[2] == str(root)
    assert mount_point(prepared) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_command_and_the_disk_is_unmounted(prepared: Machine, number: signal.Signals) -> None:
    process = prepared.start("exec", "my-dev", "--", "hello", "wait")
    wait_for_line(process.stdout, b"waiting")
    assert mount_point(prepared) == str(own_place(prepared))
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (9, b"stopped\n"), err
    assert mount_point(prepared) is None


def test_killed_it_leaves_the_disk_mounted_and_nothing_worse(prepared: Machine) -> None:
    process = prepared.start("exec", "my-dev", "--", "sh", "-c", "echo $$; exec sleep 300")
    assert process.stdout is not None and process.stderr is not None
    orphan = int(process.stdout.readline())
    process.kill()
    process.wait(60)
    process.stdout.close()
    process.stderr.close()
    assert mount_point(prepared) == str(own_place(prepared))
    prepared.vdisk("exec", "my-dev", "--", "hello")
    os.kill(orphan, signal.SIGKILL)
    wait_until(lambda: prepared.vdisk("unmount", "my-dev", check=None).code == 0)
    assert prepared.vdisk("exec", "my-dev", "--", "hello", check=0).out


def test_what_goes_on_in_the_background_keeps_the_disk(prepared: Machine) -> None:
    left = "sleep 300 >/dev/null 2>&1 & echo $!"
    answer = prepared.vdisk("exec", "my-dev", "--", "sh", "-c", left, check=4)
    assert "is in use by" in answer.err and "sleep" in answer.err and "nothing is lost" in answer.err
    assert prepared.vdisk("exec", "my-dev", "--", "hello", "exit", "5", check=5)
    assert mount_point(prepared) == str(own_place(prepared))
    os.kill(int(answer.out), signal.SIGKILL)
    wait_until(lambda: prepared.vdisk("unmount", "my-dev", check=None).code == 0)


def test_a_record_that_is_none_leaves_nothing_mounted(prepared: Machine) -> None:
    prepared.vdisk("mount", "my-dev", "place")
    (prepared.folder / "place/.vdisk/installed.json").write_text("{}")
    prepared.vdisk("unmount", "my-dev")
    assert "does not say what is installed" in prepared.vdisk("exec", "my-dev", "--", "hello", check=5).err
    assert mount_point(prepared) is None


def test_the_environment_of_a_mounted_disk(prepared: Machine) -> None:
    refused = prepared.vdisk("env", "my-dev", check=4)
    assert "my-dev is not mounted" in refused.err and "portunix vdisk mount my-dev" in refused.err
    place = prepared.folder / "it's $HOME"
    prepared.vdisk("mount", "my-dev", place)
    result = prepared.vdisk("env", "--json").result
    assert result["in_front"]["PATH"][0] == f"{place}/bin"
    assert result["variables"]["HELLO"] == f"{place}/tools/hello/1.0"
    for shell, kind in (("sh", "sh"), ("bash", "sh"), ("zsh", "sh"), ("fish", "fish")):
        lines = prepared.vdisk("env", "--shell", kind).out
        done = prepared.run(shell, "-c", f"{lines}\nhello evaluated", check=0)
        assert done.out == f"{place}/tools/hello/1.0|{place}|{prepared.folder}|evaluated|\n"
    assert "--shell is sh, fish, powershell" in prepared.vdisk("env", "--shell", "csh", check=2).err
    assert "--python is a version" in prepared.vdisk("env", "--python", "three", check=2).err
    activated = prepared.run("bash", "-c", '. "$1/activate"; hello', "-", place, check=0)
    assert activated.out == f"{place}/tools/hello/1.0|{place}|{prepared.folder}|\n"


def test_what_a_hosts_pip_put_on_the_disk(prepared: Machine) -> None:
    prepared.vdisk("mount", "my-dev", "place")
    root = prepared.folder / "place"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for name, python in (("python-env", version), ("old", "3.5")):
        folder = root / name / f"lib/python{python}/site-packages"
        folder.mkdir(parents=True)
        (folder / f"{name.replace('-', '_')}_module.py").write_text("print('imported')")
    programs = prepared.folder / "programs"
    programs.mkdir()
    (programs / "python3").symlink_to(os.path.realpath(sys.executable))
    prepared.environment["PATH"] = f"{programs}:/usr/bin:/bin:/usr/sbin:/sbin"
    answer = prepared.vdisk("exec", "--", "python3", "-c", "import python_env_module")
    assert answer.out == "imported\n"
    assert "old was installed for Python 3.5, but Python " + version in answer.err
    prepared.vdisk("exec", "--", "python3", "-c", "import old_module", check=1)


def test_what_is_installed(prepared: Machine) -> None:
    assert "my-dev is not mounted" in prepared.vdisk("list", "--tools", "my-dev", check=4).err
    assert "no disk is mounted" in prepared.vdisk("list", "--tools", check=3).err
    assert "--tools my-dev" in prepared.vdisk("list", "my-dev", check=2).err
    prepared.vdisk("mount", "my-dev", "place")
    assert prepared.vdisk("list", "--tools").out.splitlines() == [
        "NAME    VERSION  ACTIVE  FROM     COMMANDS",
        "hello   1.0      active  archive  hello",
        "nodejs  18.1.0   active  npm",
        "nodejs  20.1.0   -       pypi     node",
    ]
    tools = json.loads(prepared.vdisk("list", "--tools", "my-dev", "--json").out)["result"]["tools"]
    assert [(tool["name"], tool["version"], tool["active"]) for tool in tools] == [
        ("hello", "1.0", True),
        ("nodejs", "18.1.0", True),
        ("nodejs", "20.1.0", False),
    ]
