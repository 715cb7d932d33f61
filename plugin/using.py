"""exec and shell: the plugin gets the disk ready, then the command runs here, and then the disk goes back.

A disk that was mounted for it is unmounted afterwards, whatever the person pressed; if we are killed, it stays
mounted, which ``list`` shows.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from portunix_vdisk.plugin.foreground import run_in_foreground
from portunix_vdisk.plugin.outcome import Outcome
from portunix_vdisk.plugin.shells import opening, shell_of_person
from portunix_vdisk.tasks.shell_text import applied

Ready = Mapping[str, Any]
"""The result object of ``exec`` and ``shell``."""


def use(
    command: Sequence[str],
    ready: Ready,
    environment: Mapping[str, str],
    folder: Path,
    unmount: Callable[[], Outcome],
    *,
    quiet: bool,
) -> Outcome:
    """Run the command, or the person's shell if there is none, and unmount the disk if it was mounted for that.

    The exit code is the command's own; if that is 0 and the disk could not be unmounted, the one for that.

    Args:
        command: what was typed behind ``--``.
        ready: what the plugin said.
        environment: the person's.
        folder: the person's working folder.
        unmount: asks the plugin for it.
        quiet: say nothing about what is going on.
    """
    # From here on the disk is to be put away, whatever is pressed, and however often. A handler, since what is ignored
    # would be ignored by the processes that we start, too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    code = 1
    try:
        code = _run(command, ready, environment, folder, quiet=quiet)
    finally:
        outcome = unmount() if ready["mounted"] else Outcome(0)
    return Outcome(code or outcome.exit_code, outcome.problem)


def _run(command: Sequence[str], ready: Ready, environment: Mapping[str, str], folder: Path, *, quiet: bool) -> int:
    disk = ready["environment"]
    root = Path(disk["root"])
    # What is not on the disk is not where its projects are: then the disk's root is the one place that always is.
    place = folder if _is_below(folder, root) else root
    environment = {**environment, "PWD": os.fspath(place)}
    if command:
        return run_in_foreground(command, applied(disk, environment), place)
    name = ready["disk"]["name"]
    if not quiet:
        ending = "; it is unmounted when you leave this shell" if ready["mounted"] else ""
        print(f"{name} is mounted at {root}{ending}", file=sys.stderr, flush=True)
    with opening(shell_of_person(environment), name, disk, environment) as shell:
        return run_in_foreground(shell.command, shell.environment, place)


def _is_below(folder: Path, root: Path) -> bool:
    try:
        return folder.resolve().is_relative_to(root.resolve())
    except OSError:
        return False
