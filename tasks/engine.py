"""The engine: turns a request into a doit run and its result into an object.

There is one implementation of each operation, the graph; ``portunix vdisk export`` and ``doit export:my-dev`` both
run it, the former through :func:`run`, the latter through :func:`doit_namespace`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doit.cmd_base import TaskLoader2
from doit.doit_cmd import DoitMain
from doit.loader import generate_tasks
from doit.reporter import ZeroReporter
from doit.task import Task

from portunix_vdisk.platform.errors import BadUsage, Failed
from portunix_vdisk.platform.home import Home
from portunix_vdisk.steps.step import Json
from portunix_vdisk.tasks import queries, template_queries
from portunix_vdisk.tasks.adapter import doit_tasks
from portunix_vdisk.tasks.archive_merge import merge_graph
from portunix_vdisk.tasks.archive_mount import archive_mount_graph, archive_unmount_graph, unmount_anything_graph
from portunix_vdisk.tasks.archive_repair import archive_repair_graph
from portunix_vdisk.tasks.archives import list_archive, prune_graph, rekey_graph, verify_graph
from portunix_vdisk.tasks.check_disk import check_graph
from portunix_vdisk.tasks.clone_disk import clone_graph
from portunix_vdisk.tasks.compact_disk import compact_graph
from portunix_vdisk.tasks.convert_disk import convert_graph
from portunix_vdisk.tasks.create_disk import abort_graph
from portunix_vdisk.tasks.create_from_template import create_any_graph
from portunix_vdisk.tasks.delete_disk import delete_graph
from portunix_vdisk.tasks.export_disk import export_graph
from portunix_vdisk.tasks.graph import Graph
from portunix_vdisk.tasks.import_image import disk_name_of, import_any_graph
from portunix_vdisk.tasks.install import install_graph
from portunix_vdisk.tasks.key_slots import luks_backup_graph, passwd_graph
from portunix_vdisk.tasks.mount_image import mount_anything_graph
from portunix_vdisk.tasks.operations import SECRET_KINDS, Operation, operation
from portunix_vdisk.tasks.passwords import check_secrets
from portunix_vdisk.tasks.repair_disk import repair_graph
from portunix_vdisk.tasks.resize_disk import resize_graph
from portunix_vdisk.tasks.session import Listener, Session
from portunix_vdisk.tasks.sync_folder import sync_graph
from portunix_vdisk.tasks.template_from_disk import template_from_disk
from portunix_vdisk.tasks.template_lock import template_lock_graph
from portunix_vdisk.tasks.uninstall import uninstall_graph, use_graph
from portunix_vdisk.tasks.upgrade import show_outdated, upgrade_graph
from portunix_vdisk.tasks.use_disk import exec_graph, shell_graph, show_environment

GRAPHS: dict[str, Callable[[Session, Mapping[str, str]], Graph]] = {
    "create": create_any_graph,
    "mount": mount_anything_graph,
    "unmount": unmount_anything_graph,
    "repair": repair_graph,
    "sync": sync_graph,
    "install": install_graph,
    "uninstall": uninstall_graph,
    "use": use_graph,
    "compact": compact_graph,
    "convert": convert_graph,
    "check": check_graph,
    "resize": resize_graph,
    "clone": clone_graph,
    "export": export_graph,
    "import": import_any_graph,
    "delete": delete_graph,
    "passwd": passwd_graph,
    "luks-backup": luks_backup_graph,
    "verify": verify_graph,
    "archive prune": prune_graph,
    "archive rekey": rekey_graph,
    "archive repair": archive_repair_graph,
    "archive merge": merge_graph,
    "exec": exec_graph,
    "shell": shell_graph,
    "archive mount": archive_mount_graph,
    "archive unmount": archive_unmount_graph,
    "template lock": template_lock_graph,
    "upgrade": upgrade_graph,
}
QUERIES: dict[str, Callable[[Session, Mapping[str, str]], Json]] = {
    "list": queries.list_disks,
    "info": queries.info,
    "doctor": queries.doctor,
    "formats": queries.formats,
    "env": show_environment,
    "archive list": list_archive,
    "template list": template_queries.list_templates,
    "template show": template_queries.show_template,
    "template validate": template_queries.validate_templates,
    "template from-disk": template_from_disk,
    "outdated": show_outdated,
}


@dataclass(frozen=True, slots=True)
class Request:
    """One operation as a person asked for it.

    Args:
        operation: a name in :mod:`portunix_vdisk.tasks.operations`.
        options: the text of each parameter that was given; ``true`` for flags.
        folder: the caller's working folder.
        assume_yes: every question that can be confirmed is.
        secrets: passwords by name, read by the process that the person started; never shown.
    """

    operation: str
    options: Mapping[str, str]
    folder: Path
    assume_yes: bool = False
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def run(request: Request, home: Home, listener: Listener) -> Json:
    """Run an operation to its end and return its result object.

    Raises ``VdiskError``: of the first task that failed, or for a request that makes no sense.
    """
    known = operation(request.operation)
    if known is None:
        raise BadUsage(f"there is no operation {request.operation}")
    check_options(known, request.options)
    check_secrets(known, request.secrets)
    with Session(home, listener, request.folder) as session:
        session.assume_yes = request.assume_yes
        session.give_secrets(request.secrets)
        if not known.graph:
            return QUERIES[known.name](session, request.options)
        return run_graph(plan(session, known.name, request.options), session)


def warm_up() -> None:
    """Everything heavy is imported with this module; the platform is the rest."""
    from portunix_vdisk.platform.choose import this_platform

    this_platform()


def check_options(known: Operation, options: Mapping[str, str]) -> None:
    """Refuse unknown and missing parameters. Raises ``BadUsage``."""
    parameters = {parameter.name: parameter for parameter in known.parameters}
    for name in options:
        if name not in parameters:
            raise BadUsage(f"{known.name} has no parameter {name}", hint=f"portunix vdisk {known.name} --help")
        if parameters[name].kind in SECRET_KINDS:
            raise BadUsage(f"--{name} is read by the command that was started, not by the engine")
    for parameter in known.parameters:
        if parameter.required and not options.get(parameter.name):
            raise BadUsage(f"{known.name} needs {parameter.name}", hint=known.examples[0])


def plan(session: Session, name: str, options: Mapping[str, str]) -> Graph:
    """The graph of an operation. Raises ``VdiskError`` for a request that cannot be."""
    if options.get("abort") == "true":
        unfinished = options.get("name") or disk_name_of(session, options)
        return abort_graph(session, name, unfinished)
    return GRAPHS[name](session, options)


class _EngineReporter(ZeroReporter):  # type: ignore[misc]
    """Passes on what only doit knows: which tasks are up to date, and failures that are not ours."""

    def __init__(self, session: Session) -> None:
        super().__init__(io.StringIO(), {})
        self.session = session
        self.crash = ""

    def skip_uptodate(self, task: Task) -> None:
        if task.actions:
            self.session.listener.task_skipped(task.name)

    def add_failure(self, task: Task, fail: Any) -> None:
        if self.session.error is None:
            self.crash = self.crash or fail.get_msg()

    def runtime_error(self, msg: str) -> None:
        self.crash = self.crash or msg


class _GraphLoader(TaskLoader2):  # type: ignore[misc]
    """Gives doit the tasks of one graph, and our configuration instead of any file's."""

    def __init__(self, graph: Graph, session: Session, reporter: _EngineReporter) -> None:
        super().__init__()
        self._config = {**doit_config(session.home), "reporter": reporter, "verbosity": 0}
        self.tasks: list[Task] = list(generate_tasks(graph.name, doit_tasks(graph, session)))

    def load_doit_config(self) -> dict[str, Any]:
        return self._config

    def load_tasks(self, cmd: Any, pos_args: Sequence[str]) -> list[Task]:
        return self.tasks


def run_graph(graph: Graph, session: Session) -> Json:
    """Run the members that are not up to date. Raises the error of the first that failed."""
    session.home.make()
    reporter = _EngineReporter(session)
    loader = _GraphLoader(graph, session, reporter)
    status = DoitMain(loader, config_filenames=()).run(["run", graph.name])
    if session.error is not None:
        raise session.error
    if status != 0:
        raise Failed(f"{graph.name} failed unexpectedly", state=reporter.crash)
    return graph.result({task.name.removeprefix(f"{graph.name}:"): task.values for task in loader.tasks})


def doit_config(home: Home) -> dict[str, Any]:
    """What every doit run of ours is configured with."""
    return {"backend": "portunix-vdisk", "dep_file": str(home.journal), "check_file_uptodate": "timestamp"}
