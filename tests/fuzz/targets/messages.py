"""Client and server of the block protocol, each with a partner that says what it likes."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress

from script import Script

from portunix_vdisk.platform import nbd_protocol as nbd
from portunix_vdisk.platform.errors import VdiskError
from portunix_vdisk.platform.nbd import NbdClient
from portunix_vdisk.platform.nbd_server import NbdServer

_SIZE = 1 << 20


def _bent(script: Script, fields: list[tuple[str, int]]) -> bytes:
    """Numbers in their formats, one of them perhaps another."""
    wrong = script.below(256)
    made = b""
    for number, (how, value) in enumerate(fields):
        size = struct.calcsize(f">{how}")
        value = script.strange(value) & ((1 << 8 * size) - 1) if number == wrong else value
        made += struct.pack(f">{how}", value)
    return made


def _server_says(script: Script) -> bytes:
    said = b"NBDMAGICIHAVEOPT" + _bent(script, [("H", 3)])
    for _ in range(script.below(4)):
        about = script.pick((nbd.INFO_EXPORT, nbd.INFO_BLOCK_SIZE))
        payload = [("H", 0), ("Q", _SIZE), ("H", 65)] if not about else [("H", 3), ("I", 1), ("I", 4096), ("I", 65536)]
        body = _bent(script, payload)
        said += _bent(script, [("Q", nbd.OPTION_REPLY_MAGIC), ("I", 7), ("I", nbd.REP_INFO), ("I", len(body))]) + body
    said += _bent(script, [("Q", nbd.OPTION_REPLY_MAGIC), ("I", 7), ("I", nbd.REP_ACK), ("I", 0)])
    handle = 0
    while script.left:
        if script.below(4) == 3:
            said += script.take(script.below(32))
            continue
        handle += 1
        said += _bent(script, [("I", nbd.REPLY_MAGIC), ("I", 0), ("Q", handle)]) + bytes(script.pick((512, 0, 4096)))
    return said


def _client_says(script: Script) -> bytes:
    said = _bent(script, [("I", 3)])
    while script.left:
        match script.below(4):
            case 0:
                name, wanted = script.take(script.below(8)), script.below(3)
                wish = _bent(script, [("I", len(name))]) + name + _bent(script, [("H", wanted)] + [("H", 3)] * wanted)
                option = script.pick((nbd.OPT_GO, nbd.OPT_INFO, nbd.OPT_LIST, nbd.OPT_ABORT, 99))
                said += nbd.OPTION_MAGIC + _bent(script, [("I", option), ("I", len(wish))]) + wish
            case 1:
                said += nbd.OPTION_MAGIC + struct.pack(">II", nbd.OPT_EXPORT_NAME, 0)
            case 2:
                command = script.below(8)
                request = [("I", nbd.REQUEST_MAGIC), ("H", 0), ("H", command), ("Q", 1), ("Q", 512), ("I", 4096)]
                said += _bent(script, request) + (bytes(4096) if command == nbd.WRITE else b"")
            case _:
                said += script.take(script.below(40))
    return said


def _ask(mine: socket.socket) -> None:
    with suppress(VdiskError, ValueError):
        client = NbdClient(mine)
        try:
            client.read(0, 512)
            client.read_into(0, memoryview(bytearray(9216)), 4096)
            client.write(0, bytes(4096))
            client.zero(0, 512)
            client.flush()
            client.read(0, min(client.size, 1 << 17))
        finally:
            client.close()


def _serve(mine: socket.socket) -> None:
    problems: list[str] = []
    server = NbdServer(
        socket.socket(socket.AF_UNIX), _SIZE, lambda offset, length: bytes(length), b"x", problems.append
    )
    server._clients[mine] = threading.current_thread()
    server._serve(mine)
    server._close()
    assert not problems, problems


def run(data: bytes) -> None:
    script = Script(data)
    client = script.below(2) == 0
    said = _server_says(script) if client else _client_says(script)
    mine, other = socket.socketpair()

    def partner() -> None:
        with suppress(OSError):
            other.sendall(said)
            other.shutdown(socket.SHUT_WR)
            while other.recv(1 << 20):
                pass

    talking = threading.Thread(target=partner)
    talking.start()
    try:
        (_ask if client else _serve)(mine)
    finally:
        mine.close()
        talking.join()
        other.close()
