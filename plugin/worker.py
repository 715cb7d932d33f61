"""The process that runs one operation: ``python -m portunix_vdisk.plugin.worker``, started by the plugin.

Control messages (``ClientMessage``) come in on standard input, events (``ServerMessage``) go out on standard output.
Both descriptors are moved away before anything is imported, so that nothing a library prints, and no child process,
can get into the protocol. A closed control pipe means: stop at the next safe point.
"""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from portunix_vdisk.platform.errors import BadUsage, ExitCode, Incomplete, Interrupted, Refused, VdiskError
from portunix_vdisk.platform.home import Home, act_as_caller, leave_disk
from portunix_vdisk.plugin import framing
from portunix_vdisk.plugin.logs import worker_log
from portunix_vdisk.plugin.rpc import vdisk_pb2 as rpc
from portunix_vdisk.plugin.text import readable, readable_json
from portunix_vdisk.steps.step import Json, Question, QuestionKind

if TYPE_CHECKING:
    from portunix_vdisk.tasks.session import Listener

_PROGRESS_INTERVAL = 0.05
_LONGEST_LINE = 64 << 10

_KINDS = {
    QuestionKind.CONFIRM: rpc.QUESTION_KIND_CONFIRM,
    QuestionKind.CHOICE: rpc.QUESTION_KIND_CHOICE,
    QuestionKind.SECRET: rpc.QUESTION_KIND_SECRET,
}


class Engine(Protocol):
    """What runs operations; in production the module :mod:`portunix_vdisk.tasks.engine`."""

    @property
    def Request(self) -> Callable[..., Any]:  # noqa: N802
        """Makes the request object."""

    def run(self, request: Any, home: Home, listener: Listener) -> Json:
        """Run one operation."""

    def warm_up(self) -> None:
        """Import everything heavy."""


class RemoteListener:
    """Sends what happens over the event pipe; hears answers and cancellation from the control pipe."""

    def __init__(self, events: int, request: rpc.Request) -> None:
        self._events = events
        self._request = request
        self._write_lock = threading.Lock()
        self._ask_lock = threading.Lock()
        # SimpleQueue, because its put may be called from a signal handler at any moment.
        self._answers: queue.SimpleQueue[rpc.Answer | None] = queue.SimpleQueue()
        self._cancelled = False
        self._questions = 0
        self._last: dict[str, tuple[float, int, int]] = {}
        self.tasks_run = 0
        self.tasks_up_to_date = 0

    # tasks --------------------------------------------------------------------------------------------

    def task_started(self, task: str, title: str) -> None:
        """Count it and tell."""
        self.tasks_run += 1
        self.send(rpc.ServerMessage(task_started=rpc.TaskStarted(task=readable(task), title=readable(title))))

    def task_finished(self, task: str, seconds: float) -> None:
        """Tell."""
        self.send(rpc.ServerMessage(task_finished=rpc.TaskFinished(task=readable(task), seconds=seconds)))

    def task_skipped(self, task: str) -> None:
        """Count it and tell."""
        self.tasks_up_to_date += 1
        self.send(rpc.ServerMessage(task_skipped=rpc.TaskSkipped(task=readable(task))))

    def task_failed(self, task: str) -> None:
        """Tell."""
        self.send(rpc.ServerMessage(task_failed=rpc.TaskFailed(task=readable(task))))

    # the conversation ---------------------------------------------------------------------------------

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        """At most 20 messages a second and task; the last one of a task is always sent."""
        if self._request.quiet:
            return
        now = time.monotonic()
        at, last_done, last_total = self._last.get(task, (0.0, -1, -1))
        if (done, total) == (last_done, last_total) or (now - at < _PROGRESS_INTERVAL and not 0 < total <= done):
            return
        self._last[task] = (now, done, total)
        message = rpc.Progress(task=readable(task), done=int(done), total=max(0, int(total)), unit=readable(unit))
        self.send(rpc.ServerMessage(progress=message))

    def log(self, level: str, text: str) -> None:
        """A line for the person; without ``--debug`` the protocol has no room for more than 64 KiB."""
        if self._request.quiet and level == "info":
            return
        self.send(rpc.ServerMessage(log=rpc.Log(level=readable(level), text=readable(text)[:_LONGEST_LINE])))

    def ask(self, question: Question) -> str:
        """The person's answer; ``yes`` or ``no`` for a confirmation.

        Raises ``Refused`` when nobody can be asked, ``Interrupted`` when the person stopped or went away.
        """
        if question.kind is QuestionKind.CONFIRM and self._request.assume_yes:
            return "yes"
        if not self._request.interactive:
            raise Refused(
                f"this has to be answered first: {question.text}",
                state="nobody can be asked here (no terminal, or --quiet)",
                hint=f"answer it with {question.option}",
            )
        with self._ask_lock:
            self._questions += 1
            id = f"{question.id}#{self._questions}"
            message = rpc.Question(
                id=readable(id),
                kind=_KINDS[question.kind],
                text=readable(question.text),
                default=readable(question.default),
                option=readable(question.option),
                choices=[readable(choice) for choice in question.choices],
            )
            self.send(rpc.ServerMessage(question=message))
            text = self._answer(id) or question.default
        if question.kind is QuestionKind.CONFIRM:
            return "yes" if text.strip().lower() in ("y", "yes") else "no"
        if question.kind is QuestionKind.CHOICE and text not in question.choices:
            raise BadUsage(f"{text!r} is none of the choices: {', '.join(question.choices)}")
        return text

    def cancelled(self) -> bool:
        """True once the person wants to stop, or is gone."""
        return self._cancelled

    # both pipes ---------------------------------------------------------------------------------------

    def send(self, message: rpc.ServerMessage) -> None:
        """Send an event; a plugin that is gone means that nobody listens any more, so the work stops."""
        try:
            with self._write_lock:
                framing.write_message(self._events, message.SerializeToString())
        except OSError:
            self.cancel()

    def cancel(self) -> None:
        """Stop at the next safe point; a waiting question is given up."""
        self._cancelled = True
        self._answers.put(None)

    def listen(self, control: int) -> None:
        """Take answers and cancellation until the control pipe closes."""
        try:
            while (payload := framing.read_message(control)) is not None:
                message = rpc.ClientMessage.FromString(payload)
                kind = message.WhichOneof("kind")
                if kind == "answer":
                    self._answers.put(message.answer)
                elif kind == "cancel":
                    self.cancel()
        finally:
            self.cancel()

    def _answer(self, id: str) -> str:
        while not self._cancelled:
            answer = self._answers.get()
            if answer is not None and answer.question_id == id:
                return answer.text
        raise Interrupted(
            "interrupted while a question was waiting",
            state="everything finished so far is kept",
            hint="run the same command to continue",
        )


