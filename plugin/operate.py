"""The core's end of one operation: a stream to the plugin, the person at the terminal, two kinds of signals."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType

import grpc

from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.plugin.asking import ask_person
from portunix_vdisk.plugin.core import Connection
from portunix_vdisk.plugin.display import Display
from portunix_vdisk.plugin.outcome import INTERRUPTED, Outcome, Problem
from portunix_vdisk.plugin.rpc import vdisk_pb2 as rpc
from portunix_vdisk.steps.step import Question, QuestionKind

_KINDS = {
    rpc.QUESTION_KIND_CONFIRM: QuestionKind.CONFIRM,
    rpc.QUESTION_KIND_CHOICE: QuestionKind.CHOICE,
    rpc.QUESTION_KIND_SECRET: QuestionKind.SECRET,
}


class NotBegun(Exception):
    """The plugin ended before it accepted the request; asking the next one is safe."""


class _Signal:
    """The person, or the system, wants the operation to stop."""


def operate(connection: Connection, request: rpc.Request, display: Display, *, stoppable: bool = True) -> Outcome:
    """Run one operation to its end; Ctrl-C or SIGTERM stops it at a safe point, a second one stops waiting for that.

    One that is not ``stoppable`` cleans up what the person has stopped already, so it goes on whatever they press.

    Raises ``NotBegun``, and ``Failed`` when the plugin ends in the middle. To be called in the main thread.
    """
    # Both queues are filled from signal handlers too, so they have to be of the reentrant kind.
    inbox: queue.SimpleQueue[rpc.ServerMessage | grpc.RpcError | _Signal | None] = queue.SimpleQueue()
    outbox: queue.SimpleQueue[rpc.ClientMessage | None] = queue.SimpleQueue()
    outbox.put(rpc.ClientMessage(request=request))

    def receive(call: Iterable[rpc.ServerMessage]) -> None:
        try:
            for message in call:
                inbox.put(message)
            inbox.put(None)
        except grpc.RpcError as error:
            inbox.put(error)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if stoppable:
            inbox.put(_Signal())

    with _signals(interrupt):  # before the request is on its way: from then on there is something to stop
        call = connection.stub.Operate(iter(outbox.get, None))
        threading.Thread(target=receive, args=(call,), daemon=True).start()
        try:
            return _converse(request.operation, inbox, outbox, display)
        finally:
            outbox.put(None)
            call.cancel()
            display.close()


def _converse(
    operation: str,
    inbox: queue.SimpleQueue[rpc.ServerMessage | grpc.RpcError | _Signal | None],
    outbox: queue.SimpleQueue[rpc.ClientMessage | None],
    display: Display,
) -> Outcome:
    begun = stopping = False

    def stop() -> None:
        nonlocal stopping
        stopping = True
        outbox.put(rpc.ClientMessage(cancel=rpc.Cancel()))
        display.line("stopping at a safe point…")

    while True:
        item = inbox.get()
        if isinstance(item, _Signal):
            if stopping:
                return INTERRUPTED
            stop()
        elif isinstance(item, rpc.ServerMessage):
            begun = True
            kind = item.WhichOneof("kind")
            if kind == "result":
                return _outcome(item.result)
            if kind == "question":
                try:
                    text = _ask(item.question, display)
                except KeyboardInterrupt:
                    stop()
                else:
                    outbox.put(rpc.ClientMessage(answer=rpc.Answer(question_id=item.question.id, text=text)))
            else:
                _show(item, kind, display)
        elif not begun and isinstance(item, grpc.RpcError) and item.code() is grpc.StatusCode.UNAVAILABLE:
            raise NotBegun
        else:
            raise _broken(operation, item)


def _show(message: rpc.ServerMessage, kind: str | None, display: Display) -> None:
    if kind == "progress":
        progress = message.progress
        display.progress(progress.task, progress.done, progress.total, progress.unit)
    elif kind == "task_started":
        display.started(message.task_started.task, message.task_started.title)
    elif kind == "log":
        display.log(message.log.level, message.log.text)


def _ask(question: rpc.Question, display: Display) -> str:
    display.close()
    kind = _KINDS.get(question.kind, QuestionKind.SECRET)
    return ask_person(
        Question(question.id, kind, question.text, question.option, question.default, tuple(question.choices))
    )


def _outcome(result: rpc.Result) -> Outcome:
    problem = None
    if result.HasField("error"):
        error = result.error
        problem = Problem(error.what, error.state, error.hint, error.traceback)
    return Outcome(
        result.exit_code,
        problem,
        json.loads(result.json) if result.json else None,
        result.tasks_run,
        result.tasks_up_to_date,
    )


def _broken(operation: str, error: grpc.RpcError | None) -> Failed:
    if error is not None and error.code() is not grpc.StatusCode.UNAVAILABLE:
        return Failed(f"the vdisk plugin refused {operation}: {error.details()}", state="nothing was done")
    return Failed(
        f"the vdisk plugin ended in the middle of {operation}",
        state="its worker stops at the next safe point; everything finished so far is kept",
        hint="run the same command to continue",
    )


@contextlib.contextmanager
def _signals(handler: object) -> Iterator[None]:
    before = [(number, signal.signal(number, handler)) for number in (signal.SIGINT, signal.SIGTERM)]  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, previous in before:
            signal.signal(number, previous)
