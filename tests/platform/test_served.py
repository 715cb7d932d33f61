"""Attaching what a server offers: whose server root talks to, and servers that are none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.errors import Failed, NotFound, Refused, VdiskError
from portunix_vdisk.platform.linux import mounts, state
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.platform.linux.processes import start_time
from portunix_vdisk.platform.nbd_server import NbdServer, listen
from portunix_vdisk.tests.platform.disks import PARTITION, SIZE
from portunix_vdisk.tests.platform.test_attach_program import PLACE, program


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nbd-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def file(short: Path) -> Path:
    """The file for which the server stands; nobody reads it."""
    made = short / "file"
    made.write_bytes(b"an archive")
    made.chmod(0o644)
    return made


class Here:
    """A server in a thread of this process, which is root's."""

    def __init__(self, path: Path, size: int, content: bytes = b"") -> None:
        self.server = NbdServer(listen(path), size, lambda at, n: content[at : at + n].ljust(n, b"\0"))
        path.chmod(0o777)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()

    def stop(self) -> None:
        self.server.stop()
        self.thread.join(5)


def test_only_a_process_of_the_caller_is_served_to_root(short: Path, file: Path) -> None:
    server = Here(short / "nbd", SIZE)
    try:
        answer = program("attach-served", f"--image={file}", f"--socket={short / 'nbd'}", *PLACE)
        assert (answer.status, answer.error["kind"]) == (4, "Refused")
        assert "another user" in str(answer.error["what"])
        # One that they cannot reach themselves is not reached for them either.
        (short / "nbd").chmod(0o600)
        answer = program("attach-served", f"--image={file}", f"--socket={short / 'nbd'}", *PLACE)
        assert "cannot reach" in str(answer.error["what"])
        file.chmod(0o600)
        answer = program("attach-served", f"--image={file}", f"--socket={short / 'nbd'}", *PLACE)
        assert "cannot open" in str(answer.error["what"])
    finally:
        server.stop()
    assert not (state.ROOT / state.key_of(file.stat())).exists()


@pytest.mark.parametrize(
    ("socket_name", "words"), [("none", "cannot reach"), ("x" * 200, "cannot reach"), ("file", "cannot reach")]
)
def test_no_server_at_all(short: Path, file: Path, socket_name: str, words: str) -> None:
    answer = program("attach-served", f"--image={file}", f"--socket={short / socket_name}", *PLACE, user=None)
    assert answer.status == 4
    assert words in str(answer.error["what"])
    assert program("attach-served", f"--image={short / 'gone'}", "--socket=/x", *PLACE, user=None).status == 3
    assert program("attach-served", f"--image={file}", *PLACE, user=None).status == 2


