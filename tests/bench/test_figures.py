"""The arithmetic behind the table: a wrong ratio would be believed."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import StatisticsError

import pytest

from portunix_vdisk.tests.bench import bench, figures
from portunix_vdisk.tests.bench.figures import Line, Samples
from portunix_vdisk.tests.bench.stage import SLOW, Contestant


def samples(*wall: float, sync: float | None = None) -> Samples:
    made = Samples()
    for seconds in wall:
        made.add(seconds, None if sync is None else seconds + sync)
    return made


def test_the_median_counts_and_the_spread_is_told() -> None:
    assert samples(1.0, 9.0, 2.0).median == 2.0
    assert samples(1.0, 2.0).median == 1.5
    assert str(samples(1.0, 9.0, 2.0)) == "2.00 s (1.00 to 9.00)"
    assert str(samples(1.234)) == "1.23 s"
    assert str(Samples()) == ""
    with pytest.raises(StatisticsError):
        _ = Samples().median


def test_moved_data_counts_with_sync_and_both_are_told() -> None:
    one = samples(1.0, 2.0, 3.0, sync=0.5)
    assert one.median == 2.5
    assert str(one) == "2.50 s (1.50 to 3.50; 2.00 without sync)"


@pytest.mark.parametrize(("at_least", "verdict"), [(2.0, "reached"), (2.01, "**missed**"), (None, "")])
def test_faster(at_least: float | None, verdict: str) -> None:
    line = figures.faster("export", samples(1.5, sync=0.5), "`tar`", samples(3.0, sync=1.0), at_least=at_least)
    assert line.ratio == "2.00 times" and line.verdict == verdict
    assert line.beside == "4.00 s (3.00 without sync) `tar`"


def test_seconds() -> None:
    assert figures.seconds("mount", samples(0.5), under=0.5).verdict == "**missed**"
    assert figures.seconds("mount", samples(0.49), under=0.5).verdict == "reached"
    assert figures.seconds("mount", samples(9.0)).verdict == ""


def test_the_limit_is_compared_without_sync() -> None:
    line = figures.of_limit("export", samples(10.0, sync=50.0), "zstd", samples(8.5))
    assert (line.ratio, line.target, line.verdict) == ("85%", "at least 85%", "reached")
    assert figures.of_limit("export", samples(10.0), "zstd", samples(8.4)).verdict == "**missed**"


@pytest.mark.parametrize(
    ("size", "ours", "limit", "target", "verdict"),
    [
        (1_000_000_000, 1.0, 0.1, "at least 700 MB/s", "reached"),
        (1_000_000_000, 2.0, 0.1, "at least 700 MB/s", "**missed**"),
        (1_000_000_000, 2.0, 1.7, "at least 500 MB/s (85% of the limit)", "reached"),
        (1_000_000_000, 2.1, 1.7, "at least 500 MB/s (85% of the limit)", "**missed**"),
    ],
)
def test_a_rate_need_not_beat_the_disk(size: int, ours: float, limit: float, target: str, verdict: str) -> None:
    line = figures.rate("import", size, samples(ours, sync=0.0), samples(limit), at_least=700e6)
    assert (line.target, line.verdict) == (target, verdict)


@pytest.mark.parametrize(
    ("part", "whole", "at_most", "ratio", "target", "verdict"),
    [
        (15, 100, 0.15, "15 %", "at most 15 %", "reached"),
        (151, 1000, 0.15, "15.1 %", "at most 15 %", "**missed**"),
        (30, 10, 3, "3.0 times", "at most 3.0 times", "reached"),
        (31, 10, 3, "3.1 times", "at most 3.0 times", "**missed**"),
        (101, 100, 1, "101 %", "at most 100 %", "**missed**"),
        (1, 1000, 0.01, "0.1 %", "at most 1 %", "reached"),
    ],
)
def test_share(part: int, whole: int, at_most: float, ratio: str, target: str, verdict: str) -> None:
    line = figures.share("appended", part * 1e6, whole * 1e6, "the first", at_most=at_most)
    assert (line.ratio, line.target, line.verdict) == (ratio, target, verdict)


def test_time_share_and_memory() -> None:
    line = figures.time_share("resumed", samples(1.4), "whole", samples(10.0), under=0.15)
    assert (line.ratio, line.verdict) == ("14.0%", "reached")
    assert figures.memory("peak", 300_000_000, under=300_000_000).verdict == "**missed**"
    assert figures.memory("peak", 66_400_000, under=300_000_000).figure == "66 MB"


def test_table_and_summary_name_what_was_missed() -> None:
    lines = [Line("a", "1 s"), Line("b", "2 s", target="x", reached=True), Line("c", "3", "4 `cp`", reached=False)]
    text = figures.table(lines)
    assert text.splitlines()[2:] == [
        "| a | 1 s |  |  |  |  |",
        "| b | 2 s |  |  | x | reached |",
        "| c | 3 | 4 `cp` |  |  | **missed** |",
    ]
    assert len({line.count("|") for line in text.splitlines()}) == 1
    assert figures.summary(lines) == "1 of 2 targets reached.\nmissed: c beside 4 `cp`"


def test_what_is_slow_runs_once_unless_it_is_ours(tmp_path: Path) -> None:
    other = Contestant("zip", lambda: None, tmp_path)
    assert not other.done
    other.samples.add(1.0, SLOW)
    assert not other.done
    other.samples.synced[0] += 0.1
    assert other.done
    assert not Contestant("export", lambda: None, tmp_path, peak="export", samples=samples(99.0, sync=0.0)).done
    assert Contestant("restic", lambda: None, tmp_path, once=True, samples=samples(0.1, sync=0.0)).done


def test_only_the_table_in_readme_is_rewritten(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{bench.BEGIN}old\n{bench.END}after\n")
    bench.rewrite_readme("new", readme)
    bench.rewrite_readme("newer", readme)
    assert readme.read_text() == f"before\n{bench.BEGIN}newer\n{bench.END}after\n"
    for broken in ("no marks", f"{bench.END}{bench.BEGIN}", f"{bench.BEGIN}{bench.END}{bench.BEGIN}{bench.END}"):
        readme.write_text(broken)
        with pytest.raises(RuntimeError, match="no place"):
            bench.rewrite_readme("text", readme)
        assert readme.read_text() == broken


def test_our_readme_has_a_place_for_the_table(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    copy.write_bytes(bench.README.read_bytes())
    bench.rewrite_readme("the table", copy)
    assert "the table" in copy.read_text()


@pytest.mark.parametrize("words", [["--rows", "export,nothing"], ["--runs", "0"], ["--json", "/nowhere/at/all.json"]])
def test_senseless_options_are_refused_before_anything_is_built(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.chosen(words)
    assert ended.value.code == 2


def test_figures_can_be_written_as_json() -> None:
    lines = [figures.faster("export", samples(1.0, sync=0.1), "`tar`", samples(2.0, sync=0.2), at_least=1)]
    assert json.loads(json.dumps([line.values for line in lines]))[0]["other"] == {"wall": [2.0], "synced": [2.2]}
