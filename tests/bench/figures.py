"""What the benchmark measured: samples, medians, ratios, and whether a target was reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median


@dataclass(slots=True)
class Samples:
    """Seconds of each run of one thing, until its command ended and until all of it was on the disk."""

    wall: list[float] = field(default_factory=list)
    synced: list[float] = field(default_factory=list)
    """Empty where nothing is moved."""

    def add(self, wall: float, synced: float | None = None) -> None:
        """Note one run."""
        self.wall.append(wall)
        if synced is not None:
            self.synced.append(synced)

    @property
    def median(self) -> float:
        """What counts: the middle of the runs, with ``sync`` where data was moved. ``StatisticsError`` without runs."""
        return median(self.synced or self.wall)

    def __str__(self) -> str:
        counted = self.synced or self.wall
        if not counted:
            return ""
        notes = []
        if len(counted) > 1:
            notes.append(f"{min(counted):.2f} to {max(counted):.2f}")
        if self.synced:
            notes.append(f"{median(self.wall):.2f} without sync")
        return f"{self.median:.2f} s" + (f" ({'; '.join(notes)})" if notes else "")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table; ``values`` has the same in numbers, for programs."""

    what: str
    figure: str
    beside: str = ""
    ratio: str = ""
    target: str = ""
    reached: bool | None = None
    """None where there is no target."""
    values: Mapping[str, object] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Whether the target was reached, unmistakably."""
        return {None: "", True: "reached", False: "**missed**"}[self.reached]


def seconds(what: str, ours: Samples, *, under: float | None = None) -> Line:
    """How long it takes, and the seconds that it must stay under."""
    target, reached = ("", None) if under is None else (f"under {under:g} s", ours.median < under)
    return Line(what, str(ours), target=target, reached=reached, values={"ours": _raw(ours), "under": under})


def faster(what: str, ours: Samples, name: str, other: Samples, *, at_least: float | None = None) -> Line:
    """Beside another way, and how many times as fast it must be at least."""
    ratio = other.median / ours.median
    target, reached = ("", None) if at_least is None else (f"{at_least:g} times", ratio >= at_least)
    values = {"ours": _raw(ours), "beside": name, "other": _raw(other), "times": ratio, "at_least": at_least}
    return Line(what, str(ours), f"{other} {name}", f"{ratio:.2f} times", target, reached, values)


def of_limit(what: str, ours: Samples, name: str, limit: Samples, *, at_least: float = 0.85) -> Line:
    """Beside what is possible at best: the part of the limit's speed that is reached, without sync on either side."""
    part = median(limit.wall) / median(ours.wall)
    values = {"ours": _raw(ours), "beside": name, "other": _raw(limit), "part": part, "at_least": at_least}
    beside = f"{median(limit.wall):.2f} s {name}"
    figure = f"{median(ours.wall):.2f} s"
    return Line(what, figure, beside, f"{part:.0%}", f"at least {at_least:.0%}", part >= at_least, values)


def rate(what: str, size: int, ours: Samples, limit: Samples, *, at_least: float, of_limit: float = 0.85) -> Line:
    """Bytes a second, that must be ``at_least`` or ``of_limit`` of what the disk can take, whichever is lower."""
    reached, possible = size / ours.median, size / limit.median
    wanted = min(at_least, of_limit * possible)
    target = f"at least {_mb(wanted)}/s" + (f" ({of_limit:.0%} of the limit)" if wanted < at_least else "")
    values = {"ours": reached, "other": possible, "at_least": wanted}
    beside = f"{_mb(possible)}/s, the same bytes just written"
    return Line(what, f"{_mb(reached)}/s", beside, f"{reached / possible:.0%}", target, reached >= wanted, values)


def share(what: str, part: float, whole: float, name: str, *, at_most: float) -> Line:
    """Bytes beside other bytes, and the part of them that they may be at most: 0.15, or 3 for three times as many."""
    ratio = part / whole
    values = {"ours": part, "beside": name, "other": whole, "share": ratio, "at_most": at_most}
    target = f"at most {_share(at_most)}"
    return Line(what, _mb(part), f"{_mb(whole)} {name}", _share(ratio), target, ratio <= at_most, values)


def time_share(what: str, ours: Samples, name: str, whole: Samples, *, under: float) -> Line:
    """A time as a part of another one."""
    part = ours.median / whole.median
    values = {"ours": _raw(ours), "beside": name, "other": _raw(whole), "share": part, "under": under}
    return Line(what, str(ours), f"{whole} {name}", f"{part:.1%}", f"under {under:.0%}", part < under, values)


def memory(what: str, peak: int, *, under: int) -> Line:
    """Peak memory in bytes."""
    return Line(what, _mb(peak), target=f"under {_mb(under)}", reached=peak < under, values={"ours": peak})


def table(lines: list[Line]) -> str:
    """A Markdown table."""
    rows = [("what", "portunix-vdisk", "beside", "ratio", "target", "")]
    rows.append(tuple("---" for _ in rows[0]))
    rows += [(line.what, line.figure, line.beside, line.ratio, line.target, line.verdict) for line in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def summary(lines: list[Line]) -> str:
    """How many targets there are, how many were reached, and which were not."""
    missed = [line.what + (f" beside {line.beside}" if line.beside else "") for line in lines if line.reached is False]
    judged = sum(line.reached is not None for line in lines)
    text = f"{judged - len(missed)} of {judged} targets reached."
    return text + "".join(f"\nmissed: {one}" for one in missed)


def _raw(samples: Samples) -> dict[str, list[float]]:
    return {"wall": samples.wall, "synced": samples.synced}


def _mb(size: float) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 10e6 else f"{size / 1e6:.2f} MB"


def _share(part: float) -> str:
    return f"{part:.1f} times" if part >= 2 else f"{100 * part:.3g} %"
