"""Which files the rules leave out: ours on trees like those of real projects, and any as git understands them."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.steps.exclude.rules import Rule, Rules
from portunix_vdisk.tests.support.excluding import OURS, leave_out, make, tree

GOES = [
    ("python-bytecode", ["p/__pycache__/a.pyc", "p/q/__pycache__/b/c.pyc"], ["p/a.py"]),
    ("python-tools", ["p/.mypy_cache/x", "p/.pytest_cache/v/x"], ["p/x"]),
    ("tox", ["p/.tox/py/bin/python"], ["p/tox.ini"]),
    ("node-cache", ["w/node_modules/.cache/babel/x", "node_modules/.vite/y"], ["w/node_modules/react/index.js"]),
    ("node-tools", ["w/.eslintcache", "w/.parcel-cache/1"], ["w/package.json"]),
    ("next", ["w/.next/cache/1", "w/.next/x"], ["w/next.config.mjs"]),
    (
        "cargo",
        ["r/target/debug/app", "r/x/target/.rustc_info.json"],
        ["r/Cargo.toml", "r/x/Cargo.toml", "r/src/main.rs"],
    ),
    ("maven", ["j/target/classes/A.class"], ["j/pom.xml"]),
    ("gradle", ["g/.gradle/8.0/x"], ["g/settings.gradle.kts"]),
    ("gradle-build", ["g/build/libs/x.jar"], ["g/build.gradle"]),
    ("gradle-cache", ["home/.gradle/caches/modules-2/x"], ["home/.gradle/gradle.properties"]),
    ("cmake", ["c/build/CMakeCache.txt", "c/cmake-build-debug/CMakeCache.txt"], ["c/CMakeLists.txt"]),
    ("python-build", ["p/build/bdist.linux-x86_64/x", "p/build/y"], ["p/setup.py"]),
    ("dotnet", ["n/obj/project.assets.json"], ["n/App.csproj", "n/bin/App.dll"]),
    ("pip-cache", [".cache/pip/http/1", "home/.cache/uv/x"], [".cache/other"]),
]
STAYS = [
    ["target/holiday.jpg", "photos/target/1", "target"],
    ["build/house.txt", "docs/out/1", "obj/x", "_build/x"],
    ["p/build/__init__.py", "p/build/lib/x", "p/setup.py"],
    ["s/setup.py", "s/build/ci.sh"],
    ["g/build.gradle", "g/build/docker/Dockerfile"],
    ["r/Cargo.toml", "r/target/practice.txt"],
    ["c/build/CMakeLists.txt", "c/build/CMakeCache.txt"],
    ["pycache/x", "__pycache__x", "x__pycache__/y"],
    ["p/.tox/x", "p/.gradle/x", "p/.next/x", "p/.nuxt/y"],
    ["repo/.git/refs/heads/__pycache__/x", "repo/.git/x"],
    ["lost+found/__pycache__/x"],
    ["node_modules/x.js", ".venv/bin/python", "dist/app.js", "logs/x.log"],
]


@pytest.mark.parametrize(("rule", "goes", "stays"), GOES, ids=[one[0] for one in GOES])
def test_what_can_be_made_again_goes(tmp_path: Path, rule: str, goes: list[str], stays: list[str]) -> None:
    make(tmp_path, *goes, *stays)
    left = leave_out(tmp_path)
    files = {path for path in tree(tmp_path) if not path.endswith("/")}
    assert files == set(stays) and left.by_rule.keys() == {rule}
    assert left.by_rule[rule].files == len(goes) and left.by_rule[rule].bytes >= 4096 and not left.stayed


@pytest.mark.parametrize("stays", STAYS, ids=[one[0] for one in STAYS])
def test_what_only_looks_like_it_stays(tmp_path: Path, stays: list[str]) -> None:
    make(tmp_path, *[path for path in stays if path != "target"])
    before = tree(tmp_path)
    assert leave_out(tmp_path).by_rule == {} and tree(tmp_path) == before


def test_what_is_to_be_kept_stays_with_everything_in_it(tmp_path: Path) -> None:
    make(
        tmp_path,
        "a/Cargo.toml",
        "a/target/debug",
        "b/Cargo.toml",
        "b/target/debug",
        "b/target/deep/er/y",
        "b/target/deep/z",
    )
    left = leave_out(tmp_path, keep=("/a/target/", "**/er/"))
    assert tree(tmp_path) == {
        *("a/", "a/Cargo.toml", "a/target/", "a/target/debug"),
        *("b/", "b/Cargo.toml", "b/target/", "b/target/deep/", "b/target/deep/er/", "b/target/deep/er/y"),
    }
    assert left.by_rule["cargo"].files == 2 and not left.stayed


def test_the_first_rule_that_matches_counts(tmp_path: Path) -> None:
    make(tmp_path, "x/f", "y/x/f")
    rules = [Rule("one", ("/x/",), beside=("nothing",)), Rule("two", ("x/",)), Rule("three", ("*",))]
    left = leave_out(tmp_path, rules)
    assert {name: one.files for name, one in left.by_rule.items()} == {"two": 1, "three": 1}


def test_files_hold_nothing(tmp_path: Path) -> None:
    make(tmp_path, "x", "d/x")
    leave_out(tmp_path, [Rule("a", ("x",), holds=("y",))])
    assert tree(tmp_path) == {"x", "d/", "d/x"}
    leave_out(tmp_path, [Rule("a", ("x",), lacks=("y",))])
    assert tree(tmp_path) == {"d/"}


def test_a_digest_tells_rules_apart() -> None:
    digests = {
        Rules(OURS).digest,
        Rules(OURS[1:]).digest,
        Rules(OURS, ("x",)).digest,
        Rules([Rule("a", ("x",))]).digest,
        Rules([Rule("a", ("x",), ("y",))]).digest,
        Rules([Rule("a", ("x",), (), ("y",))]).digest,
    }
    assert len(digests) == 6 and Rules(OURS).digest == Rules(list(OURS)).digest


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(BadUsage, match="rule a"):
        Rules([Rule("a", ("!",))])


_PARTS = st.sampled_from(["a", "b", "ab", "a.o", ".c", "x y", "caf\u00e9", "*", "?", "a*", "[ab]", "**", "*.o"])
_PATTERN = st.builds(
    lambda start, parts, end: start + "/".join(parts) + end,
    st.sampled_from(["", "/"]),
    st.lists(_PARTS, min_size=1, max_size=3),
    st.sampled_from(["", "/"]),
).filter(lambda text: text.strip("/*?. ") and not text.endswith("**/"))
_NAMES = st.sampled_from(["a", "b", "ab", "a.o", ".c", "x y", "caf\u00e9", "aa", "b.o"])
_PATHS = st.lists(st.lists(_NAMES, min_size=1, max_size=4).map("/".join), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.lists(_PATTERN, min_size=1, max_size=3), _PATHS)
def test_patterns_mean_what_they_mean_to_git(patterns: list[str], paths: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="exclude-", dir="/dev/shm") as folder:
        top = Path(folder) / "top"
        files = [path for path in paths if not any(other.startswith(f"{path}/") for other in paths)]
        make(top, *files)
        (Path(folder) / "ignore").write_text("\n".join(patterns))
        command = ["git", "-c", f"core.excludesFile={folder}/ignore", "ls-files", "-o", "-z", "--exclude-standard"]
        git = {"GIT_DIR": f"{folder}/git", "GIT_WORK_TREE": str(top), "PATH": "/usr/bin:/bin"}
        subprocess.run(["git", "init", "-q"], env=git, check=True)
        listed = subprocess.run(command, env=git, cwd=top, capture_output=True, check=True).stdout.decode()
        leave_out(top, [Rule(f"r{number}", (text,)) for number, text in enumerate(patterns)])
        assert {path for path in tree(top) if not path.endswith("/")} == set(filter(None, listed.split("\0")))
