"""A second export to the same file: what it adds, and that the archive can be imported at every moment."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.platform.errors import NotFound, Refused
from portunix_vdisk.steps.archive.commit import next_of
from portunix_vdisk.steps.archive.keyring import add_key, forget_keys, key_of
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.storage import volumes_of
from portunix_vdisk.tests.support.chunks import CHUNK, noise


def texture(length: int, seed: int) -> bytes:
    """Bytes that compress to about half."""
    half = noise(length // 2, seed)
    return b"".join(bytes([byte, byte & 0xF0]) for byte in half)


@pytest.fixture
def disk(each_way: Any) -> Any:
    return each_way


def states(disk: Any) -> list[bytes]:
    """Export three states; the images."""
    images = [disk.image.read_bytes()]
    disk.export(2)
    disk.change(CHUNK + 70_000, noise(5000, 50))
    disk.change(3 * CHUNK, texture(3 << 20, 51))
    disk.change(2 * CHUNK, b"no hole any more")
    images.append(disk.image.read_bytes())
    disk.export(2)
    disk.change(CHUNK + 200_000, b"again")
    images.append(disk.image.read_bytes())
    disk.export(2)
    return images


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in volumes_of(path))


def test_second_export_adds_what_changed(disk: Any) -> None:
    first = disk.export()
    disk.change(CHUNK + 70_000, noise(5000, 50))
    second = disk.export()
    assert (first["generation"], second["generation"]) == (1, 2)
    assert second["archive_uuid"] == first["archive_uuid"] and second["root"] != first["root"]
    assert second["added_bytes"] < 5000 + 2 * 4096 + 12_000, "two blocks of noise, an index, a directory"
    assert second["archive_bytes"] == first["archive_bytes"] + second["added_bytes"] == size_of(disk.output)
    assert not volumes_of(next_of(disk.output))
    disk.import_()
    disk.assert_same()


def test_every_kept_generation_imports(disk: Any) -> None:
    disk.options["keep"] = 3
    images = states(disk)
    for generation, image in enumerate(images, start=1):
        disk.import_(2, generation)
        assert disk.back.read_bytes() == image
        disk.new_process()
    with pytest.raises(NotFound, match="no generation 4"):
        disk.import_(generation=4)


def test_only_as_many_generations_as_asked_for_are_listed(disk: Any) -> None:
    images = states(disk)
    with ArchiveReader(disk.output) as reader:
        assert reader.generations == [2, 3]
        assert reader.index.previous is not None and reader.index.previous.generation == 2
    disk.import_(generation=2)
    assert disk.back.read_bytes() == images[1]


def test_patches_are_against_whole_chunks_only(disk: Any) -> None:
    disk.export()
    for number in range(4):
        disk.change(CHUNK + number * 9000, noise(100, number))
        disk.export()
    with ArchiveReader(disk.output) as reader:
        patched = [chunk for chunk in reader.index.chunks if chunk.base]
        assert [chunk.offset for chunk in patched] == [CHUNK]
        whole = {chunk.member for chunk in reader.index.chunks if not chunk.base}
        assert patched[0].base is not None and patched[0].base.member not in whole
        assert reader.plain(patched[0]) == disk.image.read_bytes()[CHUNK : 2 * CHUNK]


def test_most_of_a_chunk_changed_is_a_new_chunk(disk: Any) -> None:
    disk.export()
    disk.change(CHUNK, texture(3 << 20, 9))
    disk.export()
    with ArchiveReader(disk.output) as reader:
        assert not any(chunk.base for chunk in reader.index.chunks)


def test_content_that_comes_back_is_not_stored_again(disk: Any) -> None:
    disk.export()
    former = disk.image.read_bytes()[CHUNK : 2 * CHUNK]
    disk.change(4 * CHUNK, former)
    assert disk.export()["added_bytes"] < 12_000
    disk.import_()
    disk.assert_same()


def test_unzip_and_zipfile_read_all_generations(disk: Any, tmp_path: Path) -> None:
    disk.options["keep"] = 9
    states(disk)
    joined = tmp_path / "joined.zip"
    joined.write_bytes(b"".join(file.read_bytes() for file in volumes_of(disk.output)))
    subprocess.run(["unzip", "-tqq", joined], check=True)
    with zipfile.ZipFile(joined) as archive:
        assert archive.testzip() is None
        assert len([name for name in archive.namelist() if name.startswith("index-")]) == 3


def test_update_of_an_encrypted_archive_needs_its_key(disk: Any) -> None:
    disk.export()
    disk.new_process()
    if not disk.options.get("encrypted"):
        return
    with ArchiveReader(disk.output) as reader:
        uuid = reader.header.archive_uuid
    key = key_of(uuid, disk.output)
    forget_keys()
    disk.change(0, b"changed")
    with pytest.raises(Refused, match="is encrypted"):
        disk.export()
    with pytest.raises(Refused, match="is encrypted"):
        disk.import_()
    add_key(uuid, key)
    disk.export()
    disk.import_()
    disk.assert_same()
