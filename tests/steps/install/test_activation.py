"""The activation files, in real shells, on "disks" whose mount points have every odd character."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from portunix_vdisk.steps.install.activation import activation_texts, write_activation
from portunix_vdisk.steps.install.environment import make_plan
from portunix_vdisk.steps.install.record import Installed, InstalledTool, write_installed

SHELLS = ("bash", "dash", "zsh", "fish", "busybox")
ODD = ("plain", "with space", "quo'te\"s", "dol$HOME`id`$(id)", "new\nline", "back\\slash*?[a]", "-dash é", "end\n")
VALUE = "a b'c\"d$HOME`id`\\ *!"
_PRINT = """
import os, sys
for name in ("PATH", "PORTUNIX_VDISK", "NODE_PATH", "PYTHONPATH", "npm_config_cache", "TOOL", "PLACE", "GOPATH"):
    sys.stdout.buffer.write(name.encode() + b"=" + os.environb.get(name.encode(), b"<unset>") + b"\\0")
sys.stdout.buffer.write(b"\\1")
"""


def disk(parent: Path, name: str, *more: InstalledTool) -> Path:
    root = parent / name
    root.mkdir()
    tool = InstalledTool(
        "nodejs", "20.1.0", "pypi", "tools/nodejs/20.1.0", environment={"TOOL": VALUE, "PLACE": "{root}:{folder}/x"}
    )
    installed = Installed((tool, *more))
    write_installed(root, installed)
    write_activation(root, installed)
    return root


class Shell:
    """A real shell in which lines are run one after the other; ``print`` tells the environment at that place."""

    def __init__(self, name: str, folder: Path) -> None:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed: python3 bootstrap.py test installs it")
        self.name, self.folder = name, folder
        self.command = {
            "bash": ["bash", "--norc"],
            "dash": ["dash"],
            "busybox": ["busybox", "sh"],
            "zsh": ["zsh", "-f"],
            "fish": ["fish", "--no-config"],
        }[name]
        self.file = "activate.fish" if name == "fish" else "activate"
        (folder / "print.py").write_text(_PRINT)
        (folder / "home").mkdir()

    def run(self, lines: str, *arguments: str, folder: Path | None = None, **variables: str) -> list[dict[str, str]]:
        """What ``print`` told each time; arguments are ``$1`` … (in fish ``$argv[1]``)."""
        script = self.folder / "script"
        if self.name == "fish":
            lines = lines.replace('"$1"', "$argv[1]").replace('"$2"', "$argv[2]").replace("; . ", "; source ")
        tell = f"'{sys.executable}' -I -S '{self.folder}/print.py'"
        script.write_text("\n".join(line.strip().replace("print", tell) for line in lines.splitlines()) + "\n")
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        with suppress(FileExistsError):
            (programs / "python3").symlink_to(os.path.realpath(sys.executable))
        environment = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(self.folder / "home"),
            "LC_ALL": "C.UTF-8",
            **variables,
        }
        done = subprocess.run(
            [*self.command, str(script), *arguments],
            cwd=folder or self.folder,
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.err = done.stderr.decode()
        self.code = done.returncode
        self.path = environment["PATH"]
        told = done.stdout.decode(errors="surrogateescape").split("\1")[:-1]
        return [dict(pair.split("=", 1) for pair in each.split("\0")[:-1]) for each in told]

    def activate(self, argument: str) -> str:
        return f"{'source' if self.name == 'fish' else '.'} {argument}"


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    place = tmp_path / "shell"
    place.mkdir()
    return Shell(request.param, place)


def expected(root: Path, path: str) -> dict[str, str]:
    return {
        "PATH": f"{root}/bin:{root}/env/node/node_modules/.bin:{path}",
        "PORTUNIX_VDISK": str(root),
        "NODE_PATH": f"{root}/env/node/node_modules",
        "PYTHONPATH": "<unset>",
        "npm_config_cache": f"{root}/cache/npm",
        "TOOL": VALUE,
        "PLACE": f"{root}:{root}/tools/nodejs/20.1.0/x",
        "GOPATH": "<unset>",
    }


@pytest.mark.parametrize("name", ODD)
def test_everything_is_set_and_undone(shell: Shell, tmp_path: Path, name: str) -> None:
    root = disk(tmp_path, name)
    strict = "" if shell.name == "fish" else "set -eu"
    lines = f"""{strict}
        print
        {shell.activate('"$1"')}
        print
        {shell.activate('"$1"')}
        print
        deactivate
        print
    """
    before, once, twice, after = shell.run(lines, str(root / shell.file), TOOL="mine", GOPATH="/go")
    assert shell.err == "" and shell.code == 0
    assert before["TOOL"] == "mine"
    assert once == expected(root, shell.path) | {"GOPATH": "/go"}
    assert twice == once
    assert after == before


def test_lists_keep_what_was_in_them(shell: Shell, tmp_path: Path) -> None:
    root = disk(tmp_path, "a")
    lines = f"""{shell.activate('"$1"')}
        print
        deactivate
        print"""
    once, after = shell.run(lines, str(root / shell.file), NODE_PATH="/x:/y z")
    assert once["NODE_PATH"] == f"{root}/env/node/node_modules:/x:/y z"
    assert after["NODE_PATH"] == "/x:/y z"


def test_another_disk_takes_the_place_of_the_first(shell: Shell, tmp_path: Path) -> None:
    first, second = disk(tmp_path, "a"), disk(tmp_path, "b")
    lines = f"""{shell.activate('"$1"')}
        {shell.activate('"$2"')}
        print
        deactivate
        print"""
    once, after = shell.run(lines, str(first / shell.file), str(second / shell.file))
    assert once == expected(second, shell.path)
    assert after["PATH"] == shell.path and after["PORTUNIX_VDISK"] == "<unset>"


def test_by_a_relative_path_and_by_a_link(shell: Shell, tmp_path: Path) -> None:
    root = disk(tmp_path, "a b")
    (found,) = shell.run(f"{shell.activate('./' + shell.file)}\nprint", folder=root)
    assert found == expected(root, shell.path)
    link = tmp_path / "link"
    link.symlink_to(root / shell.file)
    (found,) = shell.run(f"{shell.activate(chr(34) + '$1' + chr(34))}\nprint", str(link))
    assert found == expected(root, shell.path)


def test_folders_decide_when_it_is_activated(shell: Shell, tmp_path: Path) -> None:
    root = disk(tmp_path, "a")
    (root / "cache/go").mkdir(parents=True)
    (found,) = shell.run(f"""{shell.activate('"$1"')}\nprint""", str(root / shell.file))
    assert found["GOPATH"] == f"{root}/env/go"
    assert f"{root}/env/go/bin" in found["PATH"]


@pytest.mark.parametrize("name", ["a b", "new\nline", "$HOME*"])
def test_what_a_hosts_pip_put_there(shell: Shell, tmp_path: Path, name: str) -> None:
    root = disk(tmp_path, name)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for name in ("python-env", "deb/local", "projects", "venv"):
        (root / name / f"lib/python{version}" / ("dist" if "/" in name else "site")).parent.mkdir(parents=True)
        last = "dist-packages" if "/" in name else "site-packages"
        (root / name / f"lib/python{version}" / last).mkdir()
        (root / name / "bin").mkdir()
    (root / "venv/pyvenv.cfg").touch()
    (root / "old/lib/python3.5/site-packages").mkdir(parents=True)
    (found,) = shell.run(f"""{shell.activate('"$1"')}\nprint""", str(root / shell.file), PYTHONPATH="/mine")
    modules = [f"{root}/python-env/lib/python{version}/site-packages"]
    modules += [f"{root}/deb/local/lib/python{version}/dist-packages"]
    assert sorted(found["PYTHONPATH"].split(":")) == sorted([*modules, "/mine"])
    assert found["PYTHONPATH"].endswith(":/mine")
    path = found["PATH"].removesuffix(f":{shell.path}").split(":")
    assert path[:2] == [f"{root}/bin", f"{root}/env/node/node_modules/.bin"]
    assert sorted(path[2:]) == [f"{root}/deb/local/bin", f"{root}/python-env/bin"]
    assert shell.err == (
        f"activate: old was installed for Python 3.5, but {version} runs here: its packages are not used\n"
    )


def test_the_disks_own_python_decides(shell: Shell, tmp_path: Path) -> None:
    root = disk(tmp_path, "a", InstalledTool("python", "3.5.1", "debian", "tools/python/3.5.1"))
    (root / "old/lib/python3.5/site-packages").mkdir(parents=True)
    (found,) = shell.run(f"""{shell.activate('"$1"')}\nprint""", str(root / shell.file))
    assert found["PYTHONPATH"] == f"{root}/env/python:{root}/old/lib/python3.5/site-packages"
    assert shell.err == ""


def test_a_colon_in_the_mount_point_is_refused(shell: Shell, tmp_path: Path) -> None:
    root = disk(tmp_path, "a:b")
    after = "print" if shell.name == "fish" else "print\nset | grep -a portunix || :"
    (found,) = shell.run(f"""{shell.activate('"$1"')}\n{after}""", str(root / shell.file))
    assert found["PATH"] == shell.path and found["PORTUNIX_VDISK"] == "<unset>"
    assert "a colon in the mount point" in shell.err


def test_nothing_of_ours_is_left_in_the_shell(shell: Shell, tmp_path: Path) -> None:
    root = disk(tmp_path, "a")
    look = "set -n; functions -an" if shell.name == "fish" else "set"
    shell_lines = f"""{shell.activate('"$1"')}
        deactivate
        {look} > "$2"
        print"""
    shell.run(shell_lines, str(root / shell.file), str(tmp_path / "left"))
    left = [line for line in (tmp_path / "left").read_text().splitlines() if "portunix" in line.lower()]
    allowed = ("_=", "OLDPWD", "1=", "BASH_EXECUTION", "BASH_ARGV")
    assert [line for line in left if not line.startswith(allowed) and "/" not in line] == []


def test_a_virtual_environment_keeps_its_deactivate(shell: Shell, tmp_path: Path) -> None:
    if shell.name == "fish":
        define = "function deactivate; echo theirs >&2; end"
    else:
        define = "deactivate() { echo theirs >&2; }"
    root = disk(tmp_path, "a")
    lines = f"""{define}
        {shell.activate('"$1"')}
        portunix_deactivate
        deactivate
        print"""
    (after,) = shell.run(lines, str(root / shell.file), VIRTUAL_ENV="/venv")
    assert (after["PATH"], shell.err) == (shell.path, "theirs\n")


def test_texts_have_no_absolute_path_and_are_the_same_everywhere(tmp_path: Path) -> None:
    roots = [disk(tmp_path, name) for name in ("one", "two")]
    for name in ("activate", "activate.fish", "activate.ps1"):
        first, second = ((root / name).read_text() for root in roots)
        assert first == second and str(tmp_path) not in first and "@" not in first.replace("@(", "").replace("@{", "")


def test_powershell_takes_values_for_text() -> None:
    tool = InstalledTool("t", "1", "npm", "tools/t/1", environment={"A": "it's \u2019 $x `n", "B": "{folder}/x"})
    text = activation_texts(make_plan(Installed((tool,))))["activate.ps1"]
    assert "Set-One 'A' ('it''s \u2019\u2019 $x `n')\n" in text
    assert "Set-One 'B' ('' + $root + '/tools/t/1/x')\n" in text
    assert "if ((Test-Path -LiteralPath ('' + $root + '/env/go'))" in text


def test_an_enemys_record_is_not_run_by_any_shell(shell: Shell, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    evil = f"$(touch {mark})`touch {mark}`'\"; touch {mark} #"
    tool = InstalledTool("t", "1", "npm", "tools/t/1", environment={"TOOL": evil, "PATH": evil, "LD_PRELOAD": evil})
    root = disk(tmp_path, "a", tool)
    (found,) = shell.run(f"""{shell.activate('"$1"')}\nprint""", str(root / shell.file))
    assert found["TOOL"] == evil and not mark.exists() and found["PATH"] == expected(root, shell.path)["PATH"]


def test_what_lies_in_its_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    root = tmp_path / "a"
    root.mkdir()
    for name in ("activate", "activate.partial", "activate.fish"):
        (root / name).symlink_to(victim)
    write_activation(root, Installed())
    assert victim.read_text() == "mine"
    assert sorted(path.name for path in root.iterdir()) == ["activate", "activate.fish", "activate.ps1"]
    assert not (root / "activate").is_symlink()
