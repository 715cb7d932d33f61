"""What a disk sets, and what the record of an enemy doesn't get set."""

from __future__ import annotations

from pathlib import Path

import pytest

from portunix_vdisk.steps.install.environment import Environment, environment, make_plan
from portunix_vdisk.steps.install.record import Installed, InstalledPackage, InstalledTool


def tool(name: str, version: str = "1.2.3", *, active: bool = True, **variables: str) -> InstalledTool:
    return InstalledTool(name, version, "pypi", f"tools/{name}/{version}", {name: name}, variables, active=active)


def of(root: Path, *tools: InstalledTool, python: str = "") -> Environment:
    return environment(root, Installed(tools), python=python)


def test_an_empty_disk_sets_nothing_of_any_language(tmp_path: Path) -> None:
    found = of(tmp_path)
    assert found.in_front == {"PATH": (f"{tmp_path}/bin",)}
    assert found.variables == {"PORTUNIX_VDISK": str(tmp_path)}
    assert found.warnings == ()


def test_a_tool_brings_the_paths_and_caches_of_its_language(tmp_path: Path) -> None:
    found = of(tmp_path, tool("nodejs"), tool("go", GOROOT="{folder}/go", GOX="{root}/x:{folder}:{other}"))
    assert found.in_front == {
        "PATH": tuple(f"{tmp_path}/{name}" for name in ("bin", "env/node/node_modules/.bin", "env/go/bin")),
        "NODE_PATH": (f"{tmp_path}/env/node/node_modules",),
    }
    assert found.variables == {
        "PORTUNIX_VDISK": str(tmp_path),
        "npm_config_cache": f"{tmp_path}/cache/npm",
        "YARN_CACHE_FOLDER": f"{tmp_path}/cache/yarn",
        "GOPATH": f"{tmp_path}/env/go",
        "GOMODCACHE": f"{tmp_path}/env/go/pkg/mod",
        "GOCACHE": f"{tmp_path}/cache/go/build",
        "GOROOT": f"{tmp_path}/tools/go/1.2.3/go",
        "GOX": f"{tmp_path}/x:{tmp_path}/tools/go/1.2.3:{{other}}",
    }


def test_a_package_or_a_folder_brings_its_language_too(tmp_path: Path) -> None:
    packages = Installed(packages=(InstalledPackage("pip", "pandas", "2.1.0"),))
    found = environment(tmp_path, packages)
    assert found.in_front["PYTHONPATH"] == (f"{tmp_path}/env/python",)
    assert found.variables["PIP_CACHE_DIR"] == f"{tmp_path}/cache/pip"
    assert found.variables["UV_CACHE_DIR"] == f"{tmp_path}/cache/uv"
    (tmp_path / "cache/cargo").mkdir(parents=True)
    assert of(tmp_path).variables["CARGO_HOME"] == f"{tmp_path}/cache/cargo"
    assert "PIP_CACHE_DIR" not in of(tmp_path).variables


def test_only_the_active_version_sets_its_variables(tmp_path: Path) -> None:
    found = of(tmp_path, tool("go", "1.21.0", GOROOT="{folder}"), tool("go", "1.22.0", active=False, GOROOT="x"))
    assert found.variables["GOROOT"] == f"{tmp_path}/tools/go/1.21.0"


def test_a_mount_point_with_braces_is_only_text(tmp_path: Path) -> None:
    root = tmp_path / "{folder} {root}"
    assert of(root, tool("go", GOROOT="{root}/{folder}")).variables["GOROOT"] == f"{root}/{root}/tools/go/1.2.3"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LD_PRELOAD", "{folder}/evil.so"),
        ("Ld_Library_Path", "x"),
        ("DYLD_INSERT_LIBRARIES", "x"),
        *((name, "x") for name in ("PATH", "Path", "HOME", "IFS", "ENV", "PYTHONSTARTUP", "BASH_ENV")),
        *((name, "x") for name in ("PROMPT_COMMAND", "PS1", "PS4", "PYTHONPATH", "PYTHONHOME", "PERL5OPT", "RUBYOPT")),
        *((name, "x") for name in ("JAVA_TOOL_OPTIONS", "GIT_SSH_COMMAND", "EDITOR", "PAGER", "LESSOPEN", "GOFLAGS")),
        *((name, "x") for name in ("https_proxy", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "SSH_AUTH_SOCK", "ZDOTDIR")),
        *(
            (name, "x")
            for name in ("npm_config_registry", "PIP_INDEX_URL", "UV_INDEX", "CARGO_HOME", "GIT_CONFIG_COUNT")
        ),
        *((name, "x") for name in ("PORTUNIX_HOME", "PORTUNIX_VDISK", "SUDO_ASKPASS", "BASH_FUNC_ls", "GOPATH")),
        ("NODE_OPTIONS", "--require /mnt/evil.js"),
        ("NODE_OPTIONS", "--no-warnings -r x"),
        ("NODE_OPTIONS", "--import=x"),
        ("NODE_OPTIONS", "--experimental-loader x"),
        ("NODE_OPTIONS", "--max-old-space-size=1 --inspect-brk"),
    ],
)
def test_what_leads_other_programs_elsewhere_is_not_set(tmp_path: Path, name: str, value: str) -> None:
    for found in (
        of(tmp_path, tool("evil", **{name: value})),
        environment(tmp_path, Installed(), {name: value}),
    ):
        assert name not in {*found.variables, *found.in_front} - {"PATH", "PORTUNIX_VDISK"}
        assert found.in_front["PATH"] == (f"{tmp_path}/bin",)
        assert found.variables["PORTUNIX_VDISK"] == str(tmp_path)
        assert [f"wants to set {name}," in line for line in found.warnings] == [True]


