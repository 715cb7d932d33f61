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
