"""Options and guards of every test run.

Tests may run in several processes (``-n``). What they leave open is looked for in each of these; what they leave on the
machine, once, when all have ended.
"""

from __future__ import annotations

from typing import Any

import pytest

from portunix_vdisk.tests import leaks

_BEFORE = pytest.StashKey[leaks.Machine]()
_LEAKS = pytest.StashKey[list[str]]()
_LONG = "long; run it with --full"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the long tests, those marked with 'full'")


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_BEFORE] = leaks.look_at_this_process() if _is_worker(session) else leaks.look()
    session.config.stash[_LEAKS] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason=_LONG))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """One of several processes has ended."""
    node.config.stash[_LEAKS] += getattr(node, "workeroutput", {}).get("leaks", [])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    found, before = session.config.stash[_LEAKS], session.config.stash[_BEFORE]
    if _is_worker(session):
        session.config.workeroutput["leaks"] = before.changes(leaks.look_at_this_process())  # type: ignore[attr-defined]
        return
    found += leaks.settled(before)
    if found and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if left_out := sum(_LONG in str(report.longrepr) for report in skipped):
        terminalreporter.section("NOT RUN", yellow=True, bold=True)
        terminalreporter.line(f"{left_out} long tests were left out; run them with --full")
    if found := config.stash.get(_LEAKS, []):
        terminalreporter.section("THE RUN LEFT THE MACHINE CHANGED: it counts as failed", red=True, bold=True)
        for line in found:
            terminalreporter.line(line)


def _is_worker(session: pytest.Session) -> bool:
    return hasattr(session.config, "workerinput")
