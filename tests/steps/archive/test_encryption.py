"""Sealed members: nothing that was changed, moved or taken from elsewhere opens."""

from __future__ import annotations

import copy
import pickle
import random
import struct
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform.errors import Corrupt, ExitCode
from portunix_vdisk.steps.archive import encryption
from portunix_vdisk.steps.archive.encryption import SALT_LENGTH, SessionCipher
from portunix_vdisk.steps.archive.keys import TAG_LENGTH, MasterKey

UUID = "5b0c7f1e-6a43-4d0e-9f57-0d4a3c1b2e99"
OTHER = "5b0c7f1e-6a43-4d0e-9f57-0d4a3c1b2e98"
MASTER = MasterKey(bytes(range(32)))


def test_opens_what_other_implementations_sealed() -> None:
    """Made with HKDF and AES-GCM of pycryptodome."""
    sealed = bytes.fromhex("18a6de4915e1af94da150e2a5bd681a417be37a59dd4cc1e65b408c1ca26960d88")
    cipher = SessionCipher(MASTER, UUID, 513, bytes(range(32, 64)))
    assert cipher.open(0x0102030405060708, sealed, b"about") == b"a chunk of a disk"


def test_a_seal_is_what_the_format_says() -> None:
    cipher = SessionCipher.begin(MASTER, UUID, 7)
    for _ in range(3):
        number = cipher.next_number()
    sealed = cipher.seal(number, b"plain", b"about")
    place = uuid.UUID(UUID).bytes + struct.pack(">H", 7)
    info = b"portunix-vdisk-archive/session-key/1\0" + place
    key = HKDF(SHA256(), 32, cipher.salt, info).derive(bytes(range(32)))
    data = b"portunix-vdisk-archive/member/1\0" + place + struct.pack(">Q", 2) + b"about"
    assert sealed == AESGCM(key).encrypt(bytes(4) + struct.pack(">Q", 2), b"plain", data)
    assert len(sealed) == 5 + TAG_LENGTH


@settings(deadline=None)
@given(st.lists(st.binary(max_size=100), max_size=5), st.binary(max_size=50), st.integers(1, 65535))
def test_round_trip(parts: list[bytes], about: bytes, session: int) -> None:
    cipher = SessionCipher.begin(MASTER, UUID, session)
    numbers = [cipher.next_number() for _ in range(3)]
    whole = b"".join(parts)
    plains = (whole, parts, memoryview(bytearray(whole)))
    sealed = [cipher.seal(number, plain, about) for number, plain in zip(numbers, plains, strict=True)]
    assert len(set(sealed)) == 3
    reader = SessionCipher(MASTER, UUID, session, cipher.salt)
    for number, one in zip(numbers, sealed, strict=True):
        assert reader.open(number, one, about) == whole
        assert reader.open(number, memoryview(bytearray(one)), about) == whole


def test_every_flipped_bit_and_every_length_is_detected() -> None:
    cipher = SessionCipher.begin(MASTER, UUID, 1)
    sealed = cipher.seal(cipher.next_number(), b"some plain bytes")
    for bit in range(len(sealed) * 8):
        bad = bytearray(sealed)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Corrupt) as caught:
            cipher.open(0, bytes(bad))
        assert caught.value.code is ExitCode.INTEGRITY
    for bad_length in (*(sealed[:length] for length in range(len(sealed))), sealed + b"\0", b"\0" + sealed):
        with pytest.raises(Corrupt):
            cipher.open(0, bad_length)
    assert cipher.open(0, sealed) == b"some plain bytes"


def test_moved_members_are_detected() -> None:
    cipher = SessionCipher.begin(MASTER, UUID, 1)
    first, second = (cipher.seal(cipher.next_number(), plain, b"a") for plain in (b"first", b"second"))
    elsewhere = (
        SessionCipher(MASTER, UUID, 2, cipher.salt),
        SessionCipher(MASTER, OTHER, 1, cipher.salt),
        SessionCipher(MASTER, UUID, 1, bytes(SALT_LENGTH)),
        SessionCipher(MasterKey.new(), UUID, 1, cipher.salt),
    )
    for other in elsewhere:
        with pytest.raises(Corrupt):
            other.open(0, first, b"a")
    for number, sealed, about in (
        (1, first, b"a"),
        (0, second, b"a"),
        (1 << 32, first, b"a"),
        (0, first, b""),
        (0, first, b"b"),
        (0, first, b"aa"),
    ):
        with pytest.raises(Corrupt):
            cipher.open(number, sealed, about)


