"""Leaving files out, in plain folders and on real disks."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from portunix_vdisk.steps.exclude.remove import LeftOut, Remover
from portunix_vdisk.steps.exclude.rules import Rule, Rules
from portunix_vdisk.steps.step import Context, Question
from portunix_vdisk.templates.excludes import read_excludes

OURS = [
    Rule(one.name, one.patterns, one.beside, one.holds, one.lacks) for one in read_excludes(Path("/nonexistent")).rules
]


@dataclass
class Nobody:
    """Ends the process, or wants to stop, after so many safe points."""

    patience: int = -1
    kill: bool = False
    asked: int = 0
    lines: list[str] = field(default_factory=list)

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        assert 0 <= done <= total

    def log(self, level: str, text: str) -> None:
        self.lines.append(text)

    def ask(self, question: Question) -> str:
        raise AssertionError("nothing is asked")

    def cancelled(self) -> bool:
        self.asked += 1
        if 0 <= self.patience < self.asked:
            if not self.kill:
                return True
            os.kill(os.getpid(), signal.SIGKILL)
        return False


def make(top: Path, *paths: str) -> None:
    """Files below ``top``, with their own names as content; a folder where the path ends in a slash."""
    for path in paths:
        place = Path(os.fsdecode(os.fsencode(top))) / path
        if path.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(os.fsencode(path))


def tree(top: Path) -> set[str]:
    """Everything below ``top``, folders with a slash at their end."""
    found = set()
    for place, folders, files in os.walk(top):
        inner = os.path.relpath(place, top)
        prefix = "" if inner == "." else f"{inner}/"
        found |= {f"{prefix}{name}" for name in files}
        for name in folders:
            found.add(f"{prefix}{name}" + ("" if os.path.islink(f"{place}/{name}") else "/"))
    return found


def leave_out(top: Path, rules: list[Rule] | None = None, keep: tuple[str, ...] = (), **more: Any) -> LeftOut:
    """Delete in a folder what the rules match: ours if none are given."""
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        ctx = Context(cast("Any", None), more.get("person") or Nobody())
        return Remover(descriptor, Rules(OURS if rules is None else rules, keep), ctx).run()
    finally:
        os.close(descriptor)
