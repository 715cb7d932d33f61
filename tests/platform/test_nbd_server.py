"""The NBD server against our own client, against QEMU's, and against clients that make no sense."""

from __future__ import annotations

import os
import random
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from portunix_vdisk.platform import nbd_protocol as nbd
from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.platform.nbd_server import listen
from portunix_vdisk.tests.platform.nbd_disk import BAD, CONTENT, SIZE, Served


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nbd-") as folder:
        yield Path(folder)


@pytest.fixture
def served(short: Path) -> Iterator[Served]:
    before = threading.active_count()
    made = Served(short)
    yield made
    made.server.stop()
    made.thread.join(5)
    assert not made.thread.is_alive()
    assert threading.active_count() == before, "no thread of a client is left"


def test_our_own_client(served: Served) -> None:
    client = served.client(b"disk")
    assert client.size == SIZE
    assert client.export.read_only
    assert client.export.maximum == nbd.MAXIMUM_REQUEST
    assert client.read(0, BAD.start) == CONTENT[: BAD.start]
    assert client.read(BAD.stop, SIZE - BAD.stop) == CONTENT[BAD.stop :]
    assert client.read(SIZE - 1, 1) == CONTENT[-1:]
    assert client.read(SIZE, 0) == b""
    client.flush()
    client.close()
    with pytest.raises(Failed, match="refused the export"):
        served.client(b"other")


def test_an_error_of_the_source_is_told_once_and_ends_nothing(served: Served) -> None:
    client = served.client()
    for _ in range(3):
        with pytest.raises(Failed, match="Input/output error"):
            client.read(BAD.start - 10, 20)
    assert client.read(BAD.start - 10, 10) == CONTENT[BAD.start - 10 : BAD.start]
    assert served.log == ["chunk 2 is damaged"]
    client.close()


def test_a_source_that_gives_too_little(short: Path) -> None:
    served = Served(short, reader=lambda offset, length: b"x")
    client = served.client()
    with pytest.raises(Failed, match="Input/output error"):
        client.read(0, 2)
    client.close()
    served.server.stop()
    served.thread.join(5)


