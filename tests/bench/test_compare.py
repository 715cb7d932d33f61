"""The comparison must notice each single thing that a copy can get wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from portunix_vdisk.tests.bench import peculiarities
from portunix_vdisk.tests.bench.compare import compare, report
from portunix_vdisk.tests.bench.environment import measure
from portunix_vdisk.tests.bench.packages import Installer

Change = Callable[[Path], object]


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    left, right = tmp_path / "left", tmp_path / "right"
    left.mkdir()
    peculiarities.home(left, Installer(tmp_path / "tools", print))
    subprocess.run(["cp", "-a", left, right], check=True)
    return left, right


def test_a_faithful_copy_has_no_difference(trees: tuple[Path, Path]) -> None:
    left, right = trees
    (right / "lost+found").mkdir()
    result = compare(left, right)
    assert result.differences == ()
    assert result.linked == 3
    assert result.kinds["symbolic link"] == 7
    assert report(result).endswith("no difference")


def flip(file: Path) -> None:
    """Change one byte, keep size and times."""
    status = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def relink(link: Path, target: str) -> None:
    status = link.lstat()
    link.unlink()
    link.symlink_to(target)
    os.utime(link, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def unshare(name: Path) -> None:
    copy = name.with_name("copy")
    shutil.copy2(name, copy)
    copy.rename(name)


CHANGES: dict[str, tuple[Change, set[str]]] = {
    "one bit": (lambda top: flip(top / "times/old"), {"digest"}),
    "a hole filled with zeros is no change": (lambda top: fill_hole(top / "holes.img"), set()),
    "mode": (lambda top: (top / "modes/0640").chmod(0o600), {"mode"}),
    "mode of a folder": (lambda top: (top / "empty").chmod(0o711), {"mode"}),
    "a nanosecond": (lambda top: os.utime(top / "times/precise", ns=(0, 1_234_567_890_123_456_788)), {"mtime_ns"}),
    "link target": (lambda top: relink(top / "links/dangling", "elsewhere"), {"target"}),
    "hard link became a copy": (lambda top: unshare(top / "links/third"), {"linked", "mtime_ns"}),
    "file gone": (lambda top: (top / "names/-rf").unlink(), {"exists", "mtime_ns"}),
    "file more": (lambda top: (top / "empty/new").touch(), {"exists", "mtime_ns"}),
    "empty folder gone": (lambda top: (top / "empty/.hidden").rmdir(), {"exists", "mtime_ns"}),
    "other bytes of the same name": (lambda top: renormalise(top / "names"), {"exists", "mtime_ns"}),
    "link became what it points to": (lambda top: follow(top / "links/to-file"), {"kind", "target", "digest", "size"}),
}


def fill_hole(file: Path) -> None:
    status = file.stat()
    with file.open("r+b") as image:
        image.seek(20 << 20)
        image.write(bytes(4096))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def renormalise(folder: Path) -> None:
    (folder / "nai\u0308ve cafe\u0301.md").rename(folder / "nai\u0308ve café.md")


def follow(link: Path) -> None:
    text = link.read_bytes()
    link.unlink()
    link.write_bytes(text)


@pytest.mark.parametrize("name", CHANGES)
def test_every_single_change_is_noticed(name: str, trees: tuple[Path, Path]) -> None:
    left, right = trees
    change, expected = CHANGES[name]
    change(right)
    found = {difference.what for difference in compare(left, right).differences}
    assert expected <= found
    assert bool(found) == bool(expected)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_owner_is_noticed(trees: tuple[Path, Path]) -> None:
    left, right = trees
    os.chown(right / "links/circle", 4711, 4712, follow_symlinks=False)
    os.chown(right / "empty", 4711, -1)
    found = {(difference.name, difference.what) for difference in compare(left, right).differences}
    assert found == {("links/circle", "uid"), ("links/circle", "gid"), ("empty", "uid")}


def test_a_report_names_files_that_are_not_utf8(trees: tuple[Path, Path]) -> None:
    left, right = trees
    (right / "names" / os.fsdecode(b"latin-1 caf\xe9.txt")).unlink()
    assert "caf\\\\xe9.txt" in report(compare(left, right))


def test_equal_files_are_linked_and_counted_once(tmp_path: Path) -> None:
    for name, text in {"a/same": "x" * 100, "b/same": "x" * 100, "a/other": "1", "b/other": "2", "a/only": "3"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert peculiarities.link_equal_files(tmp_path / "a", tmp_path / "b") == 1
    assert (tmp_path / "a/same").samefile(tmp_path / "b/same")
    assert measure(tmp_path) == (5, 103)


def test_times_of_a_filesystem_that_keeps_them_roughly(tmp_path: Path) -> None:
    for side, time in (("left", 5_900_000_000), ("right", 5_000_000_000)):
        (tmp_path / side).mkdir()
        (tmp_path / side / "file").write_text("same")
        os.utime(tmp_path / side / "file", ns=(time, time))
    left, right = tmp_path / "left", tmp_path / "right"
    assert [each.what for each in compare(left, right).differences] == ["mtime_ns"]
    assert compare(left, right, tick=10**9).differences == ()
