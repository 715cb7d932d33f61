"""The changes that second exports are measured with: as many as said, the same everywhere, and real ones."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from portunix_vdisk.tests.bench.changes import (
    compressed_size,
    one_project,
    regular_files,
    replace_files,
    some_files,
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    for project in range(40):
        folder = top / f"projects/{project:02}/src"
        folder.mkdir(parents=True)
        for number in range(10):
            content = b"".join(b"line %d of %d\n" % (line, project) for line in range(100 + number))
            (folder / f"file-{number}").write_bytes(content)
    (top / "empty").touch()
    (top / "link").symlink_to("projects/00/src/file-0")
    (top / "long").symlink_to("x" * 300)
    (top / "projects/00/src/file-0").chmod(0o755)
    return top


def test_one_percent_at_random_is_the_same_for_the_same_seed(tree: Path) -> None:
    assert len(regular_files(tree)) == 400
    chosen = some_files(tree, 0.01, 1)
    assert len(chosen) == 4 and chosen == some_files(tree, 0.01, 1) != some_files(tree, 0.01, 2)
    assert len(some_files(tree, 0.000001, 1)) == 1


def test_one_project_of_forty(tree: Path) -> None:
    chosen = one_project(tree, 1 / 40)
    assert len(chosen) == 10 and len({file.parent for file in chosen}) == 1


def test_replaced_files_are_other_files_with_as_much_in_them(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy, symlinks=True)
    files = [Path("projects/00/src/file-0"), *some_files(tree, 0.05, 7)]
    before = {file: ((tree / file).read_bytes(), (tree / file).stat()) for file in files}
    written = replace_files(tree, files, 7)
    replace_files(copy, files, 7)
    assert written == sum(len(content) for content, _ in before.values())
    for file, (content, status) in before.items():
        now = (tree / file).read_bytes()
        assert len(now) == len(content) and now != content and now == (copy / file).read_bytes()
        assert (tree / file).stat().st_ino != status.st_ino and (tree / file).stat().st_mode == status.st_mode
    untouched = set(regular_files(tree)) - set(files)
    assert len(untouched) + len(set(files)) == 400


def test_compressed_size(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(random.Random(0).randbytes(100_000))
    (tmp_path / "-text").write_bytes(b"text " * 20_000)
    assert 100_000 < compressed_size(tmp_path, [Path("noise")]) < 103_000
    assert compressed_size(tmp_path, [Path("./-text")]) < 1000
