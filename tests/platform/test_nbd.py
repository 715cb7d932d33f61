"""The NBD client against the real server, and against servers that lie."""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import MIB
from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.platform.linux.processes import end, identify
from portunix_vdisk.platform.nbd import NbdClient

SIZE = 80 * MIB


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    return connection


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    """A server for several clients, with a raw file of random bytes behind it."""
    (tmp_path / "file").write_bytes(random.Random(3).randbytes(SIZE))
    path = tmp_path / "socket"
    options = ["-t", "-e", "4", "-x", "disk", "-f", "raw", "-k", str(path), "--fork", f"--pid-file={tmp_path / 'pid'}"]
    subprocess.run(["qemu-nbd", *options, tmp_path / "file"], check=True)
    yield path
    found = identify(int((tmp_path / "pid").read_text()))
    assert found is not None
    assert end(found, 10)


def test_requests_larger_than_the_server_takes(server: Path, tmp_path: Path) -> None:
    content = (tmp_path / "file").read_bytes()
    client = NbdClient(connect(server), b"disk")
    assert client.size == SIZE
    assert client.read(0, SIZE) == content
    data = random.Random(4).randbytes(70 * MIB)
    client.write(3, data)
    client.zero(5 * MIB + 1, 50 * MIB)
    client.flush()
    client.close()
    expected = bytearray(content)
    expected[3 : 3 + len(data)] = data
    expected[5 * MIB + 1 : 55 * MIB + 1] = bytes(50 * MIB)
    assert (tmp_path / "file").read_bytes() == expected


def test_several_threads(server: Path, tmp_path: Path) -> None:
    client = NbdClient(connect(server), b"disk")
    wrong: list[int] = []

    def work(number: int) -> None:
        dice = random.Random(number)
        for _ in range(30):
            offset = number * 10 * MIB + dice.randrange(9 * MIB)
            data = dice.randbytes(dice.randrange(1, 100_000))
            client.write(offset, data)
            if client.read(offset, len(data)) != data:
                wrong.append(offset)

    threads = [threading.Thread(target=work, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    assert wrong == []


def test_an_unknown_export(server: Path) -> None:
    with pytest.raises(Failed, match="refused the export"):
        NbdClient(connect(server), b"other")


def test_read_only(tmp_path: Path) -> None:
    path = tmp_path / "second"
    (tmp_path / "second file").write_bytes(bytes(MIB))
    command = ["qemu-nbd", "-r", "-f", "raw", "-k", str(path), "--fork", str(tmp_path / "second file")]
    subprocess.run([*command, f"--pid-file={tmp_path / 'pid'}"], check=True)
    server = identify(int((tmp_path / "pid").read_text()))
    assert server is not None
    client = NbdClient(connect(path))
    try:
        assert client.export.read_only
        for act in (lambda: client.write(0, b"x"), lambda: client.zero(0, 1)):
            with pytest.raises(Failed, match="for reading only"):
                act()
        assert client.read(0, 1) == b"\0"
    finally:
        client.close()
        assert end(server, 5)  # it ends by itself, but not at once
    with pytest.raises(Failed):
        client.read(0, 1)


HELLO = b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3)


def option_reply(kind: int, payload: bytes, magic: int = 0x3E889045565A9, length: int | None = None) -> bytes:
    return struct.pack(">QIII", magic, 7, kind, len(payload) if length is None else length) + payload


EXPORT = option_reply(3, struct.pack(">HQH", 0, MIB, 1 | 4))
ACK = option_reply(1, b"")


def against(script: bytes, *, hold: bool = False) -> NbdClient:
    """A client whose server says exactly this and hangs up."""
    ours, theirs = socket.socketpair()
    theirs.sendall(script)
    if not hold:
        theirs.shutdown(socket.SHUT_WR)
    client = NbdClient(ours)
    if hold:
        _OPEN.append(theirs)
    else:
        theirs.close()
    return client


_OPEN: list[socket.socket] = []


@pytest.mark.parametrize(
    "script",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"NBDMAGIC",
        b"NBDMAGIC" + b"\x00\x00\x42\x02\x81\x86\x12\x53" + bytes(200),
        b"NBDMAGICIHAVEOPT\0\0",
        HELLO,
        HELLO + ACK,
        HELLO + option_reply(3, b""),
        HELLO + option_reply(3, struct.pack(">HQH", 0, MIB, 0)) + ACK,
        HELLO + option_reply(1, b"", magic=5),
        HELLO + option_reply(3, b"", length=0xFFFFFFFF),
        HELLO + option_reply(0x80000006, b"\xff no such thing"),
        HELLO + EXPORT[:-3],
    ],
)
def test_servers_that_make_no_sense(script: bytes) -> None:
    with pytest.raises(Failed):
        against(script)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        bytes(16),
        struct.pack(">IIQ", 0x67446698, 0, 99) + bytes(100),
        struct.pack(">IIQ", 0x67446698, 0, 1) + b"short",
    ],
)
def test_replies_that_make_no_sense(reply: bytes) -> None:
    client = against(HELLO + EXPORT + ACK + reply)
    for _ in range(2):
        with pytest.raises(Failed):
            client.read(0, 100)
    client.close()


def test_an_error_of_the_server_is_told() -> None:
    replies = struct.pack(">IIQ", 0x67446698, 28, 1) + struct.pack(">IIQ", 0x67446698, 0, 2) + b"good"
    client = against(HELLO + EXPORT + ACK + replies, hold=True)
    with pytest.raises(Failed, match="No space left"):
        client.write(0, b"x" * 100)
    assert client.read(0, 4) == b"good"  # the connection stays usable
    client.close()
