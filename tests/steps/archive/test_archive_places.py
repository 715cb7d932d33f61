from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.platform.errors import Failed, Interrupted, Refused
from portunix_vdisk.steps.archive.pack import Scan
from portunix_vdisk.steps.archive.seal import Seal
from portunix_vdisk.steps.archive.status import ArchiveState, archive_status
from portunix_vdisk.steps.durable import identity_of
from portunix_vdisk.steps.source import SourceIdentity
from portunix_vdisk.tests.support.chunks import ten_chunks


@pytest.fixture
def disk(house: Any) -> Any:
    return ten_chunks(house)


def test_refuses_the_partial_of_another_disk(disk: Any) -> None:
    disk.pack()
    disk.new_process()
    before = disk.partial.read_bytes()
    other = disk.export_of(uuid="another")
    with pytest.raises(Refused, match="another disk"):
        Scan(other).run(disk.ctx)
    assert disk.partial.read_bytes() == before
    assert archive_status(disk.output, "another").state is ArchiveState.OTHER_DISK


@pytest.mark.parametrize("content", [b"my thesis", b"PK\3\4" + b"x" * 5000, bytes(100_000), b"PK\3\4" + b"x" * 100])
def test_refuses_a_file_that_is_in_the_way(disk: Any, content: bytes) -> None:
    disk.partial.write_bytes(content)
    with pytest.raises(Refused, match="in the way") as caught:
        disk.pack()
    assert disk.partial.read_bytes() == content and caught.value.code == 4
    assert archive_status(disk.output, "any").state is ArchiveState.NOT_AN_ARCHIVE


@pytest.mark.parametrize("content", [b"", bytes(300), b"PK\3\4\n\0"])
def test_killed_before_the_first_document_was_whole(disk: Any, content: bytes) -> None:
    disk.partial.write_bytes(content)
    assert archive_status(disk.output, "any").state is ArchiveState.PARTIAL
    disk.export()
    disk.import_()
    disk.assert_same()


def test_nothing_written_leaves_no_empty_file(disk: Any) -> None:
    disk.platform.free = 0
    with pytest.raises(Refused, match="0 B are free"):
        disk.pack()
    assert not disk.partial.exists()


def test_reading_back_can_be_interrupted(disk: Any) -> None:
    disk.pack()
    disk.new_process()
    before = disk.partial.read_bytes()
    disk.talk.cancel = lambda: True
    with pytest.raises(Interrupted):
        disk.pack()
    assert disk.partial.read_bytes() == before


def test_does_not_follow_a_link_at_the_partials_place(disk: Any, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    disk.partial.symlink_to(victim)
    with pytest.raises(Failed):
        disk.pack()
    assert victim.stat().st_size == 0


def test_two_exports_to_one_file(disk: Any) -> None:
    disk.pack()
    program = """
import sys
from pathlib import Path
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.archive.target import open_target
try:
    open_target(Path(sys.argv[1]), "any", None)
except Refused as error:
    print(error.what)
"""
    done = subprocess.run([sys.executable, "-c", program, disk.output], check=True, capture_output=True, text=True)
    assert "another export is writing" in done.stdout


def test_output_that_exists_is_never_touched(disk: Any) -> None:
    disk.output.write_bytes(b"precious")
    with pytest.raises(Refused):
        disk.pack()
    disk.output.unlink()
    disk.pack()
    Seal(disk.export_of()).run(disk.ctx)
    disk.output.write_bytes(b"precious")
    with pytest.raises(Refused) as caught:
        disk.finish()
    assert disk.output.read_bytes() == b"precious" and str(disk.partial) in caught.value.state


def test_killed_between_the_two_names(disk: Any) -> None:
    disk.pack()
    Seal(disk.export_of()).run(disk.ctx)
    disk.new_process()
    os.link(disk.partial, disk.output)
    assert archive_status(disk.output, disk.export_of().disk.uuid).state is ArchiveState.PARTIAL
    result = disk.export()
    assert result["written_bytes"] == 0 and not disk.partial.exists()
    disk.import_()
    disk.assert_same()


def test_status(disk: Any) -> None:
    uuid = disk.export_of().disk.uuid
    assert archive_status(disk.output, uuid).state is ArchiveState.ABSENT
    disk.pack()
    assert archive_status(disk.output, uuid).state is ArchiveState.PARTIAL
    result = disk.finish()
    status = archive_status(disk.output, uuid)
    assert status.state is ArchiveState.SEALED and status.source == SourceIdentity(identity_of(disk.image))
    assert (status.root, status.archive_uuid, status.size) == (
        result["root"],
        result["archive_uuid"],
        result["archive_bytes"],
    )
    assert archive_status(disk.output, "another").state is ArchiveState.OTHER_DISK
    os.truncate(disk.output, 3000)
    assert archive_status(disk.output, uuid).state is ArchiveState.DAMAGED
    disk.output.write_bytes(b"PK\3\4 is not all")
    assert archive_status(disk.output, uuid).state is ArchiveState.NOT_AN_ARCHIVE
