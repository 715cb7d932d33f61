"""The ``portunix`` command: the core's command line.

Everything heavy (gRPC, doit, tqdm) is imported only when it is needed, so that help and errors come at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from portunix_vdisk.platform.errors import ExitCode, Failed, Interrupted, NotFound, Refused, VdiskError
from portunix_vdisk.platform.home import Home, act_as_caller, leave_disk
from portunix_vdisk.plugin.arguments import Command, Globals, before_dashes, parse
from portunix_vdisk.plugin.help import help_text
from portunix_vdisk.plugin.outcome import Outcome
from portunix_vdisk.plugin.text import readable
from portunix_vdisk.plugin.version import VERSION
from portunix_vdisk.steps.step import Json

_TRIES = 3


def main(arguments: Sequence[str] | None = None, server: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code.

    Args:
        arguments: without the program's name.
        server: command that starts the plugin; tests pass their own.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    # Seen before parsing, so that errors of parsing come out in the right form too.
    mine = before_dashes(words)
    common = Globals(json="--json" in mine, debug="--debug" in mine)
    name: str | None = None
    try:
        try:
            leave_disk()
            act_as_caller()
            command = parse(words, common)
            name = _name(command)
            outcome = _run(command, common, server)
        except VdiskError as error:
            outcome = Outcome.failure(error, traceback.format_exc())
        except KeyboardInterrupt:
            outcome = Outcome.failure(Interrupted("interrupted", hint="run the same command to continue"))
        if outcome is not None:
            _report(name, outcome, common)
            return outcome.exit_code
        sys.stdout.flush()
        return ExitCode.DONE
    except BrokenPipeError:  # whoever read our output has seen enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return outcome.exit_code if outcome is not None else ExitCode.DONE


def program(server: Sequence[str] | None = None) -> NoReturn:
    """The console script.

    Leaves without the interpreter's own shutdown, in which gRPC's threads were seen to wait for ever after the whole
    output was there. Nothing is lost: what we hold was released and flushed before.
    """
    code = main(server=server)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _run(command: Command, common: Globals, server: Sequence[str] | None) -> Outcome | None:
    """Do what the command says; None if there is nothing to report."""
    if command.kind == "help":
        print(help_text(command.name))
        return None
    if command.kind == "version":
        print(f"portunix {VERSION}")
        return None
    if command.kind == "doit":
        from portunix_vdisk.tasks.declared import doit

        sys.exit(doit(command.rest, _folder()))
    if command.kind == "plugin status":
        return _plugin_status()
    if command.kind == "plugin stop":
        return _plugin_stop(force="force" in command.options)
    return _operation(command, common, server)


def _operation(command: Command, common: Globals, server: Sequence[str] | None) -> Outcome:
    folder, environment = _folder(), dict(os.environ)
    from portunix_vdisk.tasks.operations import operation
    from portunix_vdisk.tasks.passwords import take_secrets
    from portunix_vdisk.tasks.use_operations import IN_THE_FOREGROUND, NEED_PYTHON

    known = operation(command.name)
    assert known is not None
    options, secrets = take_secrets(known, command.options, folder)
    if command.name in NEED_PYTHON and "python" not in options:
        from portunix_vdisk.plugin.host_python import host_python

        options["python"] = host_python(environment)
    if command.name not in IN_THE_FOREGROUND:
        return _ask(command.name, options, folder, common, server, secrets)
    still = replace(common, quiet=True)
    ready = _ask(command.name, options, folder, still, server, secrets, interactive=not common.quiet)
    if not isinstance(ready.result, dict):
        return ready
    from portunix_vdisk.plugin.using import use

    disk = ready.result["disk"]["name"]

    def unmount() -> Outcome:
        # Seen from "/" no file of that name can be meant; and nothing that is pressed now keeps the disk mounted.
        return _ask("unmount", {"disk": disk}, Path("/"), still, server, interactive=not common.quiet, stoppable=False)

    return use(command.rest, ready.result, environment, folder, unmount, quiet=common.quiet)


def _ask(
    name: str,
    options: Mapping[str, str],
    folder: Path,
    common: Globals,
    server: Sequence[str] | None,
    secrets: Mapping[str, bytes] | None = None,
    *,
    interactive: bool | None = None,
    stoppable: bool = True,
) -> Outcome:
    """Let the plugin do it. ``interactive``: the person may be asked, by default unless ``quiet``."""
    from portunix_vdisk.plugin.asking import can_ask
    from portunix_vdisk.plugin.core import SERVER, connect
    from portunix_vdisk.plugin.display import Display

    display = Display(quiet=common.quiet)
    wanted = not common.quiet if interactive is None else interactive
    for _ in range(_TRIES):
        with connect(Home.of_caller(), server or SERVER) as connection:
            from portunix_vdisk.plugin.operate import NotBegun, operate
            from portunix_vdisk.plugin.rpc import vdisk_pb2 as rpc

            request = rpc.Request(
                operation=name,
                options={each: os.fsencode(text) for each, text in options.items()},
                folder=os.fsencode(folder),
                interactive=wanted and can_ask(),
                assume_yes=common.yes,
                quiet=common.quiet,
                debug=common.debug,
                secrets=secrets or {},
            )
            try:
                return operate(connection, request, display, stoppable=stoppable)
            except NotBegun:  # it was just ending by itself
                continue
    raise Failed("the vdisk plugin ends as soon as it is started", hint=f"details: {Home.of_caller().logs}")


def _plugin_status() -> Outcome:
    from portunix_vdisk.plugin.core import running_plugin

    connection = running_plugin(Home.of_caller())
    status = None
    if connection is not None:
        with connection:
            status = connection.status()
    if status is None:
        return Outcome(
            0, result={"running": False, **dict.fromkeys(("version", "pid", "home", "started_at")), "operations": []}
        )
    operations: list[Json] = [
        {"operation": one.operation, "worker_pid": one.worker_pid, "started_at": _stamp(one.started)}
        for one in status.running
    ]
    return Outcome(
        0,
        result={
            "running": True,
            "version": status.version,
            "pid": status.pid,
            "home": readable(os.fsdecode(status.home)),
            "started_at": _stamp(status.started),
            "operations": operations,
        },
    )


def _plugin_stop(*, force: bool) -> Outcome:
    from portunix_vdisk.plugin.core import process_end, running_plugin, wait_until_gone

    connection = running_plugin(Home.of_caller())
    if connection is None:
        return Outcome(0, result={"stopped": False})
    with connection:
        status = connection.status()
        ended = process_end(status.pid if status else 0)
        answer = connection.stop(force=force)
    if not answer.stopping:
        names = ", ".join(f"{one.operation} (process {one.worker_pid})" for one in answer.running)
        raise Refused(
            f"the vdisk plugin is busy: {names}",
            state="it was not stopped",
            hint="wait, or stop at a safe point: portunix plugin stop vdisk --force",
        )
    if not wait_until_gone(connection.socket, 70.0) or not ended(5.0):
        raise Failed("the vdisk plugin is still ending", hint="portunix plugin status vdisk")
    return Outcome(0, result={"stopped": True})


def _report(name: str | None, outcome: Outcome, common: Globals) -> None:
    """The result on standard output, the problem on standard error."""
    from portunix_vdisk.plugin import render

    if outcome.problem is not None:
        with contextlib.suppress(OSError):
            if common.debug and outcome.problem.traceback:
                print(_shown(outcome.problem.traceback, sys.stderr.encoding), file=sys.stderr)
            for line in render.render_problem(outcome.problem, sys.stderr):
                print(_shown(line, sys.stderr.encoding), file=sys.stderr)
    if common.json:
        print(json.dumps(outcome.envelope(name)))
    elif isinstance(outcome.result, dict) and name is not None and (not common.quiet or name in render.ANSWERS):
        for line in render.render(name, outcome.result):
            print(_shown(line, sys.stdout.encoding))
    sys.stdout.flush()


def _shown(text: str, encoding: str) -> str:
    """The text as the stream can show it: a terminal in the C locale gets escapes."""
    return text.encode(encoding or "utf-8", "backslashreplace").decode(encoding or "utf-8")


def _name(command: Command) -> str | None:
    """What the JSON object calls the command."""
    if command.kind == "operation":
        return command.name
    return command.kind if command.kind.startswith("plugin") else None


def _folder() -> Path:
    try:
        return Path.cwd()
    except OSError:
        raise NotFound("the current folder does not exist any more", hint="change to another folder") from None


def _stamp(seconds: float) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    program()
