from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from portunix_vdisk.platform import choose
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import ExitCode, Missing, ToolFailed
from portunix_vdisk.platform.linux.processes import end, identify, start_time
from portunix_vdisk.platform.packages import PACKAGES


def test_output_input_and_language() -> None:
    commands = Commands()
    assert commands.run("cat", input=b"a\0\xff").stdout == b"a\0\xff"
    assert commands.run("cat").stdout == b""
    environment = commands.run("env").stdout.decode(errors="replace")
    assert "LC_ALL=C\n" in environment
    assert "LC_ALL" not in os.environ or os.environ["LC_ALL"] != "C"


def test_arguments_are_no_shell_text() -> None:
    words = ["$HOME; echo *", "a\nb", os.fsdecode(b"\xff\xfe"), "", "-n"]
    output = Commands().run("printf", "%s|", *words).stdout
    assert output == b"".join(os.fsencode(word) + b"|" for word in words)


def test_a_failure_has_command_status_and_last_words() -> None:
    with pytest.raises(ToolFailed) as caught:
        Commands().run("sh", "-c", "echo first >&2; echo last words >&2; exit 7")
    assert caught.value.status == 7
    assert "last words" in str(caught.value)
    assert "sh -c" in caught.value.hint
    assert Commands().run("sh", "-c", "exit 7", accept=(0, 7)).status == 7
    with pytest.raises(ToolFailed) as caught:
        Commands().run("sh", "-c", "kill -9 $$")
    assert caught.value.status == -9


def test_a_missing_program_names_its_package(tmp_path: Path) -> None:
    commands = Commands([str(tmp_path)])
    for program, (package, *_) in PACKAGES.items():
        with pytest.raises(Missing) as caught:
            commands.run(program)
        assert caught.value.code is ExitCode.MISSING
        assert f"apt-get install -y {package}" in caught.value.hint


def test_programs_of_administration_are_found_without_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Commands().find("mke2fs") in ("/usr/sbin/mke2fs", "/sbin/mke2fs")
    assert Commands().find("no-such-program") is None


def test_children_inherit_held_descriptors_and_daemons_do_not(tmp_path: Path) -> None:
    commands = Commands()
    held = os.open(tmp_path / "held", os.O_RDWR | os.O_CREAT)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    script = f"ls -l /proc/self/fd > {tmp_path}/seen"
    try:
        with commands.hold(held):
            commands.run("sh", "-c", script)
            assert str(tmp_path / "held") in (tmp_path / "seen").read_text()
            commands.launch("sh", "-c", script, pass_fds=[other])
            assert str(tmp_path / "held") not in (tmp_path / "seen").read_text()
            assert str(tmp_path / "other") in (tmp_path / "seen").read_text()
        commands.run("sh", "-c", script)
        assert str(tmp_path / "held") not in (tmp_path / "seen").read_text()
    finally:
        os.close(held)
        os.close(other)


def test_ctrl_c_leaves_no_child(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    # A background job of a shell without job control is started with SIGINT ignored.
    script = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from portunix_vdisk.platform.commands import Commands
Commands().run("sh", "-c", "echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 60")
"""
    child = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL, start_new_session=True)
    while not pid_file.exists():
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGINT)
    assert child.wait(5) != 0
    assert start_time(int(pid_file.read_text())) is None


def test_ctrl_c_while_the_child_is_started_leaves_none_either(tmp_path: Path) -> None:
    script = f"""
import os, signal, subprocess
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
from portunix_vdisk.platform.commands import Commands
start = subprocess.Popen._execute_child
def interrupted(self, *given):
    start(self, *given)
    if "60" in given[0]:  # plumbum starts something, too
        Path({str(tmp_path / "pid")!r}).write_text(str(self.pid))
        os.kill(os.getpid(), signal.SIGINT)
subprocess.Popen._execute_child = interrupted
try:
    Commands().run("sleep", "60")
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    raise SystemExit(7)
"""
    child = subprocess.run([sys.executable, "-c", script], check=False, timeout=20)
    assert child.returncode == 7
    assert start_time(int((tmp_path / "pid").read_text())) is None


def test_a_process_that_forgets_the_first_signal_is_asked_again(tmp_path: Path) -> None:
    script = f"trap 'trap - TERM' TERM; : > {tmp_path}/ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(["sh", "-c", script])
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    found = identify(process.pid)
    assert found is not None
    assert end(found, 5)
    process.wait()
    assert not found.alive()
    assert end(found, 0)


def test_several_threads_at_once() -> None:
    commands = Commands()
    seen: list[bytes] = []
    threads = [
        threading.Thread(target=lambda n=n: seen.append(commands.run("printf", "%s", str(n)).stdout)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [str(n).encode() for n in range(8)]


def test_other_systems_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose.sys, "platform", "plan9")  # type: ignore[attr-defined]
    with pytest.raises(Missing, match="plan9"):
        choose.this_platform()


def test_lines_are_heard_as_they_come_and_a_listener_who_raises_ends_the_command() -> None:
    heard: list[bytes] = []
    script = "read word; echo first $word; echo second; echo trouble >&2; exit 3"
    output = Commands().run("sh", "-c", script, input=b"x\n", accept=(3,), told=heard.append)
    assert heard == [b"first x\n", b"second\n"]
    assert (output.stdout, output.stderr) == (b"first x\nsecond\n", b"trouble\n")

    def raises(line: bytes) -> None:
        raise KeyError(line)

    began = time.monotonic()
    with pytest.raises(KeyError):
        Commands().run("sh", "-c", "echo one; exec sleep 60", told=raises)
    assert time.monotonic() - began < 30