def test_several_clients_at_once(served: Served) -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        dice = random.Random(number)
        client = served.client()
        for _ in range(50):
            offset = BAD.stop + dice.randrange(20 << 20)
            length = dice.randrange(300_000)
            if client.read(offset, length) != CONTENT[offset : offset + length]:
                wrong.append(offset)
        client.close()

    threads = [threading.Thread(target=work, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_qemu_as_the_client(served: Served, tmp_path: Path) -> None:
    uri = f"nbd+unix:///disk?socket={served.socket}"
    info = subprocess.run(["qemu-img", "info", "--output=json", uri], check=True, capture_output=True, text=True)
    assert f'"virtual-size": {SIZE}' in info.stdout
    part = tmp_path / "part"
    part.write_bytes(CONTENT[: BAD.start])
    options = f"driver=raw,size={BAD.start},file.driver=nbd,file.server.type=unix,file.server.path={served.socket}"
    compare = ["qemu-img", "compare", "--image-opts", options, f"driver=raw,file.driver=file,file.filename={part}"]
    assert subprocess.run(compare, check=False, capture_output=True).returncode == 0
    part.write_bytes(CONTENT[: BAD.start - 1] + b"\0")
    assert subprocess.run(compare, check=False, capture_output=True).returncode == 1
    whole = ["qemu-img", "convert", "-f", "raw", "-O", "raw", uri, str(tmp_path / "copy")]
    failed = subprocess.run(whole, check=False, capture_output=True, text=True)
    assert failed.returncode != 0 and "Input/output error" in failed.stderr
    wish = ["nbdinfo", "--list", f"nbd+unix:///?socket={served.socket}"]
    listed = subprocess.run(wish, check=True, capture_output=True, text=True)
    assert 'export="disk"' in listed.stdout
    assert "is_read_only: true" in listed.stdout
    writing = subprocess.run(["qemu-io", "-f", "raw", "-c", "write 0 512", uri], check=False, capture_output=True)
    assert writing.returncode != 0


def negotiated(served: Served, option: bytes) -> bytes:
    """What the server says to a client that sends just this."""
    connection = served.connect()
    connection.sendall(struct.pack(">I", 3) + option)
    connection.shutdown(socket.SHUT_WR)
    said = b""
    while part := connection.recv(1 << 16):
        said += part
    connection.close()
    assert said.startswith(b"NBDMAGICIHAVEOPT\0\3")
    return said[18:]


def option(kind: int, payload: bytes = b"", length: int | None = None, magic: bytes = nbd.OPTION_MAGIC) -> bytes:
    return nbd.OPTION.pack(magic, kind, len(payload) if length is None else length) + payload


def kinds(said: bytes) -> list[int]:
    found = []
    while said:
        magic, _, kind, length = nbd.OPTION_REPLY.unpack(said[:20])
        assert magic == nbd.OPTION_REPLY_MAGIC
        found.append(kind)
        said = said[20 + length :]
    return found


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (option(nbd.OPT_ABORT), [nbd.REP_ACK]),
        (option(nbd.OPT_LIST), [nbd.REP_SERVER, nbd.REP_ACK]),
        (option(nbd.OPT_LIST, b"x"), [nbd.REP_ERR_INVALID]),
        (option(8), [nbd.REP_ERR_UNSUP]),
        (option(5), [nbd.REP_ERR_UNSUP]),
        (option(0xFFFFFFFF, b"?"), [nbd.REP_ERR_UNSUP]),
        (option(nbd.OPT_INFO, bytes(6)), [nbd.REP_INFO, nbd.REP_ACK]),
        (option(nbd.OPT_INFO, bytes(4) + b"\0\1\0\3"), [nbd.REP_INFO, nbd.REP_INFO, nbd.REP_ACK]),
        (option(nbd.OPT_INFO, bytes(5)), [nbd.REP_ERR_INVALID]),
        (option(nbd.OPT_GO, b"\xff\xff\xff\xff\0\0"), [nbd.REP_ERR_INVALID]),
        (option(nbd.OPT_GO, b"\0\0\0\0\0\2\0\3"), [nbd.REP_ERR_INVALID]),
        (option(nbd.OPT_GO, b"\0\0\0\5other\0\0"), [nbd.REP_ERR_UNKNOWN]),
        (option(8) * 3 + option(nbd.OPT_LIST), [nbd.REP_ERR_UNSUP] * 3 + [nbd.REP_SERVER, nbd.REP_ACK]),
        (option(nbd.OPT_LIST, length=1 << 30), []),
        (option(nbd.OPT_LIST, magic=b"GARBAGE!"), []),
        (option(nbd.OPT_EXPORT_NAME, b"other"), []),
        (option(8) * 1000, [nbd.REP_ERR_UNSUP] * 64),
        (b"", []),
        (b"\0", []),
        (os.urandom(3000), []),
    ],
)
def test_negotiation(served: Served, sent: bytes, answers: list[int]) -> None:
    try:
        assert kinds(negotiated(served, sent)) == answers
    except (BrokenPipeError, ConnectionResetError):
        assert answers in ([], [nbd.REP_ERR_UNSUP] * 64), "the server hung up on a client that makes sense"
    assert served.client().read(0, 10) == CONTENT[:10]


def test_unknown_flags_of_the_client(served: Served) -> None:
    connection = served.connect()
    connection.sendall(struct.pack(">I", 0xFF))
    assert len(connection.recv(100)) == 18
    assert connection.recv(100) == b""
    connection.close()


@pytest.mark.parametrize(("flags", "rest"), [(3, 0), (1, 124), (0, 124)])
def test_the_oldest_way_to_choose(served: Served, flags: int, rest: int) -> None:
    connection = served.connect()
    connection.sendall(struct.pack(">I", flags) + option(nbd.OPT_EXPORT_NAME, b"disk"))
    connection.sendall(nbd.REQUEST.pack(nbd.REQUEST_MAGIC, 0, nbd.READ, 7, 100, 50))
    said = b""
    while len(said) < 18 + 10 + rest + 16 + 50:
        said += connection.recv(1000)
    assert struct.unpack(">QH", said[18:28]) == (SIZE, 0x107)
    assert said[28 : 28 + rest] == bytes(rest)
    assert said[28 + rest :] == nbd.REPLY.pack(nbd.REPLY_MAGIC, 0, 7) + CONTENT[100:150]
    connection.close()


