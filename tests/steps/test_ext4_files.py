"""Which files lie on damaged places, beside what debugfs says."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from portunix_vdisk.steps.ext4 import Doubt
from portunix_vdisk.steps.ext4_files import Findings, files_on

SIZE = 32 << 20


@pytest.fixture(scope="module", params=["", "-O ^extents,^64bit -b 1024"])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filesystem with files of many sorts, made without mounting."""
    folder = tmp_path_factory.mktemp("tree")
    tree = folder / "tree"
    names = {b"big": 5_000_000, b"small": 10, b"empty": 0, b"with blank\nand line": 9000, b"\xff\xfe": 70_000}
    for place in (b"", b"a/", b"a/b/", b"c d/"):
        Path(os.fsdecode(os.fsencode(tree) + b"/" + place)).mkdir(parents=True, exist_ok=True)
        for number, (name, size) in enumerate(names.items()):
            path = os.fsencode(tree) + b"/" + place + name
            with open(path, "wb") as file:
                file.write(random.Random(number).randbytes(size))
    (tree / "link").symlink_to("a/big")
    (tree / "long link").symlink_to("x" * 200)
    (tree / "hard").hardlink_to(tree / "a" / "b" / "big")
    many = tree / "many"
    many.mkdir()
    for number in range(300):
        (many / f"file number {number} of many").touch()
    made = folder / "fs"
    with made.open("wb") as file:
        file.truncate(SIZE)
    words = ["mke2fs", "-q", "-t", "ext4", *request.param.split(), "-d", str(tree), str(made)]
    subprocess.run(words, check=True, capture_output=True)
    return made


def found(image: Path, *damaged: tuple[int, int], zeros: bool = False) -> Findings:
    content = bytearray(image.read_bytes())
    for start, end in damaged if zeros else ():
        content[start:end] = bytes(end - start)
    return files_on(lambda offset, length: content[offset : offset + length], SIZE, damaged)


def debugfs(image: Path, request: str) -> str:
    done = subprocess.run(["debugfs", "-R", request, image], capture_output=True, check=True)
    return done.stdout.decode(errors="surrogateescape")


def block_size(image: Path) -> int:
    return int(next(line for line in debugfs(image, "stats -h").splitlines() if "Block size" in line).split()[-1])


def blocks(image: Path, path: str) -> list[int]:
    return [int(word) for word in debugfs(image, f"blocks {path}").split()]


@pytest.mark.parametrize("path", ["/big", "/a/small", "/many", "/a/b"])
def test_every_block_of_a_file_names_it_and_no_other(image: Path, path: str) -> None:
    size = block_size(image)
    name = path.encode() + (b"/" if path in ("/many", "/a/b") else b"")
    places = blocks(image, path)
    assert places
    for block in {places[0], places[-1], places[len(places) // 2]}:
        assert found(image, (block * size, block * size + 1)).files == [name]


def test_all_names_of_a_file_are_told(image: Path) -> None:
    block = blocks(image, "/hard")[0] * block_size(image)
    assert found(image, (block, block + 1)).files == [b"/a/b/big", b"/hard"]


def test_names_agree_with_debugfs_at_random_places(image: Path) -> None:
    size = block_size(image)
    for seed in range(6):
        block = random.Random(seed).randrange(2, SIZE // size)
        told = debugfs(image, f"icheck {block}").splitlines()[1].split("\t")[1]
        here = found(image, (block * size, (block + 1) * size))
        if told == "<block not found>":
            assert not here.files
        elif int(told) >= 11:
            names = debugfs(image, f"ncheck {told}").encode(errors="surrogateescape")
            assert here.files and all(path.rstrip(b"/") in names for path in here.files)


def test_zeros_in_a_folder_and_in_the_inodes(image: Path) -> None:
    size = block_size(image)
    block = blocks(image, "/a")[0] * size
    here = found(image, (block, block + size), zeros=True)
    assert b"/a/" in here.files
    line = debugfs(image, "imap /a/small")
    where = int(line.split("located at block ")[1].split(",")[0]) * size
    lost = found(image, (where, where + size), zeros=True)
    assert b"/a/small" in lost.files and any("inodes" in one for one in lost.structures)


def test_without_any_superblock_nothing_is_told(image: Path) -> None:
    assert found(image, (0, 4096)).structures[0].startswith("superblock")
    size = block_size(image)
    with pytest.raises(Doubt):
        found(image, (0, 4096), (8 * size * size, 8 * size * size + 4096), zeros=True)


def test_the_copy_of_the_superblock_tells_the_same(image: Path) -> None:
    if block_size(image) == 1024:  # with larger blocks the copy lies beyond this image
        place = blocks(image, "/a/b/big")[5] * 1024
        assert b"/a/b/big" in found(image, (0, 8192), (place, place + 1), zeros=True).files


def test_noise_does_no_harm(image: Path) -> None:
    content = bytearray(image.read_bytes())
    for seed in range(4):
        noise = random.Random(seed)
        hurt = bytearray(content)
        for _ in range(200):
            at = noise.randrange(2048, 2 << 20)
            hurt[at : at + 8] = noise.randbytes(8)
        try:
            files_on(lambda offset, length, hurt=hurt: hurt[offset : offset + length], SIZE, [(0, SIZE)])
        except Doubt:
            continue
