"""Changing the password of an archive: which one opens it, at every moment, and what is left of the former."""

from __future__ import annotations

from typing import Any

import pytest

from portunix_vdisk.platform.errors import Refused, WrongPassword
from portunix_vdisk.steps.archive import commit, rekey
from portunix_vdisk.steps.archive.commit import finish_update, next_of
from portunix_vdisk.steps.archive.keyring import add_key, forget_keys, set_new_password
from portunix_vdisk.steps.archive.keys import MasterKey
from portunix_vdisk.steps.archive.rekey import Rekey
from portunix_vdisk.steps.archive.storage import ArchiveFile, volumes_of
from portunix_vdisk.steps.archive.unlock import read_header, read_lock
from portunix_vdisk.tests.support.chunks import CHUNK


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(params=["one file", "volumes"])
def disk(request: pytest.FixtureRequest, house: Any) -> Any:
    house.options["encrypted"] = True
    if request.param == "volumes":
        house.options["volume_size"] = 1 << 20
    set_new_password(house.output, b"former")
    house.make(2 * CHUNK, {0: b"content"})
    house.export()
    set_new_password(house.output, b"new")
    return house


def opens(disk: Any, password: bytes) -> bool:
    uuid = read_header(disk.output).archive_uuid
    try:
        key = MasterKey.unlock(read_lock(disk.output), password, uuid)
    except WrongPassword:
        return False
    forget_keys()
    add_key(uuid, key)
    disk.import_()
    disk.assert_same()
    disk.new_process()
    return True


def content(disk: Any) -> bytes:
    return b"".join(file.read_bytes() for file in volumes_of(disk.output))


def test_only_the_new_password_opens_it_and_nothing_is_written_again(disk: Any) -> None:
    before = content(disk)
    slot = read_lock(disk.output)
    Rekey(disk.output).run(disk.ctx)
    assert opens(disk, b"new") and not opens(disk, b"former")
    after = content(disk)
    assert slot.wrapped.hex().encode() in before and slot.wrapped.hex().encode() not in after
    changed = sum(one != other for one, other in zip(before, after, strict=False))
    assert changed < 1000 and len(after) - len(before) < 5000
    disk.change(0, b"changed")
    set_new_password(disk.output, b"third")
    assert disk.export()["generation"] == 2
    Rekey(disk.output).run(disk.ctx)
    assert opens(disk, b"third") and not opens(disk, b"new")


@pytest.mark.parametrize("at", range(1, 5))
def test_killed_at_any_write_one_of_both_opens_it(disk: Any, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    original, calls = ArchiveFile.write, [0]

    def write(self: ArchiveFile, offset: int, parts: Any) -> None:
        calls[0] += 1
        if calls[0] == at:
            original(self, offset, [b"".join(parts)[:150]])
            raise Killed
        original(self, offset, parts)

    with monkeypatch.context() as patch:
        patch.setattr(ArchiveFile, "write", write)
        try:
            Rekey(disk.output).run(disk.ctx)
        except Killed:
            pass
        else:
            assert at > 3, "prepare, append, wipe"
    assert opens(disk, b"former") or opens(disk, b"new")
    finish_update(disk.output)
    assert opens(disk, b"former") != opens(disk, b"new")
    set_new_password(disk.output, b"third")
    Rekey(disk.output).run(disk.ctx)
    assert opens(disk, b"third") and not opens(disk, b"new") and not opens(disk, b"former")
    assert not volumes_of(next_of(disk.output))


def test_killed_before_the_append_hinders_nothing(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(rekey, "append_update", killed)
        with pytest.raises(Killed):
            Rekey(disk.output).run(disk.ctx)
    assert volumes_of(next_of(disk.output))
    disk.change(0, b"changed")
    assert disk.export()["generation"] == 2
    assert opens(disk, b"former")


def test_killed_before_the_former_keys_are_wiped(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped = read_lock(disk.output).wrapped.hex().encode()

    def killed(*arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(commit, "_wipe", killed)
        with pytest.raises(Killed):
            Rekey(disk.output).run(disk.ctx)
    assert wrapped in content(disk)
    assert finish_update(disk.output)
    assert wrapped not in content(disk) and opens(disk, b"new")


def test_an_unfinished_export_comes_first(disk: Any) -> None:
    disk.change(0, b"changed")
    disk.pack()
    disk.new_process()
    with pytest.raises(Refused, match="unfinished"):
        Rekey(disk.output).run(disk.ctx)
    disk.export()
    Rekey(disk.output).run(disk.ctx)
    assert opens(disk, b"new")


def test_what_is_not_encrypted_has_no_password(house: Any) -> None:
    house.make(CHUNK, {0: b"content"})
    house.export()
    with pytest.raises(Refused, match="not encrypted"):
        Rekey(house.output).run(house.ctx)
