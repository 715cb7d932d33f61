"""Every task of every disk, for doit itself: what ``dodo.py`` and ``portunix vdisk doit`` load.

Creators are eager (a delayed one makes ``doit export:typo`` succeed without doing anything). Parameters are doit's
variables and belong to the tasks that are named on the command line: ``doit create:my-dev size=20GB``.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType
from typing import Any

from doit import get_initial_workdir
from doit.cmd_base import TaskLoader2
from doit.doit_cmd import DoitMain
from doit.exceptions import TaskFailed
from doit.loader import generate_tasks
from doit.task import Task

from portunix_vdisk.platform.errors import ExitCode, NotFound, VdiskError
from portunix_vdisk.platform.home import Home, act_as_caller, leave_disk
from portunix_vdisk.steps.disk import DiskState
from portunix_vdisk.steps.names import check_name
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.adapter import doit_tasks
from portunix_vdisk.tasks.engine import check_options, doit_config, plan
from portunix_vdisk.tasks.graph import Graph, Member
from portunix_vdisk.tasks.listening import Silent, set_current
from portunix_vdisk.tasks.operations import SECRET_KINDS, Operation, operation, slug
from portunix_vdisk.tasks.overview import overview
from portunix_vdisk.tasks.passwords import take_secrets
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.templates.configuration import FILE_NAME

_OF_EVERY_DISK = ("create", "mount", "unmount", "compact", "export", "delete")
"""Operations whose tasks exist for every disk in the catalog."""
_WHEN_NAMED = (
    *("create", "import", "sync", "convert", "resize", "clone", "check", "archive mount", "archive unmount"),
    *("install", "uninstall", "use"),
)
"""Operations that make a disk or need parameters: their tasks exist where the command line names them."""
_MAKES_A_DISK = ("create", "import")


class DeclaredTasks:
    """The doit tasks of this machine's disks, for one doit run with these command-line arguments."""

    def __init__(self, arguments: Sequence[str], folder: Path | None = None) -> None:
        """``folder`` is the caller's working folder; None means the one in which ``doit`` was started."""
        leave_disk()
        act_as_caller()
        self.session = Session(Home.of_caller(), Silent(), folder or Path(get_initial_workdir()))
        set_current(self.session)
        named = [argument for argument in arguments if not argument.startswith("-")]
        self.variables = dict(argument.split("=", 1) for argument in named if "=" in argument)
        self.session.assume_yes = self.variables.pop("yes", "") in ("1", "true", "yes")
        self.named = [argument for argument in named if "=" not in argument]
        self._given: dict[tuple[tuple[str, str], ...], dict[str, bytes]] = {}

    @property
    def config(self) -> dict[str, Any]:
        """DOIT_CONFIG: our journal, and a bare ``doit`` that changes nothing."""
        return {
            **doit_config(self.session.home),
            "default_tasks": ["overview"],
            "reporter": "portunix-vdisk",
            "verbosity": 2,
        }

    def tasks(self) -> Iterator[dict[str, Any]]:
        """All tasks, as doit's dictionaries."""
        yield {
            "basename": "overview",
            "doc": "show the disks and the commands (default)",
            "actions": [(_show_overview, [self.session])],
            "uptodate": [False],
            "io": {"capture": False},
        }
        yield self._create_all()
        for graph in self._graphs():
            yield from doit_tasks(graph, self.session)

    def _create_all(self) -> dict[str, Any]:
        """``doit create``: every disk that the configuration declares."""
        task: dict[str, Any] = {"basename": "create", "doc": f"make the disks that {FILE_NAME} declares", "actions": []}
        try:
            names = list(self.session.configuration.disks)
        except VdiskError as error:
            return task | {"actions": [(_fail, [error])]}
        if not names:
            none = NotFound(
                f"{self.session.home.root / FILE_NAME} declares no disks",
                state="nothing was made",
                hint="doit create:NAME size=20GB makes one that is not declared",
            )
            return task | {"actions": [(_fail, [none])]}
        return task | {"actions": None, "task_dep": [f"create:{name}" for name in names]}

    def _declared(self) -> list[str]:
        try:
            return list(self.session.configuration.disks)
        except VdiskError:
            return []

    def _graphs(self) -> Iterator[Graph]:
        try:
            disks = self.session.catalog.all()
        except VdiskError as error:
            yield _refusal("catalog", "open", error)
            return
        for disk in disks:
            for name in _OF_EVERY_DISK:
                yield self._graph(name, disk.name)
            if disk.state is DiskState.IMPORTING:
                yield self._graph("import", disk.name)
        known = {disk.name for disk in disks}
        declared = [name for name in self._declared() if name not in known]
        for name in declared:
            yield self._graph("create", name)
        known |= set(declared)
        for name in _WHEN_NAMED:
            for disk_name in self._names_of(name):
                if name not in _MAKES_A_DISK or disk_name not in known:
                    yield self._graph(name, disk_name)

    def _names_of(self, operation: str) -> list[str]:
        """Names in ``create:NAME`` and ``create:NAME:member`` on the command line, without patterns."""
        parts = [argument.split(":") for argument in self.named]
        names = {part[1] for part in parts if len(part) > 1 and part[0] == slug(operation) and "*" not in part[1]}
        return sorted(names)

    def _graph(self, name: str, disk: str) -> Graph:
        known = operation(name)
        assert known is not None
        # Where the disk is told by another parameter (a target, an archive), the name only has to be right.
        options = {parameter.name: disk for parameter in known.parameters if parameter.name in ("disk", "name")}
        if any(fnmatchcase(f"{slug(name)}:{disk}", ":".join(argument.split(":")[:2])) for argument in self.named):
            accepted = {parameter.name for parameter in known.parameters}
            options |= {key: value for key, value in self.variables.items() if key in accepted}
        try:
            check_name(disk)
            options = self._without_secrets(known, options)
            check_options(known, options)
            graph = plan(self.session, name, options)
        except VdiskError as error:
            return _refusal(name, disk, error)
        return graph

    def _without_secrets(self, known: Operation, options: dict[str, str]) -> dict[str, str]:
        """Take the passwords that the variables name into the session; a descriptor can be read only once."""
        names = {parameter.name for parameter in known.parameters if parameter.kind in SECRET_KINDS}
        given = tuple(sorted((name, text) for name, text in options.items() if name in names))
        if given and given in self._given:
            return {name: text for name, text in options.items() if name not in names}
        rest, found = take_secrets(known, options, self.session.folder)
        self._given[given] = found
        self.session.give_secrets(found)
        return rest


