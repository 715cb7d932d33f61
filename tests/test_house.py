"""The house keeps its order: who may import whom, what may lie where, how long a file may be."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "portunix_vdisk"
LONGEST = 320
"""Lines of a file. A file that outgrows it holds two ideas."""

OURS = {
    "steps": ("steps", "platform.base", "platform.crc32c", "platform.errors", "platform.formats"),
    "platform": ("platform",),
    "templates": ("templates", "platform.errors"),
    "tasks": ("tasks", "steps", "platform", "templates"),
    "plugin": ("plugin", "tasks", "steps.step", "platform.errors", "platform.home"),
    "dodo": ("tasks",),
}
"""Part of the package and what of our own it may import. Errors, the state folder's place and the types in which a
step speaks with a person are the shared vocabulary; everything else goes through the next floor down."""

LIBRARIES = {
    "steps": {
        "blake3",
        "cryptography",
        "packaging",
        "pathspec",
        "urllib3",
        "xxhash",
        "zlib_ng",
        "zstandard",
    },
    "platform": {"plumbum"},
    "templates": {"yaml", "cerberus"},
    "tasks": {"doit"},
    "plugin": {"grpc", "google", "tqdm"},
    "dodo": set[str](),
}
"""Part of the package and the libraries outside the standard one that it may import."""


def parts() -> Iterator[tuple[str, Path]]:
    """Each source file of the package with the part that it belongs to."""
    for part in OURS:
        folder = ROOT / part
        yield from ((part, file) for file in sorted(folder.rglob("*.py")) if "_pb2" not in file.name)
    yield "dodo", ROOT / "dodo.py"


def sources() -> list[Path]:
    """Every Python file that a person wrote."""
    ours = [file for _, file in parts()]
    return [*ours, ROOT / "bootstrap.py", *sorted((ROOT / "tests").rglob("*.py"))]


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that is imported, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "." * node.level + (node.module or "")
            else:
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def complaints(part: str, tree: ast.Module) -> Iterator[str]:
    """What a file of ``part`` imports although it must not."""
    for line, name in imports(tree):
        top, _, inner = name.partition(".")
        if name.startswith("."):
            yield f"{line}: relative import of {name}"
        elif top == PACKAGE:
            if not any(f"{inner}.".startswith(f"{allowed}.") for allowed in OURS[part]):
                yield f"{line}: {name}"
        elif top not in sys.stdlib_module_names and top not in LIBRARIES[part]:
            yield f"{line}: {name}"


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def test_imports_go_one_way() -> None:
    found = [f"{name_of(file)}:{complaint}" for part, file in parts() for complaint in complaints(part, parse(file))]
    assert found == []


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("steps", "from portunix_vdisk.tasks import operations"),
        ("steps", "from portunix_vdisk.platform.home import Home"),
        ("steps", "from portunix_vdisk.platform import home"),
        ("steps", "def f():\n    import doit"),
        ("steps", "from . import durable"),
        ("platform", "import portunix_vdisk.steps.step"),
        ("tasks", "import grpc"),
        ("tasks", "from portunix_vdisk.plugin import cli"),
        ("plugin", "from portunix_vdisk.steps.archive import pack"),
        ("plugin", "import doit.loader"),
        ("dodo", "from portunix_vdisk.steps import step"),
    ],
)
def test_the_import_rule_notices(part: str, line: str) -> None:
    assert list(complaints(part, ast.parse(line)))


def test_steps_start_no_process_and_read_no_environment() -> None:
    found = []
    for part, file in parts():
        if part != "steps":
            continue
        tree = parse(file)
        found += [name_of(file) for _, name in imports(tree) if name.split(".")[0] in {"subprocess", "multiprocessing"}]
        attributes = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        found += [
            f"{name_of(file)}: {word}" for word in attributes if word in {"environ", "environb", "getenv", "system"}
        ]
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        found += [
            f"{name_of(file)}: {call.id}"
            for call in calls
            if isinstance(call, ast.Name) and call.id in {"print", "input"}
        ]
    assert found == []


def test_one_module_runs_external_commands() -> None:
    users = {
        name_of(file) for part, file in parts() for _, name in imports(parse(file)) if name.split(".")[0] == "plumbum"
    }
    assert len(users) <= 1, f"plumbum belongs in one module of platform/: {users}"


def test_nothing_shadows_the_standard_library() -> None:
    for folder in ("", "platform", "tests", "tests/platform"):
        assert not (ROOT / folder / "__init__.py").exists(), f"{folder or '.'}/__init__.py"
    assert sorted(file.name for file in ROOT.glob("*.py")) == ["bootstrap.py", "dodo.py"], (
        "packaged unless in MANIFEST.in"
    )


def in_root(*command: str) -> str:
    """What a command prints when it is started in the root of the repository, where the trap is."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_python_in_the_root_sees_the_right_platform_module() -> None:
    assert in_root(sys.executable, "-m", "platform").startswith("Linux")
    assert in_root(sys.executable, "-c", "import platform; print(platform.system())").strip() == "Linux"


def test_bare_pytest_in_the_root_sees_the_right_platform_module(tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text("import platform\ndef test_it(): assert platform.system() == 'Linux'\n")
    options = ("-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), str(test))
    script = Path(sys.executable).parent / "pytest"
    assert "1 passed" in in_root(str(script), *options)
    assert "1 passed" in in_root(sys.executable, "-m", "pytest", *options)


def test_doit_in_the_root_sees_the_right_platform_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTUNIX_HOME", str(tmp_path))
    script = Path(sys.executable).parent / "doit"
    assert "overview" in in_root(str(script), "list")
    assert "overview" in in_root(sys.executable, "-m", "doit", "list")


def test_every_package_is_declared_and_typed() -> None:
    declared = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {file.parent for part, file in parts() if part != "dodo"}
    assert {".".join((PACKAGE, *folder.relative_to(ROOT).parts)) for folder in folders} <= declared
    for package in declared:
        folder = ROOT.joinpath(*package.split(".")[1:])
        assert (folder / "py.typed").exists(), package


def test_files_hold_one_idea() -> None:
    lengths = {name_of(file): len(file.read_text(encoding="utf-8").splitlines()) for file in sources()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}
    vague = {"helpers", "helper", "utils", "util", "manager", "managers", "misc", "common"}
    assert [name for name in lengths if Path(name).stem in vague] == []