def chosen(served: Served) -> socket.socket:
    """A connection in transmission."""
    connection = served.connect()
    connection.sendall(struct.pack(">I", 3) + option(nbd.OPT_EXPORT_NAME))
    said = b""
    while len(said) < 28:
        said += connection.recv(28 - len(said))
    return connection


def ask(connection: socket.socket, command: int, offset: int, length: int, flags: int = 0, data: bytes = b"") -> int:
    connection.sendall(nbd.REQUEST.pack(nbd.REQUEST_MAGIC, flags, command, 99, offset, length) + data)
    magic, error, handle = nbd.REPLY.unpack(connection.recv(16, socket.MSG_WAITALL))
    assert (magic, handle) == (nbd.REPLY_MAGIC, 99)
    return int(error)


def test_requests_that_are_refused(served: Served) -> None:
    connection = chosen(served)
    assert ask(connection, nbd.READ, SIZE, 1) == nbd.EINVAL
    assert ask(connection, nbd.READ, SIZE - 1, 2) == nbd.EINVAL
    assert ask(connection, nbd.READ, 2**64 - 1, 2**32 - 1) == nbd.EINVAL
    assert ask(connection, nbd.READ, 0, nbd.MAXIMUM_REQUEST + 1) == nbd.EINVAL
    assert ask(connection, nbd.READ, 0, 1, flags=4) == nbd.EINVAL
    assert ask(connection, nbd.WRITE, 0, 100_000, data=bytes(100_000)) == nbd.EPERM
    assert ask(connection, nbd.TRIM, 0, 512) == nbd.EPERM
    assert ask(connection, nbd.WRITE_ZEROES, 0, 512) == nbd.EPERM
    assert ask(connection, 5, 0, 512) == nbd.EINVAL
    assert ask(connection, 7, 0, 512) == nbd.EINVAL
    assert ask(connection, nbd.READ, 0, 0) == 0
    assert ask(connection, nbd.FLUSH, 0, 0) == 0
    assert ask(connection, nbd.READ, 5, 7) == 0
    assert connection.recv(7, socket.MSG_WAITALL) == CONTENT[5:12]
    connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        nbd.REQUEST.pack(nbd.REQUEST_MAGIC, 0, nbd.DISCONNECT, 0, 0, 0),
        nbd.REQUEST.pack(nbd.REQUEST_MAGIC, 0, nbd.WRITE, 0, 0, 2**32 - 1),
        bytes(28),
        os.urandom(500),
    ],
)
def test_requests_that_end_the_connection(served: Served, sent: bytes) -> None:
    connection = chosen(served)
    connection.sendall(sent)
    with suppress(ConnectionResetError):
        assert connection.recv(100) == b""
    connection.close()
    assert served.client().read(0, 10) == CONTENT[:10]


def test_a_client_that_does_not_read_its_answers_does_not_hinder_others_nor_the_end(served: Served) -> None:
    lazy = chosen(served)
    for handle in range(8):
        lazy.sendall(nbd.REQUEST.pack(nbd.REQUEST_MAGIC, 0, nbd.READ, handle, BAD.stop, 8 << 20))
    assert served.client().read(0, 10) == CONTENT[:10]
    served.server.stop()
    served.thread.join(5)
    assert not served.thread.is_alive()
    lazy.close()


def test_it_ends_with_its_last_client(short: Path) -> None:
    served = Served(short, patience=30)
    first, second = served.client(), served.client()
    first.close()
    assert second.read(0, 4) == CONTENT[:4]
    time.sleep(0.1)
    assert served.thread.is_alive()
    second.close()
    served.thread.join(5)
    assert not served.thread.is_alive()


def test_it_ends_if_nobody_comes(short: Path) -> None:
    served = Served(short, patience=0.2)
    served.thread.join(5)
    assert not served.thread.is_alive()


def test_only_so_many_clients(served: Served) -> None:
    many = [served.connect() for _ in range(16)]
    assert all(each.recv(18, socket.MSG_WAITALL) for each in many)
    surplus = served.connect()
    assert surplus.recv(1) == b""
    for each in (*many, surplus):
        each.close()


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        listen(tmp_path / ("x" * 100))
