"""The client of the storage daemon's monitor, against monitors that lie, stall and break off."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable

import pytest

from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.platform.qmp import Declined, QmpClient

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'
READY = b'{"return": {}, "id": 1}\r\n'


def served(talk: Callable[[socket.socket], None], patience: float = 5) -> QmpClient:
    ours, theirs = socket.socketpair()

    def run() -> None:
        with theirs:
            talk(theirs)

    threading.Thread(target=run, daemon=True).start()
    return QmpClient(ours, patience)


def script(*answers: bytes) -> Callable[[socket.socket], None]:
    """Sends the first at once, each other one after a request has come, and waits for the end."""

    def talk(connection: socket.socket) -> None:
        for answer in answers:
            connection.sendall(answer)
            if not connection.recv(1 << 16):
                return
        connection.recv(1)

    return talk


def test_commands_events_and_answers_in_pieces() -> None:
    seen = []

    def talk(connection: socket.socket) -> None:
        connection.sendall(GREETING)
        connection.recv(1 << 16)
        connection.sendall(READY)
        seen.append(json.loads(connection.recv(1 << 16)))
        connection.sendall(b'{"event": "SOMETHING", "data": {}}\r\n{"return": [1')
        connection.sendall(b', 2], "id": 2}\r\n')
        connection.recv(1 << 16)
        connection.sendall(b'{"error": {"class": "GenericError", "desc": "no such node"}, "id": 3}\r\n')
        connection.recv(1 << 16)
        connection.sendall(b'{"return": "still there", "id": 4}\r\n')
        connection.recv(1)

    with served(talk) as client:
        assert client.execute("query", {"node-name": "x"}) == [1, 2]
        with pytest.raises(Declined, match="no such node"):
            client.execute("other")
        assert client.execute("third") == "still there"
    assert seen == [{"execute": "query", "arguments": {"node-name": "x"}, "id": 2}]


@pytest.mark.parametrize(
    "answers",
    [
        (b"",),
        (b"\n",),
        (b"SSH-2.0-OpenSSH\r\n",),
        (b'{"QMP": 1}\n',),
        (b"[]\n",),
        (b"[" * 100_000 + b"\n",),
        (b"\xff\xfe\n",),
        (GREETING, b'{"return": {}}\n'),
        (GREETING, b'{"return": {}, "id": 7}\n'),
        (GREETING, b'{"error": "no", "id": 1}\n'),
        (GREETING, b'{"id": 1}\n'),
        (b'{"QMP": "' + b"x" * (5 << 20),),
    ],
    ids=range(12),
)
def test_answers_that_make_no_sense(answers: tuple[bytes, ...]) -> None:
    def talk(connection: socket.socket) -> None:
        try:
            for answer in answers:
                connection.sendall(answer)
                if answer.endswith(b"\n"):
                    connection.recv(1 << 16)
        except OSError:
            pass

    with pytest.raises(Failed):
        served(talk)


def test_one_that_never_answers() -> None:
    with pytest.raises(Failed, match="not answered within"):
        served(script(GREETING), patience=0.2)
    with served(script(GREETING, READY), patience=0.2) as client, pytest.raises(Failed, match="not answered within"):
        client.execute("query")


def test_one_that_dies() -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(GREETING)
        connection.recv(1 << 16)
        connection.sendall(READY)
        connection.recv(1 << 16)

    with served(talk) as client:
        with pytest.raises(Failed, match=r"broken off|gone"):
            client.execute("query")
        with pytest.raises(Failed, match=r"broken off|gone"):
            client.execute("query")
