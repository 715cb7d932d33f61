"""Key slots: what a password opens, and what no changed byte may open."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform.errors import BadUsage, Corrupt, ExitCode, WrongPassword
from portunix_vdisk.steps.archive import keys
from portunix_vdisk.steps.archive.keys import Argon2Parameters, KeySlot, MasterKey

UUID = "5b0c7f1e-6a43-4d0e-9f57-0d4a3c1b2e99"
OTHER = "5b0c7f1e-6a43-4d0e-9f57-0d4a3c1b2e98"
CHEAP = Argon2Parameters(memory=8 << 10, iterations=1, lanes=1)
PASSWORD = "Käse & Brot".encode()

KNOWN = {
    (8192, 1, 1): "bb1d1a04c0936c7f37bd8fd5e15d26e8d7609aa50e29d89f0ccff1998c7a5bd0f6119a060ebe1b00fd34f23ae1971830",
    (65536, 3, 4): "a820d15d93fab1ed0ad997f380e26e8553d50f2df47a6259c0972deff6a3509188a5ef58c7b7354f2b37f19d5b3f1454",
}
"""Wrapped keys by other implementations: Argon2id of argon2-cffi 25.1 (the reference code), AES-GCM of pycryptodome."""


@pytest.mark.parametrize("costs", KNOWN)
def test_opens_a_slot_that_other_implementations_made(costs: tuple[int, int, int]) -> None:
    slot = KeySlot(
        Argon2Parameters(*costs), bytes(range(100, 116)), bytes(range(200, 212)), bytes.fromhex(KNOWN[costs])
    )
    assert MasterKey.unlock(slot, PASSWORD, UUID) == MasterKey(bytes(range(32)))


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=1, max_size=4096))
def test_a_slot_opens_with_its_password(password: bytes) -> None:
    master = MasterKey.new()
    slot = KeySlot.parse(master.wrap(password, UUID, CHEAP).to_json())
    assert MasterKey.unlock(slot, password, UUID) == master


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=64), st.binary(min_size=1, max_size=64))
def test_no_other_password_opens_it(right: bytes, wrong: bytes) -> None:
    slot = MasterKey.new().wrap(right, UUID, CHEAP)
    if right != wrong:
        with pytest.raises(WrongPassword):
            MasterKey.unlock(slot, wrong, UUID)


def test_password_bytes_are_taken_as_they_are() -> None:
    slot = MasterKey.new().wrap(b" secret\n", UUID, CHEAP)
    for wrong in (b"secret", b" secret", b"secret\n", b" secret\r\n", b" SECRET\n", b" secret\n\0"):
        with pytest.raises(WrongPassword):
            MasterKey.unlock(slot, wrong, UUID)


def test_wrong_password_is_an_integrity_failure_that_names_the_archive() -> None:
    slot = MasterKey.new().wrap(b"right", UUID, CHEAP)
    with pytest.raises(WrongPassword) as caught:
        MasterKey.unlock(slot, b"hunter2", UUID, "the archive client.zip")
    assert caught.value.code is ExitCode.INTEGRITY
    assert caught.value.what == "wrong password for the archive client.zip"
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("password", [b"", bytes(4097)])
def test_passwords_that_cannot_be(password: bytes) -> None:
    master = MasterKey.new()
    slot = master.wrap(b"right", UUID, CHEAP)
    with pytest.raises(BadUsage):
        master.wrap(password, UUID, CHEAP)
    with pytest.raises(BadUsage):
        MasterKey.unlock(slot, password, UUID)


def test_every_changed_byte_of_a_slot_is_detected() -> None:
    slot = MasterKey.new().wrap(b"right", UUID, CHEAP)
    for field in ("salt", "nonce", "wrapped"):
        good = getattr(slot, field)
        for at in range(len(good)):
            bad = bytearray(good)
            bad[at] ^= 1 << at % 8
            with pytest.raises(WrongPassword):
                MasterKey.unlock(replace(slot, **{field: bytes(bad)}), b"right", UUID)


@pytest.mark.parametrize("change", [{"memory": 9 << 10}, {"iterations": 2}, {"lanes": 2}])
def test_changed_parameters_are_detected(change: dict[str, int]) -> None:
    slot = MasterKey.new().wrap(b"right", UUID, CHEAP)
    with pytest.raises(WrongPassword):
        MasterKey.unlock(replace(slot, parameters=replace(CHEAP, **change)), b"right", UUID)


def test_parameters_are_bound_and_not_only_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also an attacker who makes Argon2id give the same key for other parameters gains nothing."""
    monkeypatch.setattr(keys, "_password_key", lambda password, salt, parameters: bytes(32))
    slot = MasterKey.new().wrap(b"right", UUID, CHEAP)
    assert MasterKey.unlock(slot, b"any", UUID)
    for changed in (
        replace(slot, parameters=replace(CHEAP, lanes=2)),
        replace(slot, parameters=replace(CHEAP, memory=9 << 10)),
        replace(slot, parameters=replace(CHEAP, iterations=2)),
        replace(slot, salt=bytes(16)),
    ):
        with pytest.raises(WrongPassword):
            MasterKey.unlock(changed, b"any", UUID)


