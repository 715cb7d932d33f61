"""What a person at a terminal does with a disk: Ctrl-C, and a shell of their own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

import pytest
from machine import Machine
from tooled import Terminal, mount_point, own_place, terminals


@pytest.fixture(autouse=True)
def no_terminal_left() -> Iterator[None]:
    """One that a failed test left open is hung up."""
    yield
    for terminal in terminals.copy():
        os.close(terminal.terminal)
        os.waitpid(terminal.pid, 0)
        terminals.remove(terminal)


def test_ctrl_c_is_for_the_command_alone(prepared: Machine) -> None:
    count = "import signal, sys, time\nn = []\nsignal.signal(2, lambda *_: n.append(1))\nprint('ready', flush=True)\n"
    count += "t = time.time()\nwhile time.time() < t + (0.5 if n else 20): time.sleep(0.01)\nsys.exit(10 + len(n))\n"
    terminal = Terminal(prepared, "exec", "my-dev", "--", sys.executable, "-c", count)
    terminal.expect(b"ready")
    terminal.type(b"\x03")
    assert terminal.end() == 11, "once, and not again by us"
    assert b"interrupted" not in terminal.seen
    assert mount_point(prepared) is None


def test_ctrl_c_while_it_is_unmounted_changes_nothing(prepared: Machine) -> None:
    terminal = Terminal(prepared, "exec", "my-dev", "--", "sh", "-c", "trap 'exit 3' INT; echo ready; sleep 20")
    terminal.expect(b"ready")
    for _ in range(40):
        try:
            terminal.type(b"\x03")
        except OSError:
            break
        time.sleep(0.01)
    assert terminal.end() == 3
    assert mount_point(prepared) is None


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "dash"])
def test_a_shell_with_the_tools_of_the_disk(prepared: Machine, shell: str) -> None:
    person = prepared.folder / "person"
    person.mkdir()
    late = f"export PATH=/late:$PATH; export MINE={shell}\n"
    (person / ".bashrc").write_text(late)
    (person / ".zshrc").write_text(late)
    (person / "shrc").write_text(late)
    (person / ".config/fish").mkdir(parents=True)
    (person / ".config/fish/config.fish").write_text(late)
    # fish makes completions of all manual pages when there are none, and goes on with it when the shell has ended.
    (person / ".local/share/fish/generated_completions").mkdir(parents=True)
    variables = {"HOME": str(person), "SHELL": f"/usr/bin/{shell}"}
    if shell == "dash":
        variables["ENV"] = str(person / "shrc")
    terminal = Terminal(prepared, "shell", "my-dev", **variables)
    terminal.expect(b"my-dev is mounted at ")
    terminal.expect(b"(my-dev)")
    terminal.type(b'echo "<$MINE>" $PATH; hello typed\r')
    root = os.fsencode(own_place(prepared))
    terminal.expect(b"<" + shell.encode() + b"> " + root + b"/bin")
    terminal.expect(root + b"|" + root + b"|typed|")
    terminal.type(b"exit 7\r")
    assert terminal.end() == 7
    assert mount_point(prepared) is None, terminal.seen


def test_ctrl_c_in_a_shell_is_for_what_runs_in_it(prepared: Machine) -> None:
    terminal = Terminal(prepared, "shell", "my-dev", SHELL="/bin/bash", HOME=str(prepared.folder))
    terminal.expect(b"(my-dev)")
    terminal.type(b"hello wait\r")
    terminal.expect(b"waiting")
    terminal.type(b"\x03")
    terminal.expect(b"stopped")
    terminal.expect(b"(my-dev)")
    terminal.type(b"echo still $((40+2))\r")
    terminal.expect(b"still 42")
    terminal.type(b"exit 0\r")  # not Ctrl-D, which nobody gets that types it between two prompts
    assert terminal.end() == 0
    assert mount_point(prepared) is None
