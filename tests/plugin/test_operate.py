"""Operations through a real server and real worker processes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import grpc
import pytest

from portunix_vdisk.plugin.core import Connection
from portunix_vdisk.plugin.rpc import vdisk_pb2 as rpc
from portunix_vdisk.tests.plugin.harness import Portunix, processes_of, told, wait_for


@pytest.fixture
def connection(portunix: Portunix) -> Connection:
    """A server that was started by the command line, and a channel of our own to it."""
    assert portunix.run("vdisk", "list").returncode == 0
    return Connection(portunix.socket)


def log_of(portunix: Portunix) -> str:
    log = portunix.home.logs / "vdisk-plugin.log"
    return log.read_text() if log.exists() else ""


def request(what: str, **more: bool) -> rpc.ClientMessage:
    options = {"source": what.encode(), "target": b"/t"}
    return rpc.ClientMessage(request=rpc.Request(operation="sync", options=options, folder=b"/", **more))


def call(connection: Connection, *messages: rpc.ClientMessage) -> list[rpc.ServerMessage]:
    return list(connection.stub.Operate(iter(messages), timeout=30))


def test_events_arrive_in_order_and_nothing_else_does(connection: Connection) -> None:
    with connection:
        started = time.monotonic()
        messages = call(connection, request("events"))
        seconds = time.monotonic() - started
    kinds = [message.WhichOneof("kind") for message in messages]
    assert kinds[:3] == ["accepted", "task_skipped", "task_started"]
    assert kinds[-3:] == ["log", "task_finished", "result"]
    progress = [message.progress for message in messages if message.HasField("progress")]
    assert 1 <= len(progress) <= 3 + 21 * seconds, "20 a second"
    assert (progress[-1].done, progress[-1].total, progress[-1].unit) == (100_000, 100_000, "B")
    assert messages[-3].log.text == "bytes \\xff are not UTF-8"
    result = messages[-1].result
    assert (result.exit_code, result.tasks_run, result.tasks_up_to_date) == (0, 1, 1)
    assert json.loads(result.json)["skipped"] == ["na\\xffme"]


def test_quiet_means_no_progress(connection: Connection) -> None:
    with connection:
        messages = call(connection, request("events", quiet=True))
    assert not any(message.HasField("progress") for message in messages)
    assert any(message.HasField("log") for message in messages), "a warning is still shown"


@pytest.mark.parametrize(("kind", "sent", "understood"), [("secret", " pass ", " pass "), ("confirm", "Y", "yes")])
def test_a_question_is_answered(connection: Connection, kind: str, sent: str, understood: str) -> None:
    import queue

    outbox: queue.SimpleQueue[rpc.ClientMessage | None] = queue.SimpleQueue()
    outbox.put(request(f"ask {kind}", interactive=True))
    with connection:
        for message in connection.stub.Operate(iter(outbox.get, None), timeout=30):
            if message.HasField("question"):
                assert message.question.option == "--force"
                outbox.put(rpc.ClientMessage(answer=rpc.Answer(question_id="another", text="wrong")))
                outbox.put(rpc.ClientMessage(answer=rpc.Answer(question_id=message.question.id, text=sent)))
            if message.HasField("result"):
                assert told(message.result.json) == [understood]
        outbox.put(None)


def test_a_question_that_waits_ends_with_the_stream(connection: Connection, portunix: Portunix) -> None:
    with connection:
        import queue

        outbox: queue.SimpleQueue[rpc.ClientMessage | None] = queue.SimpleQueue()
        outbox.put(request("ask secret", interactive=True))
        stream = connection.stub.Operate(iter(outbox.get, None), timeout=30)
        for message in stream:
            if message.HasField("question"):
                break
        stream.cancel()
        outbox.put(None)
        status = Connection(portunix.socket)
        with status:
            wait_for(lambda: not status.status().running, 2)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (rpc.ClientMessage(request=rpc.Request(operation="nonsense", folder=b"/")), "no operation"),
        (rpc.ClientMessage(request=rpc.Request(operation="list", folder=b"relative")), "absolute"),
        (rpc.ClientMessage(request=rpc.Request(operation="list", folder=b"/", options={"x": b""})), "no parameter"),
        (request("a\0b"), "zero byte"),
    ],
)
def test_requests_are_checked(connection: Connection, message: rpc.ClientMessage, words: str) -> None:
    with connection:
        (answer,) = call(connection, message)
    assert answer.result.exit_code == 2
    assert words in answer.result.error.what


def test_a_stream_must_begin_with_a_request(connection: Connection) -> None:
    with connection, pytest.raises(grpc.RpcError) as caught:
        call(connection, rpc.ClientMessage(cancel=rpc.Cancel()))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_without_a_terminal_questions_are_refused_at_once(portunix: Portunix) -> None:
    done = portunix.sync("ask confirm")
    assert done.returncode == 4
    assert "really?" in done.stderr and "--force" in done.stderr


def test_yes_confirms_but_tells_no_secret(portunix: Portunix) -> None:
    done = portunix.sync("ask confirm", "--yes", "--json")
    assert told(done.stdout) == ["yes"]
    assert portunix.sync("ask secret", "--yes").returncode == 4


def test_errors_have_three_lines_and_their_exit_code(portunix: Portunix) -> None:
    done = portunix.sync("refuse")
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr == "error: it is mounted\n  nothing was done\n  portunix vdisk unmount my-dev\n"


def test_an_unexpected_error_is_one_line_and_its_story_is_in_the_log(portunix: Portunix) -> None:
    done = portunix.sync("crash")
    log = portunix.home.logs / "vdisk-worker.log"
    assert done.returncode == 1
    assert "sync failed unexpectedly: ValueError: boom" in done.stderr
    assert f"details: {log}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in log.read_text()
    assert "Traceback" in portunix.sync("crash", "--debug").stderr
    assert "SystemExit" in portunix.sync("exit").stderr


def test_any_bytes_travel_in_options_and_folders(portunix: Portunix, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/f\xff"
    os.mkdir(folder)
    done = portunix.run(b"vdisk", b"sync", b"--source", b"echo", b"--target", b"\xfe-\xc3\xa4", b"--json", cwd=folder)
    result = json.loads(done.stdout)["result"]
    assert result["source"] == "\\xfe-ä"
    assert result["target"].endswith("/f\\xff")


def test_the_environment_reaches_the_worker_without_secrets(portunix: Portunix) -> None:
    portunix.environment |= {"MY_API_KEY": "x", "GITHUB_TOKEN": "x", "db_password": "x", "KEYBOARD": "kept"}
    texts = told(portunix.sync("environment", "--json").stdout)
    names = {text.split("=")[0] for text in texts}
    assert not names & {"MY_API_KEY", "GITHUB_TOKEN", "db_password"}
    assert "KEYBOARD=kept" in texts


def test_plugin_and_worker_are_one_session_and_hold_no_folder(portunix: Portunix) -> None:
    _, _, session, group, folder = told(portunix.sync("identity", "--json").stdout)
    pid = portunix.server_pid()
    assert int(session) == int(group) == pid == os.getsid(pid) == os.getpgid(pid)
    assert folder == "/"


def test_a_worker_that_is_killed_is_told_about(portunix: Portunix) -> None:
    done = portunix.sync("die")
    assert done.returncode == 1
    assert "the worker process ended with signal 9" in done.stderr
    assert "run the same command to continue" in done.stderr
    assert portunix.run("vdisk", "list").returncode == 0


def test_a_standby_worker_that_was_killed_is_replaced(portunix: Portunix) -> None:
    portunix.run("vdisk", "list")
    for pid in processes_of(portunix.home.root):
        if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    assert portunix.run("vdisk", "list").returncode == 0


def test_a_client_that_is_killed_stops_the_worker(portunix: Portunix, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    client = portunix.start("vdisk", "sync", "--source", f"wait {mark}", "--target", "t")
    wait_for(mark.exists)
    client.kill()
    client.communicate()
    wait_for(lambda: mark.with_name("mark.stopped").exists(), 1.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_at_a_safe_point_within_a_second(
    portunix: Portunix, tmp_path: Path, number: signal.Signals
) -> None:
    mark = tmp_path / "mark"
    client = portunix.start("vdisk", "sync", "--source", f"wait {mark}", "--target", "t")
    wait_for(mark.exists)
    started = time.monotonic()
    client.send_signal(number)
    _, err = client.communicate(timeout=10)
    assert time.monotonic() - started < 1.0
    assert client.returncode == 130
    assert b"stopping at a safe point" in err and b"run the same command to continue" in err
    assert mark.with_name("mark.stopped").exists()


def test_a_second_interrupt_does_not_wait(portunix: Portunix) -> None:
    client = portunix.start("vdisk", "sync", "--source", "sleep 1.5", "--target", "t")
    wait_for(lambda: "sync begins" in log_of(portunix))
    client.send_signal(signal.SIGINT)
    time.sleep(0.2)
    client.send_signal(signal.SIGINT)
    started = time.monotonic()
    client.communicate(timeout=10)
    assert time.monotonic() - started < 0.8
    assert client.returncode == 130


def test_two_operations_at_once(portunix: Portunix, tmp_path: Path) -> None:
    marks = [tmp_path / "one", tmp_path / "two"]
    clients = [portunix.start("vdisk", "sync", "--source", f"wait {mark}", "--target", "t") for mark in marks]
    for mark in marks:
        wait_for(mark.exists)
    assert marks[0].read_text() != marks[1].read_text()
    clients[0].send_signal(signal.SIGINT)
    clients[0].communicate(timeout=10)
    assert not marks[1].with_name("two.stopped").exists(), "the other one goes on"
    clients[1].send_signal(signal.SIGINT)
    clients[1].communicate(timeout=10)


def test_a_client_that_sleeps_does_not_hold_up_the_work(portunix: Portunix) -> None:
    # Nobody reads its error output, so that it is soon stuck in the middle.
    client = portunix.start("vdisk", "sync", "--source", "log 30000", "--target", "t")
    wait_for(lambda: "ends with exit code 0" in log_of(portunix), 20)
    assert client.poll() is None, "it was not stuck"
    _, err = client.communicate(timeout=30)
    assert client.returncode == 0
    assert err.count(b"\n") >= 30000, "nothing was lost"


def test_nobody_reads_the_output(portunix: Portunix) -> None:
    source, target = os.pipe()
    os.close(source)
    try:
        done = portunix.run("vdisk", "list", stdout=target)
    finally:
        os.close(target)
    assert done.stderr == ""


def test_a_hundred_operations_leave_nothing(portunix: Portunix) -> None:
    portunix.run("vdisk", "list")
    pid = portunix.server_pid()

    def state() -> tuple[int, int]:
        return len(list(Path(f"/proc/{pid}/fd").iterdir())), len(processes_of(portunix.home.root))

    with Connection(portunix.socket) as connection:
        for _ in range(3):
            call(connection, request("events"))
        before = state()
        for _ in range(100):
            assert call(connection, request("echo"))[-1].result.exit_code == 0
        wait_for(lambda: all(now <= then for now, then in zip(state(), before, strict=True)), 5)