def test_a_slot_opens_in_its_own_archive_only() -> None:
    slot = MasterKey.new().wrap(b"right", UUID, CHEAP)
    assert MasterKey.unlock(slot, b"right", UUID.upper())
    with pytest.raises(WrongPassword):
        MasterKey.unlock(slot, b"right", OTHER)
    with pytest.raises(Corrupt):
        MasterKey.unlock(slot, b"right", "no uuid")


def test_two_slots_of_one_password_have_nothing_in_common() -> None:
    master = MasterKey.new()
    one, two = (master.wrap(b"right", UUID, CHEAP) for _ in range(2))
    assert one.salt != two.salt and one.nonce != two.nonce and one.wrapped != two.wrapped
    assert MasterKey.unlock(one, b"right", UUID) == MasterKey.unlock(two, b"right", UUID)


SLOT = MasterKey(bytes(32)).wrap(b"right", UUID, CHEAP).to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"memory_kib": (8 << 10) - 1},
        {"memory_kib": (192 << 10) + 1},
        {"memory_kib": 1 << 62},
        {"memory_kib": 8192.0},
        {"memory_kib": True},
        {"iterations": 0},
        {"iterations": 17},
        {"iterations": -1},
        {"lanes": 0},
        {"lanes": 17},
        {"lanes": "1"},
        {"kdf": "argon2i"},
        {"kdf": None},
        {"salt": ""},
        {"salt": "00" * 15},
        {"salt": "00" * 17},
        {"salt": "0G" * 16},
        {"salt": "AA" * 16},
        {"salt": "00 " * 16},
        {"salt": "00" * 16 + "\n"},
        {"salt": "\u0660" * 32},
        {"salt": b"00" * 16},
        {"salt": None},
        {"nonce": "00" * 13},
        {"wrapped": "00" * 47},
        {"wrapped": "00" * (1 << 20)},
        {"wrapped": ["00"] * 48},
        {"more": 1},
    ],
    ids=str,
)
def test_hostile_slots_are_refused_before_anything_is_computed(
    change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "Argon2id", None)
    with pytest.raises(Corrupt):
        KeySlot.parse(SLOT | change)


@pytest.mark.parametrize("missing", SLOT)
def test_incomplete_slots_are_refused(missing: str) -> None:
    with pytest.raises(Corrupt):
        KeySlot.parse({name: value for name, value in SLOT.items() if name != missing})


@given(
    st.dictionaries(st.sampled_from([*SLOT, "x"]), st.one_of(st.none(), st.integers(), st.text("0aF g"), st.floats()))
)
def test_any_json_is_a_slot_or_corrupt(data: dict[str, object]) -> None:
    try:
        KeySlot.parse(SLOT | data)
    except Corrupt:
        return


def test_new_slots_cost_what_rfc_9106_recommends_second() -> None:
    slot = MasterKey.new().wrap(b"right", UUID)
    assert slot.parameters == Argon2Parameters(memory=65536, iterations=3, lanes=4)
    assert (len(slot.salt), len(slot.nonce), len(slot.wrapped)) == (16, 12, 48)


def test_memory_for_a_password_does_not_come_from_pythons_heap() -> None:
    slot = MasterKey.new().wrap(b"right", UUID)
    tracemalloc.start()
    try:
        MasterKey.unlock(slot, b"right", UUID)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_costliest_slot_stays_below_300_mb() -> None:
    # Not getrusage: what it tells outlives an exec, so it would count this process, which was copied for that.
    program = """
from pathlib import Path
from portunix_vdisk.plugin import worker
from portunix_vdisk.steps.archive.keys import Argon2Parameters, MasterKey
most = Argon2Parameters(memory=192 << 10, iterations=1, lanes=16)
MasterKey.new().wrap(b"right", "5b0c7f1e-6a43-4d0e-9f57-0d4a3c1b2e99", most)
print(next(line.split()[1] for line in Path("/proc/self/status").open() if line.startswith("VmHWM")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 192 << 20 < int(done.stdout) << 10 < 300_000_000


def test_a_master_key_shows_nothing_and_leaves_no_copies() -> None:
    secret = bytes(range(65, 97))
    master = MasterKey(secret)
    for text in (repr(master), str(master), f"{[master]}"):
        assert secret.decode()[:8] not in text and secret.hex()[:8] not in text
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            take(master)
    with pytest.raises(ValueError):
        MasterKey(bytes(31))
    assert MasterKey.new() != MasterKey.new()
