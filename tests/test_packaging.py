"""What is built and installed is whole, works outside the checkout, and brings nothing along that is not meant to."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DATA = (".yaml", ".json", ".proto", ".txt", ".md", ".pyi", ".sh", ".fish", ".ps1")
"""Endings of files that are no Python source and that the package reads or a type checker wants."""


def run(*command: str | Path, folder: Path, timeout: int = 300) -> str:
    """Output of a command that must succeed, run where nothing of the checkout can be imported by accident."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL", "SUDO_"))}
    environment = kept | {"PORTUNIX_HOME": str(folder / "home")}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def package_files() -> set[str]:
    """Every file of the checkout that belongs into the package, by its name in the package."""
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    found = set()
    for package in folders:
        folder = ROOT.joinpath(*package.split(".")[1:])
        folders_of_data = [folder / "recipes"] if package.endswith("templates") else []
        for file in (one for each in (folder, *folders_of_data) for one in each.iterdir()):
            if file == ROOT / "bootstrap.py" or not file.is_file():
                continue
            if file.suffix == ".py" or file.name == "py.typed" or (folder != ROOT and file.suffix in DATA):
                found.add("/".join(("portunix_vdisk", *file.relative_to(ROOT).parts)))
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the sdist and the wheel that was built from it, as a release is."""
    work = tmp_path_factory.mktemp("build")
    # From a copy: setuptools writes build/ and *.egg-info beside the sources.
    listed = run("git", "-C", ROOT, "ls-files", "-coz", "--exclude-standard", folder=work) if _is_clone() else ""
    names = listed.split("\0") if listed else [str(f.relative_to(ROOT)) for f in ROOT.rglob("*") if f.is_file()]
    for name in names:
        source = ROOT / name
        if name and source.is_file() and not name.startswith((".venv/", ".git/", "build/", "dist/")):
            (work / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (work / "source" / name).write_bytes(source.read_bytes())
    run(sys.executable, "-m", "build", "--outdir", work / "dist", work / "source", folder=work)
    return work / "dist"


def _is_clone() -> bool:
    return (ROOT / ".git").exists()


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of a fresh virtual environment into which the wheel was installed."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    (wheel,) = built.glob("*.whl")
    run(folder / "venv/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel, folder=folder)
    return folder / "venv/bin"


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == package_files()


def test_the_sdist_holds_what_building_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "dodo.py", "steps/step.py"} <= names
    assert not [name for name in names if name.startswith((".venv", ".git/", "build/"))]


def test_the_programs_run_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    assert PROJECT["version"] in run(installed / "portunix", "--version", folder=tmp_path)
    assert PROJECT["version"] in run(installed / "portunix-vdisk-plugin", "--version", folder=tmp_path)
    assert {script for script in PROJECT["scripts"] if not (installed / script).exists()} == set()
    assert "export" in run(installed / "portunix", "vdisk", "--help", folder=tmp_path)


def test_the_plugin_and_doit_run_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    try:
        assert '"disks": []' in run(installed / "portunix", "vdisk", "list", "--json", folder=tmp_path)
        assert "overview" in run(installed / "portunix", "vdisk", "doit", "list", folder=tmp_path)
    finally:
        run(installed / "portunix", "plugin", "stop", "vdisk", folder=tmp_path)
    assert not [path for path in (tmp_path / "home/vdisk/run").rglob("*") if path.is_socket()]


def test_nothing_of_the_package_shadows_another(installed: Path, tmp_path: Path) -> None:
    code = "import platform, portunix_vdisk.platform.base as b; print(platform.system(), b.__name__)"
    assert (
        run(installed / "python", "-c", code, folder=tmp_path) == f"{os.uname().sysname} portunix_vdisk.platform.base\n"
    )
    code = "import importlib.metadata as m; print(*{file.parts[0] for file in m.files('portunix-vdisk')})"
    top = set(run(installed / "python", "-c", code, folder=tmp_path).split())
    assert top == {"portunix_vdisk", f"portunix_vdisk-{PROJECT['version']}.dist-info", ".."}
