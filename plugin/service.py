"""The gRPC service: one worker process for each operation, its events passed on."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

import grpc

from portunix_vdisk.platform.errors import BadUsage, ExitCode, VdiskError
from portunix_vdisk.platform.home import Home
from portunix_vdisk.plugin import version
from portunix_vdisk.plugin.rpc import vdisk_pb2 as rpc
from portunix_vdisk.plugin.rpc import vdisk_pb2_grpc
from portunix_vdisk.plugin.running import RunningOperation, RunningOperations
from portunix_vdisk.tasks.operations import operation
from portunix_vdisk.tasks.passwords import check_secrets, keep_memory_private

MOST_OPERATIONS = 32
"""Operations at once; each holds a thread of the server."""


class VdiskService(vdisk_pb2_grpc.VdiskServicer):
    """See ``vdisk.proto``.

    Args:
        stop: asks the plugin to end; called with the reason.
    """

    def __init__(self, home: Home, running: RunningOperations, stop: Callable[[str], None]) -> None:
        self._home = home
        self._running = running
        self._stop = stop
        self._started = time.time()
        self._build = version.build()

    def Operate(  # noqa: N802
        self, requests: Iterator[rpc.ClientMessage], context: grpc.ServicerContext
    ) -> Iterator[rpc.ServerMessage]:
        """Run one operation."""
        first = next(requests, None)
        if first is None or first.WhichOneof("kind") != "request":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be a request")
        try:
            check_request(first.request)
            if len(self._running.describe()) >= MOST_OPERATIONS:
                raise BadUsage(f"{MOST_OPERATIONS} operations are running already", hint="try again later")
            operation = self._running.begin(first)
        except VdiskError as error:
            yield _refusal(error.code, error.what, error.hint)
            return
        except OSError as error:
            yield _refusal(ExitCode.FAILED, f"no worker process can be started: {error}", "")
            return
        if operation is None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")
        # Called at the end of the stream in whatever way; without a client the worker stops.
        if not context.add_callback(operation.worker.let_go):
            operation.worker.let_go()
        forwarder = threading.Thread(target=_forward, args=(requests, operation), daemon=True)
        forwarder.start()
        yield rpc.ServerMessage(accepted=rpc.Accepted(worker_pid=operation.worker.pid))
        yield from operation.messages()

    def Status(self, request: rpc.StatusRequest, context: grpc.ServicerContext) -> rpc.StatusResponse:  # noqa: N802
        """Who we are and what runs."""
        return rpc.StatusResponse(
            version=version.VERSION,
            build=self._build,
            pid=os.getpid(),
            home=os.fsencode(self._home.root),
            started=self._started,
            running=self._running.describe(),
        )

    def Stop(self, request: rpc.StopRequest, context: grpc.ServicerContext) -> rpc.StopResponse:  # noqa: N802
        """End the plugin, unless something runs and it was not forced."""
        running = self._running.describe()
        stopping = self._running.refuse_more(only_if_idle=not request.force)
        if stopping:
            self._stop("asked to stop")
        return rpc.StopResponse(stopping=stopping, running=running)


def check_request(request: rpc.Request) -> None:
    """Refuse what the table of operations does not know. Raises ``BadUsage``."""
    known = operation(request.operation)
    if known is None:
        raise BadUsage(f"there is no operation {request.operation!r}")
    if not request.folder.startswith(b"/") or b"\0" in request.folder:
        raise BadUsage("the working folder of a request must be an absolute path")
    names = {parameter.name for parameter in known.parameters}
    for name, text in request.options.items():
        if name not in names:
            raise BadUsage(f"{known.name} has no parameter {name!r}", hint=f"portunix vdisk {known.name} --help")
        if b"\0" in text:
            raise BadUsage(f"the value of {name} contains a zero byte")
    check_secrets(known, request.secrets)


def _forward(requests: Iterator[rpc.ClientMessage], operation: RunningOperation) -> None:
    """Pass answers and cancellation on, until the stream ends or breaks."""
    with contextlib.suppress(Exception):  # gRPC raises a bare Exception where a stream was cut off
        for message in requests:
            if message.WhichOneof("kind") == "answer":  # perhaps to a secret question
                keep_memory_private()
            operation.worker.send(message.SerializeToString())


def _refusal(code: ExitCode, what: str, hint: str) -> rpc.ServerMessage:
    return rpc.ServerMessage(result=rpc.Result(exit_code=code, error=rpc.Error(what=what, hint=hint)))
