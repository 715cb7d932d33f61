"""What the benchmark measured, and how it is written down: a Markdown table that README quotes."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median


@dataclass(slots=True)
class Samples:
    """Seconds of each run of one thing."""

    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.seconds:
            return ""
        spread = f" ({min(self.seconds):.2f} to {max(self.seconds):.2f})" if len(self.seconds) > 1 else ""
        return f"{self.median:.2f} s{spread}"

    @property
    def median(self) -> float:
        """The middle one; ``StatisticsError`` (a ``ValueError``) if there is none."""
        return median(self.seconds)


@dataclass(slots=True)
class Row:
    """One thing that was measured, what a person would use instead, and the target that it has.

    ``at_most`` is a target in seconds; ``times_as_fast`` one against the other way, from medians of the same run.
    """

    name: str
    beside: str = ""
    at_most: float | None = None
    times_as_fast: float | None = None
    ours: Samples = field(default_factory=Samples)
    other: Samples = field(default_factory=Samples)

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the other way."""
        return self.other.median / self.ours.median if self.ours.seconds and self.other.seconds else None

    def cells(self) -> tuple[str, ...]:
        """The row of the table; a target that was missed says so."""
        ratio = self.ratio
        other = f"{self.other} `{self.beside}`" if self.other.seconds else ""
        target, reached = "", ""
        if self.at_most is not None:
            target = f"under {self.at_most:g} s"
            reached = verdict(self.ours.median < self.at_most)
        elif self.times_as_fast is not None:
            target = f"{self.times_as_fast:g} times"
            reached = verdict(ratio is not None and ratio >= self.times_as_fast)
        return (self.name, str(self.ours), other, f"{ratio:.2f} times" if ratio is not None else "", target, reached)


def verdict(reached: bool) -> str:
    """Whether a target was reached, unmistakably."""
    return "yes" if reached else "**missed**"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table of these rows."""
    head = ("what", "portunix-vdisk", "instead", "as fast", "target", "reached")
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine(folder: Path) -> str:
    """The machine in one line: cores, memory, kernel, filesystem below ``folder``, versions that matter."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [
        f"{os.cpu_count()} cores",
        f"{memory:.0f} GiB",
        f"Linux {platform.release()}",
        f"{_first_word('findmnt', '-no', 'FSTYPE', '-T', str(folder))} on the host",
        f"Python {platform.python_version()}",
        f"zstd {_first_word('zstd', '-qV')}",
        f"QEMU {_qemu()}",
    ]
    return ", ".join(parts)


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def _first_word(*command: str) -> str:
    return next(iter(_said(*command).split()), "unknown")


def _qemu() -> str:
    words = _said("qemu-img", "--version").split()
    return words[2] if len(words) > 2 else "unknown"