@pytest.mark.parametrize("greeting", ["", "HTTP/1.1 200 OK, and more, so that it is long enough to be read as a whole"])
def test_a_server_that_speaks_no_nbd(short: Path, file: Path, greeting: str) -> None:
    # Another process: the server of an attachment that failed is ended.
    with subprocess.Popen(
        [sys.executable, "-c", _GREETER, greeting, str(short / "nbd")], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.read(5) == b"ready"
        answer = program("attach-served", f"--image={file}", f"--socket={short / 'nbd'}", *PLACE, user=None)
        process.terminate()
    assert answer.status in (1, 5)
    assert not (state.ROOT / state.key_of(file.stat())).exists()


_GREETER = """
import os, sys, time
from pathlib import Path
from portunix_vdisk.platform.nbd_server import listen
listener = listen(Path(sys.argv[2]))
os.write(1, b"ready")
connection, _ = listener.accept()
connection.sendall(sys.argv[1].encode())
connection.close()
time.sleep(30)
"""


def test_a_disk_that_is_too_small_for_its_partition(short: Path, file: Path) -> None:
    starter = [sys.executable, "-c", _OTHER_PROCESS, str(PARTITION.length), str(short / "nbd")]
    with subprocess.Popen(starter, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.read(5) == b"ready"
        answer = program("attach-served", f"--image={file}", f"--socket={short / 'nbd'}", *PLACE, user=None)
        assert answer.status in (1, 5), answer.out
        process.terminate()
    assert not (state.ROOT / state.key_of(file.stat())).exists()


_OTHER_PROCESS = """
import os, sys
from pathlib import Path
from portunix_vdisk.platform.nbd_server import NbdServer, listen
server = NbdServer(listen(Path(sys.argv[2])), int(sys.argv[1]), lambda at, n: bytes(n))
os.write(1, b"ready")
server.run(30)
"""


def test_it_is_attached_and_taken_away(short: Path, file: Path, originals: dict[ImageType, bytes]) -> None:
    raw = short / "raw"
    raw.write_bytes(originals[ImageType.IMG])
    daemon = _DAEMON.replace("RAW", str(raw))
    platform = LinuxPlatform()
    found = platform.attach_served(file, PARTITION, (sys.executable, "-c", daemon))
    try:
        assert found.read_only and found.server_pid is not None and found.problem == ""
        assert platform.attach_served(file, PARTITION, ("/bin/false",)) == found, "a healthy one is kept"
        descriptor = os.open(found.device, os.O_RDONLY)
        assert os.pread(descriptor, 1 << 20, 0) == raw.read_bytes()[PARTITION.start :][: 1 << 20]
        os.close(descriptor)
        assert [held.image for held in platform.attachments() if held.server_pid] == [file]
    finally:
        platform.detach(file)
    assert platform.attachment(file) is None
    assert start_time(found.server_pid) is None
    assert not any("portunix" in str(entry.point) and str(short) in str(entry.point) for entry in mounts.mounted())


_DAEMON = """
import os, sys
from pathlib import Path
from portunix_vdisk.platform.nbd_server import NbdServer, listen
hear, tell = os.pipe()
if os.fork():
    sys.exit(os.read(hear, 1) != b"r")
os.setsid()
os.dup2(os.open("/dev/null", os.O_RDWR), 2)
raw = os.open("RAW", os.O_RDONLY)
server = NbdServer(listen(Path(sys.argv[1])), os.fstat(raw).st_size, lambda at, n: os.pread(raw, n, at))
os.write(tell, b"r")
server.run(30)
"""


def test_a_server_that_cannot_start(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(file.parent))
    report = '{"error": {"kind": "NotFound", "what": "no such thing", "state": "s", "hint": "h"}}'
    platform = LinuxPlatform()
    for script, kind, words in (
        (f"echo '{report}' >&2; exit 3", NotFound, "no such thing"),
        ("echo nonsense >&2; exit 1", Failed, "nonsense"),
        ("exit 0", Refused, "cannot reach"),
    ):
        with pytest.raises(VdiskError, match=words) as caught:
            platform.attach_served(file, PARTITION, ("/bin/sh", "-c", script))
        assert isinstance(caught.value, kind)
    assert list(file.parent.glob("portunix-archive-*")) == []
    assert platform.attachment(file) is None


def test_a_server_whose_client_does_not_come_is_sent_away(
    short: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short / "raw").write_bytes(bytes(1 << 20))
    met: list[Path] = []

    def fail(image: Path, path: Path) -> None:
        met.append(path)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            pid = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
        met.append(Path(f"/proc/{pid}"))
        raise Refused("no")

    platform = LinuxPlatform()
    monkeypatch.setattr(
        type(platform._root), "attach_served", lambda self, image, path, *rest, **how: fail(image, path)
    )
    with pytest.raises(Refused, match="no"):
        platform.attach_served(file, PARTITION, (sys.executable, "-c", _DAEMON.replace("RAW", str(short / "raw"))))
    socket_path, process = met
    assert not socket_path.parent.exists()
    for _ in range(100):
        if start_time(int(process.name)) is None:
            break
        threading.Event().wait(0.05)
    else:
        raise AssertionError("the server still waits")
