"""The person that steps talk with in tests: says nothing, and perhaps ends it all."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field

from portunix_vdisk.steps.step import Question


@dataclass
class Silent:
    """Nobody; ends the process, or wants to stop, after so many safe points or bytes."""

    patience: int = -1
    kill: bool = True
    asked: int = 0
    deadly_bytes: int = -1
    lines: list[str] = field(default_factory=list)

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        assert 0 <= done <= total
        if 0 <= self.deadly_bytes < done:
            os.kill(os.getpid(), signal.SIGKILL)

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
