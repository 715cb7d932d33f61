"""Many reads at once over one NBD connection, from servers good and bad."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portunix_vdisk.platform import nbd_protocol as protocol
from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.platform.nbd import NbdClient
from portunix_vdisk.tests.platform.nbd_disk import BAD, CONTENT, SIZE, Served

CONTENTS = random.Random(8).randbytes(1 << 20)


def test_from_several_threads_any_place_and_unit(tmp_path: Path) -> None:
    served = Served(tmp_path)
    try:
        with closing(served.client()) as client:
            read_much(client)
    finally:
        served.server.stop()
        served.thread.join(10)
    assert not served.thread.is_alive()


def read_much(client: NbdClient) -> None:
    wrong = []

    def work(number: int) -> None:
        dice = random.Random(number)
        for _ in range(20):
            length = dice.choice([1, 511, 65536, 300_001, 5 << 20])
            at = dice.randrange(BAD.stop, SIZE - length)
            buffer = bytearray(length)
            client.read_into(at, memoryview(buffer), dice.choice([512, 4096, 65536]) if length < 1 << 20 else 65536)
            if buffer != CONTENT[at : at + length]:
                wrong.append(at)

    threads = [threading.Thread(target=work, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    buffer = bytearray(1 << 20)
    with pytest.raises(Failed, match="reported an error"):
        client.read_into(BAD.start - 65536, memoryview(buffer), 65536)
    client.read_into(BAD.stop, memoryview(buffer), 65536)  # the answers to all others were taken
    assert buffer == CONTENT[BAD.stop : BAD.stop + len(buffer)]
    with pytest.raises(ValueError, match="outside"):
        client.read_into(SIZE - 10, memoryview(buffer), 65536)
    assert wrong == []


Answer = Callable[[list[tuple[int, int, int]]], bytes]


def read_with(answer: Answer, length: int = 300_000, unit: int = 65536) -> bytes:
    """What a client reads from a server that answers all requests of a batch at once in this way."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)

    def serve() -> None:
        with theirs:
            theirs.sendall(protocol.INIT_MAGIC + protocol.OPTION_MAGIC + struct.pack(">H", 1))
            theirs.recv(4, socket.MSG_WAITALL)
            _, option, count = protocol.OPTION.unpack(theirs.recv(protocol.OPTION.size, socket.MSG_WAITALL))
            theirs.recv(count, socket.MSG_WAITALL)
            info = struct.pack(">HQH", protocol.INFO_EXPORT, len(CONTENTS), protocol.HAS_FLAGS)
            for kind, payload in ((protocol.REP_INFO, info), (protocol.REP_ACK, b"")):
                head = protocol.OPTION_REPLY.pack(protocol.OPTION_REPLY_MAGIC, option, kind, len(payload))
                theirs.sendall(head + payload)
            requests = []
            for _ in range(-(-length // unit)):
                raw = theirs.recv(protocol.REQUEST.size, socket.MSG_WAITALL)
                _, _, _, handle, offset, size = protocol.REQUEST.unpack(raw)
                requests.append((handle, offset, size))
            try:
                theirs.sendall(answer(requests))
                theirs.shutdown(socket.SHUT_WR)
                theirs.recv(1 << 10)
            except OSError:
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = NbdClient(ours)
    buffer = bytearray(length)
    try:
        client.read_into(0, memoryview(buffer), unit)
    finally:
        client.close()
        thread.join(5)
    return bytes(buffer)


def good(handle: int, offset: int, size: int) -> bytes:
    return protocol.REPLY.pack(protocol.REPLY_MAGIC, 0, handle) + CONTENTS[offset : offset + size]


def bad(handle: int) -> bytes:
    return protocol.REPLY.pack(protocol.REPLY_MAGIC, protocol.EINVAL, handle)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False))
def test_answers_in_any_order(dice: random.Random) -> None:
    def answer(requests: list[tuple[int, int, int]]) -> bytes:
        dice.shuffle(requests)
        return b"".join(good(*request) for request in requests)

    assert read_with(answer) == CONTENTS[:300_000]


@pytest.mark.parametrize(
    "answer",
    [
        lambda requests: b"",
        lambda requests: good(*requests[0])[:1000],
        lambda requests: b"".join(good(*request) for request in requests[:-1]),
        lambda requests: good(*requests[0]) * len(requests),
        lambda requests: good(10**15, 0, 65536),
        lambda requests: b"x" * 200_000,
        lambda requests: b"".join(good(*one) for one in requests[1:]) + bad(requests[0][0]),
    ],
    ids=["nothing", "half", "one short", "one again", "unknown", "nonsense", "error last"],
)
def test_answers_that_make_no_sense(answer: Answer) -> None:
    with pytest.raises(Failed):
        read_with(answer)
