"""What a person at a terminal sees; the terminal is a pseudo terminal, the commands are real."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from portunix_vdisk.plugin.display import Display
from portunix_vdisk.tests.plugin.harness import Portunix, wait_for


class Person:
    """Sits before a terminal in which a command runs."""

    def __init__(self, portunix: Portunix, *arguments: str) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:  # pragma: no cover - the child
            os.execve(sys.executable, [sys.executable, portunix.script, "portunix", *arguments], portunix.environment)
        self.seen = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self.terminal, 4096):
                self.seen += data.decode(errors="replace")

    def sees(self, text: str, seconds: float = 15.0) -> None:
        wait_for(lambda: text in self.seen, seconds)

    def types(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def leaves(self, seconds: float = 15.0) -> int:
        """Wait for the end of the command; its exit code."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                time.sleep(0.1)
                os.close(self.terminal)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        pytest.fail(f"it did not end: {self.seen!r}")


@pytest.fixture(autouse=True)
def warm(portunix: Portunix) -> None:
    portunix.environment["TERM"] = "xterm"
    portunix.run("vdisk", "list")


def sync(portunix: Portunix, what: str, *more: str) -> Person:
    return Person(portunix, "vdisk", "sync", "--source", what, "--target", "t", *more)


def test_a_bar_with_the_title_of_the_task(portunix: Portunix, tmp_path: Path) -> None:
    person = sync(portunix, f"wait {tmp_path / 'mark'}")
    person.sees("copy files")
    person.sees("files/s")
    person.types("\x03")
    assert person.leaves() == 130
    assert "KeyboardInterrupt" not in person.seen


def test_ctrl_c_reaches_the_worker_but_kills_nothing(portunix: Portunix, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    server = portunix.server_pid()
    person = sync(portunix, f"wait {mark}")
    wait_for(mark.exists)
    started = time.monotonic()
    person.types("\x03")
    person.sees("stopping at a safe point")
    assert person.leaves() == 130
    assert time.monotonic() - started < 1.2
    assert "run the same command to continue" in person.seen
    assert mark.with_name("mark.stopped").exists()
    assert portunix.server_pid() == server


def test_confirmations(portunix: Portunix) -> None:
    for typed, understood in (("y\n", "yes"), ("\n", "no"), ("maybe\nn\n", "no"), ("\x04", "no")):
        person = sync(portunix, "ask confirm")
        person.sees("really? [y/N]")
        person.types(typed)
        assert person.leaves() == 0
        assert f"would copy {understood}" in person.seen


def test_choices_are_asked_until_one_is_made(portunix: Portunix) -> None:
    person = sync(portunix, "ask choice")
    person.sees("really? (red, blue)")
    person.types("green\n")
    wait_for(lambda: person.seen.count("really?") == 2)
    person.types("blue\n")
    assert person.leaves() == 0
    assert "would copy blue" in person.seen


def test_secrets_are_not_shown(portunix: Portunix) -> None:
    person = sync(portunix, "ask secret", "--json")
    person.sees("really?:")
    time.sleep(0.1)  # until the echo is off
    person.types("pa ss\n")
    assert person.leaves() == 0
    assert person.seen.count("pa ss") == 1, "once, in the result that this stand-in gives back"


def test_ctrl_c_at_a_question(portunix: Portunix) -> None:
    for kind in ("confirm", "secret"):
        person = sync(portunix, f"ask {kind}")
        person.sees("really?")
        time.sleep(0.1)
        person.types("\x03")
        assert person.leaves() == 130
        assert "Traceback" not in person.seen


def test_quiet_asks_nothing_even_at_a_terminal(portunix: Portunix) -> None:
    person = sync(portunix, "ask confirm", "--quiet")
    assert person.leaves() == 4


def test_colour_only_where_it_is_wanted(portunix: Portunix) -> None:
    person = sync(portunix, "refuse")
    assert person.leaves() == 4
    assert "\033[31;1merror:\033[0m it is mounted" in person.seen
    portunix.environment["NO_COLOR"] = "1"
    person = sync(portunix, "refuse")
    assert person.leaves() == 4
    assert "\033[31" not in person.seen


def test_remarks_do_not_get_into_the_bar(portunix: Portunix) -> None:
    person = sync(portunix, "events")
    assert person.leaves() == 0
    lines = re.split(r"[\r\n]+", person.seen)
    assert any(line.replace("\033[K", "").strip() == "warning: bytes \\xff are not UTF-8" for line in lines), lines


def test_the_c_locale_gets_escapes(portunix: Portunix) -> None:
    portunix.environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = portunix.run("vdisk", "sync", "--source", "echo", "--target", "ä", "--json")
    assert done.returncode == 0
    done = portunix.run("vdisk", "nonsense-ä")
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_plain_lines_now_and_then_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    display = Display(stream=stream)
    display.started("t", "copy files")
    for second in range(12):
        now[0] = 1000.0 + second
        display.progress("t", second * 10**9, 12 * 10**9, "B")
    assert stream.getvalue().splitlines() == [
        "copy files: 41 %, 5.0 GB of 12.0 GB",
        "copy files: 83 %, 10.0 GB of 12.0 GB",
    ]


def test_quiet_shows_warnings_only() -> None:
    stream = io.StringIO()
    display = Display(quiet=True, stream=stream)
    display.log("info", "fine")
    display.log("warning", "hm")
    assert stream.getvalue() == "warning: hm\n"


def test_a_terminal_that_went_away_stops_nothing() -> None:
    stream = io.StringIO()
    stream.close()
    display = Display(stream=stream)
    display.log("info", "x")
    display.progress("t", 1, 2, "B")
    display.close()
