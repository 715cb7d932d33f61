"""The only code that knows both steps and doit: makes doit's task dictionaries from graphs.

Facts about doit 0.37 that shape it: a failed task's saved values are wiped, so steps keep checkpoints in the data; an
action that returns ``TaskFailed`` fails without a traceback; siblings have no order unless ``task_dep`` says so.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from typing import Any

from doit.exceptions import TaskFailed
from doit.globals import Globals

from portunix_vdisk.platform.errors import Failed, VdiskError
from portunix_vdisk.steps.step import Json
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.session import Session


def doit_tasks(graph: Graph, session: Session) -> Iterator[dict[str, Any]]:
    """The group of a graph and its members, as doit's dictionaries."""
    yield {"basename": graph.name, "name": None, "doc": graph.doc, "uptodate": [(_all_up_to_date, [graph])]}
    previous: list[str] = []
    for member in graph.members:
        yield {
            "basename": graph.name,
            "name": member.name,
            "doc": member.doc,
            "actions": [(_action(graph, member, session),)],
            "uptodate": [(_up_to_date, [member])],
            "task_dep": list(previous),
            "clean": [(_clean(graph, member, session),)] if member.clean else [],
            "io": {"capture": False},
            "title": lambda task: f"{task.name}  {task.doc}",
            "verbosity": 2,
        }
        previous = [f"{graph.name}:{member.name}"]


def saved_values(task: str) -> Values:
    """What the journal kept of a task; only while doit runs."""
    manager = Globals.dep_manager
    return dict(manager.get_values(task)) if manager else {}


def _up_to_date(task: Any, values: Values, member: Member) -> bool:  # doit passes the first two by name
    return member.done(values)


def _all_up_to_date(graph: Graph) -> bool:
    return all(member.done(saved_values(f"{graph.name}:{member.name}")) for member in graph.members)


def _action(graph: Graph, member: Member, session: Session) -> Callable[[], dict[str, Json] | TaskFailed]:
    name = f"{graph.name}:{member.name}"

    def act() -> dict[str, Json] | TaskFailed:
        started = time.monotonic()
        try:
            for path in graph.locks:
                session.lock(path, graph.name)
            # Another process may have done it while we waited for the lock; "doit -a" comes here too.
            values = saved_values(name)
            if member.done(values):
                return dict(values)
            session.listener.task_started(name, member.doc)
            ctx = session.context(name)
            ctx.safe_point()
            result = member.run(ctx)
        except VdiskError as error:
            return _failed(error, name, session)
        except OSError as error:
            return _failed(explain(error), name, session)
        session.ran.add(name)
        session.listener.task_finished(name, time.monotonic() - started)
        return dict(result) if isinstance(result, dict) else {"result": result}

    return act


def _clean(graph: Graph, member: Member, session: Session) -> Callable[[], None]:
    def clean() -> None:
        assert member.clean is not None
        try:
            for path in graph.locks:
                session.lock(path, f"clean {graph.name}")
            member.clean()
        except VdiskError as error:
            session.error = session.error or error
            session.listener.log("warning", str(error))

    return clean


def _failed(error: VdiskError, name: str, session: Session) -> TaskFailed:
    session.error = session.error or error
    session.listener.task_failed(name)
    return TaskFailed(str(error))


def explain(error: OSError) -> VdiskError:
    """An operating system error that no step expected, in our words."""
    where = f" ({error.filename})" if error.filename else ""
    hint = "everything finished so far is kept; run the same command to continue once the cause is gone"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failed(f"no space left{where}", state="what was written so far is kept", hint=hint)
    if error.errno == errno.EIO:
        return Failed(f"the device reports an input/output error{where}", hint="check the medium, then run it again")
    return Failed(f"{error.strerror or error}{where}", hint=hint)
