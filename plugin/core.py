"""The core's side of the plugin: find it, start it, speak with it.

A plugin is started on demand on a Unix socket in a private folder. Readiness is what the socket itself says. Under
sudo each command gets a plugin of its own, on a socket that only root can reach: a plugin with root's rights must
never serve anything but the command that was typed after ``sudo``.

What only starting needs is imported there: most commands find a plugin running.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.platform.home import Home
from portunix_vdisk.plugin import address, version
from portunix_vdisk.plugin.identity import as_real_user, child_environment, child_identity, privileged
from portunix_vdisk.plugin.logs import last_lines, plugin_log

if TYPE_CHECKING:
    import subprocess

    from portunix_vdisk.plugin.rpc import vdisk_pb2 as rpc
    from portunix_vdisk.plugin.rpc import vdisk_pb2_grpc

SERVER = (sys.executable, "-P", "-m", "portunix_vdisk.plugin.server")
"""Command of the plugin. ``-P``: nothing in the working folder may shadow a module."""

_DEADLINE = 10.0
_POLL = 0.01
_LONGEST_MESSAGE = 64 << 20


class Connection:
    """A channel to a plugin. Use as a context manager."""

    def __init__(self, socket: Path) -> None:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its remarks on standard error are not for people
        import grpc

        from portunix_vdisk.plugin.rpc import vdisk_pb2_grpc

        self.socket = socket
        self.channel = grpc.insecure_channel(
            f"unix:{socket}",
            options=[
                ("grpc.enable_http_proxy", 0),
                ("grpc.enable_retries", 0),
                ("grpc.service_config_disable_resolution", 1),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_receive_message_length", _LONGEST_MESSAGE),
                ("grpc.max_send_message_length", _LONGEST_MESSAGE),
            ],
        )
        self.stub: vdisk_pb2_grpc.VdiskStub = vdisk_pb2_grpc.VdiskStub(self.channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def status(self, seconds: float = _DEADLINE) -> rpc.StatusResponse | None:
        """Who answers and what runs there; None if the plugin is just ending.

        Raises ``Failed`` if something listens on the socket but doesn't answer in time, or not in our protocol.
        """
        import grpc

        from portunix_vdisk.plugin.rpc import vdisk_pb2 as rpc

        try:
            response: rpc.StatusResponse = self.stub.Status(rpc.StatusRequest(), timeout=seconds)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return None
            raise Failed(
                f"the vdisk plugin does not answer ({error.code().name.lower().replace('_', ' ')})",
                state=f"its socket is {self.socket}",
                hint="end the process that listens there and try again",
            ) from None
        return response

    def stop(self, *, force: bool) -> rpc.StopResponse:
        """Ask the plugin to end. Raises ``Failed`` if it cannot be asked."""
        import grpc

        from portunix_vdisk.plugin.rpc import vdisk_pb2 as rpc

        try:
            response: rpc.StopResponse = self.stub.Stop(rpc.StopRequest(force=force), timeout=_DEADLINE)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return rpc.StopResponse(stopping=True)
            raise Failed(f"the vdisk plugin cannot be stopped: {error.details()}") from None
        return response


@contextlib.contextmanager
def connect(home: Home, server: Sequence[str] = SERVER) -> Iterator[Connection]:
    """A connection to a plugin of this very program, started if need be.

    Raises ``Failed`` if it cannot be started, ``Refused`` while a plugin of another version is busy.

    Args:
        home: the state folder that the plugin serves.
        server: command that starts a plugin; tests pass their own.
    """
    try:
        home.make()
    except OSError as error:
        raise Failed(f"the state folder cannot be made: {error}", hint="set PORTUNIX_HOME to another folder") from None
    with contextlib.ExitStack() as stack:
        if privileged():
            yield stack.enter_context(_private(home, server))
        else:
            yield _shared(home, server, stack)


def running_plugin(home: Home) -> Connection | None:
    """A connection to the plugin that runs for this state folder, whatever its version; None if none does."""
    socket = address.socket_path(home)
    return Connection(socket) if address.answers(socket) else None


def wait_until_gone(socket: Path, seconds: float) -> bool:
    """True once nobody serves the socket and its files are removed; False if that takes longer."""
    deadline = time.monotonic() + seconds
    while socket.exists() or socket.with_suffix(".pid").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def process_end(pid: int) -> Callable[[float], bool]:
    """A function that waits at most so many seconds for this process to end, and tells if it has."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return lambda seconds: True

    def ended(seconds: float) -> bool:
        try:
            return bool(select.select([process], [], [], seconds)[0])
        finally:
            os.close(process)

    return ended


