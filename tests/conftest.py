"""Options and guards of every test run."""

from __future__ import annotations

import pytest

from portunix_vdisk.tests import leaks

_BEFORE = pytest.StashKey[leaks.Machine]()
_LEAKS = pytest.StashKey[list[str]]()
_LEFT_OUT = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the long tests, those marked with 'full'")


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_BEFORE] = leaks.look()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    long = [item for item in items if item.get_closest_marker("full")]
    if config.getoption("--full"):
        return
    for item in long:
        item.add_marker(pytest.mark.skip(reason="long; run it with --full"))
    config.stash[_LEFT_OUT] = len(long)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    found = leaks.settled(session.config.stash[_BEFORE])
    session.config.stash[_LEAKS] = found
    if found and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left_out := config.stash.get(_LEFT_OUT, 0):
        terminalreporter.section("NOT RUN", yellow=True, bold=True)
        terminalreporter.line(f"{left_out} long tests were left out; run them with --full")
    if found := config.stash.get(_LEAKS, []):
        terminalreporter.section("THE RUN LEFT THE MACHINE CHANGED: it counts as failed", red=True, bold=True)
        for line in found:
            terminalreporter.line(line)
