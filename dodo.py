"""What ``doit`` loads in this folder: every task of every virtual disk. All content is in ``tasks/``."""

import atexit
import sys
from collections.abc import Iterator

from portunix_vdisk.tasks.declared import DeclaredTasks, stopping

declared = DeclaredTasks(sys.argv[1:])
stopping(declared.session).__enter__()
atexit.register(declared.session.close)
DOIT_CONFIG = declared.config


def task_disks() -> Iterator[dict[str, object]]:
    """Every operation on every disk."""
    yield from declared.tasks()


def task_bench() -> dict[str, object]:
    """Measure beside what a person would use instead; the table that README quotes."""
    return {"actions": [[sys.executable, "tests/bench/bench.py"]], "verbosity": 2, "uptodate": [False]}