def _fail(error: VdiskError) -> TaskFailed:
    return TaskFailed(str(error))


def _show_overview(session: Session) -> None:
    sys.stdout.write(overview(session))


def _refusal(operation: str, disk: str, error: VdiskError) -> Graph:
    """A task that fails with the reason why its graph cannot be made."""

    def fail(ctx: Context) -> Json:
        raise error

    return Graph(operation, disk, error.what, (), (Member("plan", error.what, fail, lambda values: False),))


class _DeclaredLoader(TaskLoader2):  # type: ignore[misc]
    def __init__(self, declared: DeclaredTasks) -> None:
        super().__init__()
        self.declared = declared

    def load_doit_config(self) -> dict[str, Any]:
        return self.declared.config

    def load_tasks(self, cmd: Any, pos_args: Sequence[str]) -> list[Task]:
        return list(generate_tasks("disks", self.declared.tasks()))


def doit(arguments: Sequence[str], folder: Path) -> int:
    """The doit command line with our tasks, outside any checkout. Returns doit's own exit code; 130 when stopped."""
    declared = DeclaredTasks(arguments, folder)
    with declared.session, stopping(declared.session):
        status = DoitMain(_DeclaredLoader(declared), config_filenames=()).run(list(arguments))
    return int(ExitCode.INTERRUPTED) if declared.session.stop else int(status or 0)


class stopping:  # noqa: N801 - a context manager, used like a verb
    """While it lasts, the first Ctrl-C stops the session at its next safe point; the second one stops at once."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __enter__(self) -> None:
        self.before = signal.signal(signal.SIGINT, self._stop)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.before)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.session.stop:
            raise KeyboardInterrupt
        self.session.stop = True
        self.session.log("info", "stopping at a safe point; once more to stop at once")