def test_what_is_harmless_is_set(tmp_path: Path) -> None:
    harmless = {
        "NODE_OPTIONS": "--max-old-space-size=4096 --no-warnings",
        "JAVA_HOME": "{folder}",
        "GIT_EXEC_PATH": "x",
    }
    found = of(tmp_path, tool("some", **harmless))
    assert found.warnings == () and set(harmless) <= set(found.variables)
    configured = environment(tmp_path, Installed((tool("some", A="1", B="1"),)), {"B": "2"})
    assert (configured.variables["A"], configured.variables["B"]) == ("1", "2")


def test_lists_keep_what_was_there(tmp_path: Path) -> None:
    found = Environment(tmp_path, {"PATH": ("/d/bin", "/d/x"), "NODE_PATH": ("/d/n",)}, {"A": "1"})
    made = found.applied({"PATH": "/usr/bin", "B": "2", "NODE_PATH": ""})
    assert made == {"PATH": "/d/bin:/d/x:/usr/bin", "NODE_PATH": "/d/n", "A": "1", "B": "2"}


def prefix(root: Path, name: str, python: str, *, library: str = "lib", last: str = "site-packages") -> None:
    (root / name / library / f"python{python}" / last).mkdir(parents=True)
    (root / name / library).parent.joinpath("bin").mkdir(exist_ok=True)


def test_what_pip_put_on_the_disk_for_the_python_that_runs(tmp_path: Path) -> None:
    prefix(tmp_path, "python-env", "3.11")
    prefix(tmp_path, "debian", "3.11", library="local/lib", last="dist-packages")
    prefix(tmp_path, "old", "3.9")
    found = of(tmp_path, python="3.11")
    assert found.in_front["PATH"] == tuple(f"{tmp_path}/{one}" for one in ("bin", "debian/local/bin", "python-env/bin"))
    assert found.in_front["PYTHONPATH"] == (
        f"{tmp_path}/debian/local/lib/python3.11/dist-packages",
        f"{tmp_path}/python-env/lib/python3.11/site-packages",
    )
    assert found.warnings == ("old was installed for Python 3.9, but Python 3.11 runs here: its packages are not used",)
    assert len(of(tmp_path).warnings) == 3 and "there is no Python here" in of(tmp_path).warnings[0]


def test_the_disks_own_python_decides(tmp_path: Path) -> None:
    prefix(tmp_path, "python-env", "3.11")
    found = of(tmp_path, tool("python", "3.12.4"), python="3.11")
    assert "Python 3.12 runs here" in found.warnings[0]
    assert make_plan(Installed((tool("python", "3.12.4"),))).python == "3.12"
    assert of(tmp_path, tool("python", "3.12.4", active=False), python="3.11").warnings == ()


def test_what_is_no_prefix(tmp_path: Path) -> None:
    prefix(tmp_path, "env", "3.11")
    prefix(tmp_path, ".hidden", "3.11")
    prefix(tmp_path, "with:colon", "3.11")
    prefix(tmp_path, "new\nline", "3.11")
    prefix(tmp_path, "venv", "3.11")
    (tmp_path / "venv/pyvenv.cfg").touch()
    prefix(tmp_path, "whole", "3.11")
    (tmp_path / "whole/bin/python3").touch()
    prefix(tmp_path, "strange", "3.11;evil")
    (tmp_path / "link").symlink_to(tmp_path / "strange")
    (tmp_path / "unmade/lib/python3.11").mkdir(parents=True)
    (tmp_path / "file").touch()
    found = of(tmp_path, python="3.11")
    assert "PYTHONPATH" not in {one for one in found.in_front if found.in_front[one] != (f"{tmp_path}/env/python",)}
    assert found.warnings == ()
