"""Setting up: what is said and done on machines that lack something. Nothing is installed here."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "bootstrap.py"


@pytest.fixture
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["tset"], 2), (["setup", "more"], 2), (["--help"], 0)])
def test_without_a_known_command_it_explains_itself(arguments: list[str], status: int, tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert "bootstrap.py demo" in done.stdout


def test_missing_programs_are_installed_once_each(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(bootstrap, "find", lambda program: None if program in ("qemu-img", "qemu-nbd", "zstd") else "/")
    monkeypatch.setattr(bootstrap, "root_prefix", lambda: ["sudo", "-n"])
    monkeypatch.setattr(bootstrap, "run", lambda command, failed: ran.append(command))
    monkeypatch.setattr(bootstrap.shutil, "which", lambda program, path=None: "/usr/bin/apt-get")
    bootstrap.system_programs("setup")
    assert [command[:4] for command in ran] == [["sudo", "-n", "env", "DEBIAN_FRONTEND=noninteractive"]] * 2
    assert ran[0][-1] == "update"
    assert ran[1][-2:] == ["qemu-utils", "zstd"]


def test_what_only_the_tests_want_is_installed_for_them_alone(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[list[str]] = []
    monkeypatch.setattr(bootstrap, "find", lambda program: None if program == "7z" else "/")
    monkeypatch.setattr(bootstrap, "install_packages", lambda packages: installed.append(packages) or True)
    for command in ("setup", "demo"):
        bootstrap.system_programs(command)
    assert installed == []
    bootstrap.system_programs("test")
    assert installed == [["p7zip-full"]]


def test_without_root_it_says_what_will_be_missing(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "find", lambda program: None if program == "qemu-storage-daemon" else "/")
    monkeypatch.setattr(bootstrap, "root_prefix", lambda: None)
    bootstrap.system_programs("setup")
    said = capsys.readouterr().err
    assert "qemu-storage-daemon: disks of type vhd cannot be mounted; img can" in said
    assert "sudo apt-get install qemu-system-common" in said


def test_with_everything_there_nothing_is_run(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "find", lambda program: "/")
    monkeypatch.setattr(bootstrap, "run", lambda *_: pytest.fail("something was run"))
    monkeypatch.setattr(bootstrap, "root_prefix", lambda: pytest.fail("sudo was asked"))
    bootstrap.system_programs("setup")


def test_an_environment_that_is_broken_moved_or_absent_is_not_used(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    venv = tmp_path / ".venv"
    monkeypatch.setattr(bootstrap, "VENV", venv)
    monkeypatch.setattr(bootstrap, "STAMP", venv / "installed-from")
    assert not bootstrap.usable(venv / "bin/python")
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    assert bootstrap.usable(venv / "bin/python")
    (venv / "installed-from").write_text("/elsewhere\n0\n")
    assert not bootstrap.usable(venv / "bin/python")
    (venv / "installed-from").unlink()
    (venv / "bin/python").unlink()
    (venv / "bin/python").symlink_to("/nonexistent")
    assert not bootstrap.usable(venv / "bin/python")


def test_an_older_python_gets_a_clear_answer() -> None:
    code = (
        "import sys; sys.version_info = (3, 8, 1, 'final', 0); sys.argv = ['bootstrap.py', 'test']; "
        f"exec(compile(open({str(SCRIPT)!r}).read(), 'bootstrap.py', 'exec'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Python 3.11 or newer is needed; this is 3.8")
