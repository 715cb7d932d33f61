"""Takes inputs that reach lines which no seed reaches into the seeds: ``tests/fuzz/minimise.py TARGET FOLDER``."""

from __future__ import annotations

import hashlib
import importlib
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import run

_PACKAGE = tuple(str(run.HERE.parents[1] / part) for part in ("steps", "platform"))
_reached: set[tuple[str, int]] = set()


def _trace(frame: FrameType, event: str, value: Any) -> Any:
    if not frame.f_code.co_filename.startswith(_PACKAGE):
        return None
    _reached.add((frame.f_code.co_filename, frame.f_lineno))
    return _trace


def lines_of(target: Any, data: bytes) -> set[tuple[str, int]]:
    """Lines of the package that an input reaches."""
    _reached.clear()
    threading.settrace(_trace)
    sys.settrace(_trace)
    try:
        target(data)
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
    return set(_reached)


def main(name: str, folder: Path) -> None:
    importlib.import_module("judge").start(overhead=1000)
    target, kept = run.load(name), run.SEEDS / name
    kept.mkdir(parents=True, exist_ok=True)
    known: set[tuple[str, int]] = set()
    for path in run.seeds_of(name):
        known |= lines_of(target, path.read_bytes())
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_size):
        data = path.read_bytes()
        new = lines_of(target, data) - known
        if new:
            known |= new
            (kept / hashlib.sha1(data).hexdigest()[:12]).write_bytes(data)
    print(f"{name}: {len(run.seeds_of(name))} seeds reach {len(known)} lines")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