@pytest.mark.parametrize("part", ["session", "archive", "number"])
def test_place_is_bound_by_the_seal_and_not_only_by_the_key(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if two sessions had one key and two numbers one nonce."""
    monkeypatch.setattr(MasterKey, "derive", lambda self, salt, info: bytes(32))
    monkeypatch.setattr(encryption, "_nonce", lambda number: bytes(12))
    cipher = SessionCipher.begin(MASTER, UUID, 1)
    sealed = cipher.seal(cipher.next_number(), b"plain")
    other = SessionCipher(MASTER, OTHER if part == "archive" else UUID, 2 if part == "session" else 1, cipher.salt)
    with pytest.raises(Corrupt):
        other.open(1 if part == "number" else 0, sealed)


def test_session_and_archive_are_bound_by_the_key_too(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    derive = MasterKey.derive

    def remember(self: MasterKey, salt: bytes, info: bytes) -> bytes:
        keys.append(derive(self, salt, info))
        return keys[-1]

    monkeypatch.setattr(MasterKey, "derive", remember)
    for archive, session, salt in ((UUID, 1, 0), (OTHER, 1, 0), (UUID, 2, 0), (UUID, 1, 1)):
        SessionCipher(MASTER, archive, session, bytes([salt]) * SALT_LENGTH)
    assert len(set(keys)) == 4


def test_a_number_is_sealed_once() -> None:
    cipher = SessionCipher.begin(MASTER, UUID, 1)
    with pytest.raises(RuntimeError):
        cipher.seal(0, b"never given out")
    number = cipher.next_number()
    cipher.seal(number, b"one")
    for again in (number, number + 1, -1):
        with pytest.raises(RuntimeError):
            cipher.seal(again, b"two")


def test_only_a_new_session_seals() -> None:
    """Whoever reopens a session with its salt would use its numbers again."""
    begun = SessionCipher.begin(MASTER, UUID, 1)
    reopened = SessionCipher(MASTER, UUID, 1, begun.salt)
    with pytest.raises(RuntimeError):
        reopened.next_number()
    with pytest.raises(RuntimeError):
        reopened.seal(0, b"plain")
    assert SessionCipher.begin(MASTER, UUID, 1).salt != begun.salt


def test_numbers_that_are_never_used_take_bounded_memory() -> None:
    cipher = SessionCipher.begin(MASTER, UUID, 1)
    numbers = [cipher.next_number() for _ in range(10_000)]
    assert len(cipher._given) == 4096
    assert cipher.seal(numbers[-4096], b"plain")
    with pytest.raises(RuntimeError):
        cipher.seal(numbers[-4097], b"plain")


def test_threads_seal_and_open_at_the_same_time() -> None:
    cipher = SessionCipher.begin(MASTER, UUID, 1)
    plains = [bytes([number % 251]) * (64 << 10) for number in range(400)]

    def seal(plain: bytes) -> tuple[int, bytes, bytes]:
        number = cipher.next_number()
        sealed = cipher.seal(number, plain)
        assert cipher.open(number, sealed) == plain
        return number, plain, sealed

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(seal, plains))
    assert sorted(number for number, _, _ in done) == list(range(400))
    reader = SessionCipher(MASTER, UUID, 1, cipher.salt)
    assert all(reader.open(number, sealed) == plain for number, plain, sealed in done)


@pytest.mark.parametrize("session", [0, -1, 65536])
def test_sessions_that_cannot_be(session: int) -> None:
    with pytest.raises(Corrupt):
        SessionCipher(MASTER, UUID, session, bytes(SALT_LENGTH))


@pytest.mark.parametrize("archive", ["", "no uuid", UUID[:-1], "é" * 32])
def test_archives_that_cannot_be(archive: str) -> None:
    with pytest.raises(Corrupt):
        SessionCipher(MASTER, archive, 1, bytes(SALT_LENGTH))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_salts_that_cannot_be(length: int) -> None:
    with pytest.raises(Corrupt):
        SessionCipher(MASTER, UUID, 1, bytes(length))


@pytest.mark.parametrize("number", [-1, 1 << 64])
def test_numbers_that_cannot_be(number: int) -> None:
    with pytest.raises(Corrupt):
        SessionCipher(MASTER, UUID, 1, bytes(SALT_LENGTH)).open(number, bytes(40))


def test_a_cipher_shows_nothing_and_leaves_no_copies() -> None:
    cipher = SessionCipher.begin(MASTER, UUID, 1)
    assert repr(cipher) == "SessionCipher(session=1, …)"
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            take(cipher)


def test_a_number_is_never_used_for_other_content() -> None:
    """The sealed bytes leave only where what is left of the former ones says that they are the same."""
    cipher = SessionCipher.begin(MasterKey.new(), "5b0c7f1e-6a43-4d0e-9f57-0d4a3c1b2e99", 1)
    plain = random.Random(1).randbytes(10_000)
    sealed = cipher.seal(cipher.next_number(), plain, b"x")
    crc = zlib.crc32(sealed)
    torn = sealed[:600] + bytes(1000) + sealed[1600:]
    assert cipher.seal_again(0, plain, b"x", torn, crc) == sealed
    no_tag = sealed[:-500] + bytes(500)
    assert cipher.seal_again(0, plain, b"x", no_tag, crc) == sealed
    little = sealed[:4000] + bytes(len(sealed) - 4000)
    assert cipher.seal_again(0, plain, b"x", little, crc) is None
    other = plain[:-1] + b"?"
    assert cipher.seal_again(0, other, b"x", torn, crc) is None