def main(load: Callable[[], Engine] | None = None) -> int:
    """Run the one operation that comes in on standard input.

    Args:
        load: imports the engine; tests pass their own.
    """
    leave_disk()
    act_as_caller()
    control, events = _take_pipes()
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    home = Home.of_caller()
    engine: Engine | None = None
    problem = ""
    try:
        engine = (load or _production_engine)()
        engine.warm_up()
    except Exception:  # noqa: BLE001 - told to the person as soon as there is a request
        problem = traceback.format_exc()
        _note(problem)
    payload = framing.read_message(control)
    if payload is None:  # never needed
        return 0
    request = rpc.ClientMessage.FromString(payload).request
    listener = RemoteListener(events, request)
    signal.signal(signal.SIGTERM, lambda *_: listener.cancel())
    threading.Thread(target=listener.listen, args=(control,), daemon=True).start()
    if engine is None or problem:
        result = _unexpected("the plugin's code cannot be loaded", problem, home, request)
    else:
        result = _run(engine, request, home, listener)
    result.tasks_run = listener.tasks_run
    result.tasks_up_to_date = listener.tasks_up_to_date
    listener.send(rpc.ServerMessage(result=result))
    return 0


def _run(engine: Engine, request: rpc.Request, home: Home, listener: RemoteListener) -> rpc.Result:
    try:
        options: Mapping[str, str] = {name: os.fsdecode(text) for name, text in request.options.items()}
        order = engine.Request(
            operation=request.operation,
            options=options,
            folder=Path(os.fsdecode(request.folder)),
            assume_yes=request.assume_yes,
            secrets=dict(request.secrets),
        )
        request.secrets.clear()
        outcome = engine.run(order, home, listener)
        return rpc.Result(exit_code=ExitCode.DONE, json=json.dumps(readable_json(outcome), allow_nan=False))
    except VdiskError as error:
        story = traceback.format_exc()
        _note(story)
        told = _result_of(error) if isinstance(error, Incomplete) else ""
        return rpc.Result(
            exit_code=error.code,
            json=told,
            error=rpc.Error(
                what=readable(error.what),
                state=readable(error.state),
                hint=readable(error.hint),
                traceback=readable(story) if request.debug else "",
            ),
        )
    except BaseException as error:  # noqa: BLE001 - whatever it is, the person gets one line and the log gets the rest
        story = traceback.format_exc()
        _note(story)
        words = str(error).splitlines()
        what = f"{request.operation} failed unexpectedly: {type(error).__name__}" + (f": {words[0]}" if words else "")
        return _unexpected(what, story, home, request)


def _result_of(error: Incomplete) -> str:
    return json.dumps(readable_json(cast("Json", error.result)), allow_nan=False)


def _unexpected(what: str, story: str, home: Home, request: rpc.Request) -> rpc.Result:
    return rpc.Result(
        exit_code=ExitCode.FAILED,
        error=rpc.Error(
            what=readable(what),
            state="what was finished before is kept",
            hint=readable(f"details: {worker_log(home)}"),
            traceback=readable(story) if request.debug else "",
        ),
    )


def _note(story: str) -> None:
    """Into the log, which is this process's error output."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    try:
        os.write(2, f"{stamp} {os.getpid()} {readable(story)}\n".encode())
    except OSError:  # a full disk must not hide the error itself
        return


def _take_pipes() -> tuple[int, int]:
    """Move control and events to private descriptors; what is left of 0 and 1 is harmless."""
    control, events = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return control, events


def _production_engine() -> Engine:
    from portunix_vdisk.tasks import engine

    return engine


if __name__ == "__main__":
    sys.exit(main())
