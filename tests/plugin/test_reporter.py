"""doit's reporter in plain doit runs, with doit itself."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from doit.exceptions import TaskFailed

from portunix_vdisk.plugin import terminal
from portunix_vdisk.plugin.terminal import DoitReporter, TerminalListener
from portunix_vdisk.steps.step import Question, QuestionKind


def run(folder: Path, *actions: Any) -> tuple[int, str]:
    def task_it() -> Any:
        for number, action in enumerate(actions):
            yield {"name": f"n{number}", "actions": [action], "io": {"capture": False}, "verbosity": 2}

    config = {"reporter": DoitReporter, "backend": "json", "dep_file": str(folder / "journal")}
    loader = ModuleTaskLoader({"task_it": task_it, "DOIT_CONFIG": config})
    output = folder / "output"
    status = DoitMain(loader, config_filenames=()).run(["run", "--output-file", str(output)])
    return status, output.read_text()


def test_tasks_are_shown(tmp_path: Path) -> None:
    status, text = run(tmp_path, lambda: None)
    assert status == 0
    assert ".  it:n0" in text


def test_our_failures_are_told_once_and_without_a_traceback(tmp_path: Path) -> None:
    status, text = run(tmp_path, lambda: TaskFailed("no room\nnothing was written\nfree some space"))
    assert status == 1
    assert text.count("no room") == 1
    assert "!! it:n0 failed: no room\n   nothing was written\n   free some space\n" in text
    assert "Traceback" not in text and "####" not in text


def test_other_failures_show_where_they_come_from(tmp_path: Path) -> None:
    def broken() -> None:
        raise ValueError("boom")

    status, text = run(tmp_path, broken)
    assert status != 0
    assert "ValueError: boom" in text and "Traceback" in text


def test_names_that_are_no_text_do_not_end_the_run() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    reporter = DoitReporter(stream, {})
    reporter.write("ä \udcff\n")
    assert stream.buffer.getvalue() == b"\\xe4 \\xff\n"  # type: ignore[attr-defined]


def test_output_that_nobody_reads_does_not_end_the_run() -> None:
    stream = io.StringIO()
    stream.close()
    DoitReporter(stream, {}).write("x\n")


def test_it_becomes_the_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    from portunix_vdisk.tasks import listening

    heard: list[Any] = []
    monkeypatch.setattr(listening, "set_listener", heard.append)
    DoitReporter(io.StringIO(), {}).initialize({}, [])
    assert isinstance(heard[0], TerminalListener)


def test_questions_need_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from portunix_vdisk.platform.errors import Interrupted, Refused

    listener = TerminalListener(terminal.Display(stream=io.StringIO()))
    question = Question("q", QuestionKind.CONFIRM, "really?", "--yes")
    monkeypatch.setattr(terminal, "can_ask", lambda: False)
    with pytest.raises(Refused, match="really"):
        listener.ask(question)

    def interrupted(question: Question) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(terminal, "can_ask", lambda: True)
    monkeypatch.setattr(terminal, "ask_person", interrupted)
    assert not listener.cancelled()
    with pytest.raises(Interrupted):
        listener.ask(question)
    assert listener.cancelled()