def _shared(home: Home, server: Sequence[str], stack: contextlib.ExitStack) -> Connection:
    socket = address.socket_path(home)
    deadline = time.monotonic() + _DEADLINE
    while time.monotonic() < deadline:
        if not address.answers(socket):
            with _starting(home, deadline):
                if not address.answers(socket):  # whoever held the lock may have started one
                    if socket.parent != home.run:
                        address.make_private(socket.parent)
                    _start(home, server, socket, [], deadline)
        else:
            address.check_private(socket.parent)
        connection = Connection(socket)
        status = connection.status(max(0.1, deadline - time.monotonic()))
        if status is not None and status.build == version.build():
            stack.enter_context(connection)
            return connection
        with connection:
            if status is not None:
                _replace(connection, status)
        wait_until_gone(socket, max(0.0, deadline - time.monotonic()))
    raise Failed(f"the vdisk plugin did not get ready in {_DEADLINE:.0f} s", hint=f"details: {plugin_log(home)}")


def _replace(connection: Connection, status: rpc.StatusResponse) -> None:
    """Ask a plugin of another build to end. Raises ``Refused`` if it has work to do."""
    answer = connection.stop(force=False)
    if not answer.stopping:
        names = ", ".join(f"{one.operation} (process {one.worker_pid})" for one in answer.running)
        raise Refused(
            f"a plugin of another version ({status.version}) is busy: {names}",
            state="nothing was done",
            hint="wait for it, or stop it at a safe point: portunix plugin stop vdisk --force",
        )


@contextlib.contextmanager
def _private(home: Home, server: Sequence[str]) -> Iterator[Connection]:
    """A plugin for one command, on a socket that only the real user (root) can reach."""
    import subprocess
    import tempfile

    with as_real_user():
        folder = Path(tempfile.mkdtemp(prefix="portunix-plugin-", dir="/run" if os.access("/run", os.W_OK) else None))
    socket = folder / "plugin.sock"
    try:
        process = _start(home, server, socket, ["--once"], time.monotonic() + _DEADLINE)
        with Connection(socket) as connection:
            with as_real_user():  # connecting needs the right to enter the folder; what is connected stays so
                status = connection.status()
            if status is None:
                raise Failed("the vdisk plugin ended before it could be used", hint=f"details: {plugin_log(home)}")
            yield connection
        with contextlib.suppress(subprocess.TimeoutExpired):  # then it is ending at a safe point
            process.wait(_DEADLINE)
    finally:
        with as_real_user(), contextlib.suppress(OSError):
            folder.rmdir()  # it removes its own folder; only one that never started leaves it


def _start(
    home: Home, server: Sequence[str], socket: Path, options: Sequence[str], deadline: float
) -> subprocess.Popen[bytes]:
    """Start a plugin and wait until it listens. Raises ``Failed`` with its last words if it ends or takes too long."""
    import subprocess

    log = plugin_log(home)
    written = log.stat().st_size if log.exists() else 0
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*server, "--socket", str(socket), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env={**child_environment(), "PORTUNIX_HOME": str(home.root)},
                **child_identity(),
            )
    except OSError as error:
        raise Failed(f"the vdisk plugin cannot be started: {error}") from None
    while not _listening(socket):
        status = process.poll()
        if status is not None and not _listening(socket):
            words = last_lines(log, written)
            raise Failed(
                f"the vdisk plugin ended with status {status} before it was ready" + "".join(f"\n  {w}" for w in words),
                hint=f"details: {log}",
            )
        if time.monotonic() > deadline:
            process.terminate()
            raise Failed(f"the vdisk plugin did not get ready in {_DEADLINE:.0f} s", hint=f"details: {log}")
        time.sleep(_POLL)
    return process


def _listening(socket: Path) -> bool:
    with as_real_user():
        return address.answers(socket)


@contextlib.contextmanager
def _starting(home: Home, deadline: float) -> Iterator[None]:
    """One client at a time starts a plugin. The lock is on the folder itself and leaves no file behind."""
    descriptor = os.open(home.run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Failed("another command has been starting the vdisk plugin for too long") from None
                time.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)
