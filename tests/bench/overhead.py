"""What an export costs beside the work of its steps: doit, the journal, the events."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from portunix_vdisk.platform.home import Home
from portunix_vdisk.plugin.core import connect
from portunix_vdisk.plugin.rpc import vdisk_pb2 as rpc
from portunix_vdisk.tests.bench.figures import Line
from portunix_vdisk.tests.bench.stage import DISK, Stage, say, warm

SHARE = 0.05
"""Part of an export that may go to anything but its steps."""


@dataclass(frozen=True, slots=True)
class Overhead:
    """Seconds of a whole operation in its worker, of its tasks' actions alone, and how many tasks ran."""

    whole: float
    actions: float
    tasks: int

    @property
    def share(self) -> float:
        """Part of the time that no step used, between 0 and 1."""
        return max(0.0, self.whole - self.actions) / self.whole


def rows(stage: Stage) -> list[Line]:
    """Measure exports from inside, and judge the middle one."""
    found: list[Overhead] = []
    output = stage.folder / "cost.zip"
    for run in range(stage.runs):
        say(f"doit's own cost, round {run + 1} of {stage.runs}")
        warm(stage.image)
        stage.place.plugin_pid()
        found.append(measure_export(stage.folder / "home", DISK, output))
        output.unlink()
    middle = sorted(found, key=lambda overhead: overhead.share)[len(found) // 2]
    figure = f"{middle.share:.1%} of {middle.whole:.2f} s, {middle.tasks} tasks"
    return [
        Line(
            "doit's own cost in an export",
            figure,
            target=f"under {SHARE:.0%}",
            reached=middle.share < SHARE,
            values={"shares": [one.share for one in found]},
        )
    ]


def measure_export(home: Path, disk: str, output: Path) -> Overhead:
    """Export a disk over gRPC, listening to what the tasks say of themselves. Raises ``RuntimeError`` if it fails."""
    options = {"disk": os.fsencode(disk), "output": os.fsencode(output)}
    request = rpc.Request(operation="export", options=options, folder=os.fsencode(output.parent))
    requests: SimpleQueue[rpc.ClientMessage | None] = SimpleQueue()
    requests.put(rpc.ClientMessage(request=request))
    with connect(Home(home)) as connection:
        messages: Iterator[rpc.ServerMessage] = connection.stub.Operate(iter(requests.get, None))
        began, actions, tasks = time.perf_counter(), 0.0, 0
        for message in messages:
            kind = message.WhichOneof("kind")
            if kind == "accepted":
                began = time.perf_counter()
            elif kind == "task_finished":
                actions += message.task_finished.seconds
                tasks += 1
            elif kind == "result":
                whole = time.perf_counter() - began
                requests.put(None)
                if message.result.exit_code:
                    raise RuntimeError(f"the export failed: {message.result.error.what}")
                return Overhead(whole, actions, tasks)
    raise RuntimeError("the export ended without a result")
