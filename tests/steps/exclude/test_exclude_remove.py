"""Deleting in trees with everything that a tree can have."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from silent import Silent

from portunix_vdisk.platform.errors import Failed, Interrupted
from portunix_vdisk.steps.exclude.rules import Rule
from portunix_vdisk.tests.support.excluding import leave_out, make, tree

CACHE = [Rule("cache", ("cache/",))]


def test_odd_names_go_like_others(tmp_path: Path) -> None:
    odd = ["new\nline", "caf\udce9", "-rf", " ", "\\", "*", "\x01", "\U0001f4a9", "a" * 250]
    make(tmp_path, *(f"cache/{name}" for name in odd), *(f"{name}/cache/x" for name in odd), *(f"k/{n}" for n in odd))
    left = leave_out(tmp_path, CACHE)
    assert left.by_rule["cache"].files == 2 * len(odd) and left.stayed == 0
    assert tree(tmp_path) == {"k/", *(f"k/{name}" for name in odd), *(f"{name}/" for name in odd)}


def test_paths_longer_than_the_kernel_takes_are_walked(tmp_path: Path) -> None:
    depth, here = 60, os.open(tmp_path, os.O_RDONLY)
    for number in range(depth):
        name = "cache" if number == depth // 2 else "d" * 200
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("file", os.O_CREAT, dir_fd=here))
    os.close(here)
    left = leave_out(tmp_path, CACHE)
    assert left.by_rule["cache"].files == 1 and left.stayed == 0
    assert len(list(os.fwalk(tmp_path))) == depth // 2 + 1


def test_symbolic_links_are_never_followed(tmp_path: Path) -> None:
    make(tmp_path, "outside/cache/precious", "outside/x", "top/cache/file", "top/k/f")
    (tmp_path / "top/cache/link").symlink_to(tmp_path / "outside")
    (tmp_path / "top/k/cache").symlink_to(tmp_path / "outside/cache")
    (tmp_path / "top/way").symlink_to(tmp_path / "outside")
    (tmp_path / "top/loop").symlink_to(".")
    left = leave_out(tmp_path / "top", CACHE)
    assert tree(tmp_path / "top") == {"k/", "k/f", "k/cache", "way", "loop"}
    assert tree(tmp_path / "outside") == {"cache/", "cache/precious", "x"} and left.by_rule["cache"].files == 2


def test_a_link_counts_as_the_file_that_a_pattern_names(tmp_path: Path) -> None:
    make(tmp_path, "real/f")
    (tmp_path / "cache").symlink_to("real")
    leave_out(tmp_path, [Rule("r", ("cache",))])
    assert tree(tmp_path) == {"real/", "real/f"}


def test_bytes_of_hard_links_count_when_the_last_name_goes(tmp_path: Path) -> None:
    for name in ("a/cache", "b/cache", "k"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a/cache/one").write_bytes(bytes(100_000))
    (tmp_path / "b/cache/other").hardlink_to(tmp_path / "a/cache/one")
    (tmp_path / "a/cache/two").write_bytes(bytes(500_000))
    (tmp_path / "k/two").hardlink_to(tmp_path / "a/cache/two")
    folders = sum((tmp_path / name).stat().st_blocks * 512 for name in ("a/cache", "b/cache"))
    left = leave_out(tmp_path, CACHE).by_rule["cache"]
    size = left.bytes - folders
    assert left.files == 3 and 100_000 <= size < 110_000 and (tmp_path / "k/two").stat().st_nlink == 1


def test_folders_that_lose_something_keep_their_times(tmp_path: Path) -> None:
    make(tmp_path, "p/cache/x", "p/y")
    os.utime(tmp_path / "p", ns=(10**18, 10**18 + 5))
    leave_out(tmp_path, CACHE)
    assert (tmp_path / "p").stat().st_mtime_ns == 10**18 + 5 and tree(tmp_path) == {"p/", "p/y"}


@pytest.fixture
def protected(tmp_path: Path) -> Iterator[Path]:
    make(tmp_path, "cache/deep/fixed", "cache/deep/other", "cache/more", "cache/empty/")
    subprocess.run(["chattr", "+i", tmp_path / "cache/deep/fixed"], check=True)
    subprocess.run(["chattr", "+i", tmp_path / "cache/empty"], check=True)
    yield tmp_path
    subprocess.run(["chattr", "-i", tmp_path / "cache/deep/fixed", tmp_path / "cache/empty"], check=True)


def test_what_somebody_protected_stays_and_is_told(protected: Path) -> None:
    left = leave_out(protected, CACHE)
    assert tree(protected) == {"cache/", "cache/deep/", "cache/deep/fixed", "cache/empty/"}
    assert left.by_rule["cache"].files == 2 and left.stayed == 2
    assert sorted(left.examples) == [
        "cache/deep/fixed: operation not permitted",
        "cache/empty: operation not permitted",
    ]


def test_other_filesystems_are_not_entered(tmp_path: Path) -> None:
    make(tmp_path, "cache/inner/", "k/")
    for place in ("cache/inner", "k"):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path / place], check=True)
    try:
        make(tmp_path, "cache/inner/precious", "k/cache/precious", "cache/x")
        left = leave_out(tmp_path, CACHE)
        assert tree(tmp_path) >= {"cache/inner/precious", "k/cache/precious"} and "cache/x" not in tree(tmp_path)
        assert left.stayed == 1 and "another filesystem" in left.examples[0]
    finally:
        for place in ("cache/inner", "k"):
            subprocess.run(["umount", tmp_path / place], check=True)


def left_by_nobody(folder: Path) -> int:
    """How much stays when somebody without any rights leaves out the caches in a folder."""
    child = os.fork()
    if child == 0:
        try:
            here = os.open(folder, os.O_RDONLY)
            os.setgroups([])
            os.setegid(65534)
            os.seteuid(65534)
            os._exit(leave_out(Path(f"/proc/self/fd/{here}"), CACHE).stayed)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("rights", [0o555, 0o000, 0o444])
def test_folders_without_rights(tmp_path: Path, rights: int) -> None:
    """As an ordinary user: what is theirs goes although its mode forbids it, as that of Go's modules does."""
    make(tmp_path, "cache/d/x", "cache/d/y")
    for path in (tmp_path, tmp_path / "cache", tmp_path / "cache/d", tmp_path / "cache/d/x"):
        os.chown(path, 65534, 65534)
    (tmp_path / "cache/d").chmod(rights)
    (tmp_path / "cache").chmod(0o555)
    tmp_path.chmod(0o555)
    assert left_by_nobody(tmp_path) == 0
    assert tree(tmp_path) == set() and tmp_path.stat().st_mode & 0o777 == 0o555


def test_what_is_somebody_elses_stays(tmp_path: Path) -> None:
    make(tmp_path, "cache/d/x", "cache/y")
    for path in (tmp_path, tmp_path / "cache", tmp_path / "cache/y"):
        os.chown(path, 65534, 65534)
    assert left_by_nobody(tmp_path) == 1
    assert tree(tmp_path) == {"cache/", "cache/d/", "cache/d/x"}


def test_a_person_can_stop_it(tmp_path: Path) -> None:
    make(tmp_path, *(f"cache/{number}" for number in range(20)))
    with pytest.raises(Interrupted):
        leave_out(tmp_path, CACHE, person=Silent(patience=0, kill=False))


def test_other_failures_stop_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "p/cache/x")

    def broken(*arguments: object, **more: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "unlink", broken)
    with pytest.raises(Failed, match=r"input/output error \(p\)") as caught:
        leave_out(tmp_path, CACHE)
    assert caught.value.state == "the disk was not changed"
