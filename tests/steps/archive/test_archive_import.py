from __future__ import annotations

import errno
import os
import random
from functools import partial
from typing import Any

import pytest

from portunix_vdisk.platform.errors import Corrupt, Failed, Interrupted, NotFound, Refused
from portunix_vdisk.steps.archive import imports, pipeline, write_back
from portunix_vdisk.steps.archive.layout import NewerVersion, NotAnArchive
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.unpack import Finish, Prepare, Unpack
from portunix_vdisk.tests.support.chunks import CHUNK, noise


@pytest.fixture
def archive(house: Any) -> Any:
    house.make(9 * CHUNK + 5, {n * CHUNK: noise(5000, n) for n in (0, 1, 2, 4, 6, 8)} | {3 * CHUNK: noise(CHUNK)})
    house.export()
    return house


def test_resume_reads_back_and_writes_only_the_rest(archive: Any) -> None:
    archive.unpack(9, only=[0, 1, 2, 3])
    archive.new_process()
    archive.platform.opened.clear()
    results = archive.unpack(9)
    assert [result["reused_bytes"] // CHUNK for result in results] == [1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert min(offset for offset, _ in archive.platform.opened[0].writes) >= 4 * CHUNK
    facts = Finish(archive.import_of()).run(archive.ctx)
    assert facts["written_bytes"] == 3 * CHUNK and facts["reused_bytes"] == 4 * CHUNK
    archive.assert_same()


def test_finish_proves_what_other_processes_wrote(archive: Any) -> None:
    """Between two processes the image was damaged in every way: lost, changed, and data where zeros belong."""
    archive.unpack(9)
    archive.new_process()
    with archive.back.open("r+b") as file:
        for place, data in ((10, b"x"), (4 * CHUNK, bytes(5000)), (5 * CHUNK + 9, b"y"), (9 * CHUNK, b"z")):
            file.seek(place)
            file.write(data)
    facts = Finish(archive.import_of()).run(archive.ctx)
    archive.assert_same()
    assert facts["written_bytes"] == 2 * CHUNK and facts["reused_bytes"] == 5 * CHUNK


def test_a_full_leftover_of_something_else_is_overwritten(archive: Any) -> None:
    archive.back.write_bytes(noise(9 * CHUNK + 5, 42))
    archive.import_(3)
    archive.assert_same()


def test_leftover_of_another_size_is_made_anew(archive: Any) -> None:
    archive.back.write_bytes(noise(CHUNK))
    archive.import_()
    archive.assert_same()


def test_writes_ascend_and_all_is_flushed(archive: Any) -> None:
    with archive.back.open("wb") as file:
        file.truncate(9 * CHUNK + 5)
        file.seek(5 * CHUNK)
        file.write(b"dirt")
    archive.import_(9)
    image = archive.platform.opened[-1]
    assert image.flushed == len(image.writes)
    assert (5 * CHUNK, CHUNK) in [write for image in archive.platform.opened for write in image.writes]
    archive.new_process()
    archive.back.unlink()
    archive.unpack(4)
    writes = [offset for offset, _ in archive.platform.opened[-1].writes]
    assert writes == sorted(writes) and len(writes) == 7


def test_is_brought_to_the_medium_meanwhile(archive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every chunk here, so that one and the one before it are all that a power cut can take."""
    monkeypatch.setattr(write_back, "_AT_ONCE", 1)
    archive.unpack(9)
    image = archive.platform.opened[-1]
    assert len(image.writes) - 2 <= image.flushed <= len(image.writes)


def test_interrupted_then_continued(archive: Any) -> None:
    archive.talk.steps.clear()
    archive.talk.cancel = lambda: len(archive.talk.steps) >= 3
    with pytest.raises(Interrupted):
        archive.unpack()
    archive.talk.cancel = lambda: False
    archive.import_()
    archive.assert_same()


def flip(path: Any, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))


def test_bad_chunk_is_named_and_never_written(archive: Any) -> None:
    with ArchiveReader(archive.output) as reader:
        chunk = reader.index.chunks[4]
        entry = reader.directory.entries[chunk.member]
    flip(archive.output, entry.offset + 150)
    with pytest.raises(Corrupt) as caught:
        archive.import_()
    assert caught.value.code == 5
    for word in (str(archive.output), chunk.member, str(chunk.offset)):
        assert word in caught.value.what
    with archive.back.open("rb") as file:
        file.seek(chunk.offset)
        assert file.read(5000) == bytes(5000)


def test_every_flipped_bit_of_an_archive_is_refused_or_harmless(archive: Any) -> None:
    """Harmless are only bytes nobody relies on: RECOVER.txt and the sessions' notes."""
    whole = archive.output.read_bytes()
    with ArchiveReader(archive.output) as reader:
        entries = sorted((entry.offset, name) for name, entry in reader.directory.entries.items())
        expected = reader.index
    generator = random.Random(1)
    places = [generator.randrange(len(whole)) for _ in range(120)]
    places += [offset + generator.randrange(100) for offset, _ in entries for _ in range(4)]
    places += range(len(whole) - 22, len(whole))
    refused = 0
    for place in places:
        archive.output.write_bytes(whole)
        flip(archive.output, place)
        try:
            with ArchiveReader(archive.output) as reader:
                reader.check_headers()
                for chunk in reader.index.chunks:
                    reader.plain(chunk)
                assert reader.index == expected
        except (Corrupt, NotAnArchive, NewerVersion):
            refused += 1
        else:
            name = max((offset, name) for offset, name in entries if offset <= place)[1]
            assert name == "RECOVER.txt" or name == "portunix-vdisk.json", (place, name)
    assert refused > 100


def test_distinct_messages(archive: Any, tmp_path: Any) -> None:
    whole = archive.output.read_bytes()
    prepare = Prepare(archive.import_of())

    def message(content: bytes) -> tuple[int, str]:
        archive.output.write_bytes(content)
        with pytest.raises((Corrupt, Refused)) as caught:
            prepare.run(archive.ctx)
        assert str(archive.output) in caught.value.what and not archive.back.exists()
        return int(caught.value.code), caught.value.what

    code, what = message(whole[: len(whole) // 2])
    assert code == 5 and "truncated" in what
    for content in (b"", b"PK", noise(100_000), b"PK\5\6" + bytes(18)):
        code, what = message(content)
        assert code == 4 and "not an archive" in what
    code, what = message(whole.replace(b'"version": 2', b'"version": 3', 1))
    assert code == 4 and "version 3" in what
    archive.output.unlink()
    with pytest.raises(NotFound):
        prepare.run(archive.ctx)
    archive.output.mkdir()
    with pytest.raises(NotAnArchive):
        prepare.run(archive.ctx)
    archive.output.rmdir()
    os.mkfifo(archive.output)
    with pytest.raises(NotAnArchive):
        prepare.run(archive.ctx)


def test_archive_cut_while_it_is_read(archive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # One chunk is read ahead, not as many as the machine has threads for: the rest must meet the cut file.
    monkeypatch.setattr(pipeline, "_AHEAD", 1)
    monkeypatch.setattr(imports, "Pipeline", partial(pipeline.Pipeline, threads=1))
    task = archive.import_of()
    archive.unpack(9, only=[0])
    os.truncate(archive.output, 6000)
    with pytest.raises(Corrupt, match="truncated"):
        for number in range(9):
            Unpack(task, number, 9).run(archive.ctx)


@pytest.mark.parametrize("method", ["write", "flush", "read", "zero"])
def test_errors_of_the_image(archive: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.unpack(9, only=[0, 3])
    archive.new_process()
    with archive.back.open("r+b") as file:
        file.seek(5 * CHUNK)
        file.write(b"dirt")
    raw = type(archive.platform.opened[0])

    def fail(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(raw, method, fail)
        with pytest.raises(Failed, match="no space") as caught:
            archive.import_(3)
        assert "kept" in caught.value.state
    archive.import_(3)
    archive.assert_same()


def test_too_little_room(archive: Any) -> None:
    archive.platform.free = 100
    with pytest.raises(Refused, match="too little space"):
        archive.import_()
