"""How the verbs that need root get it: we are root, or may become it again, or ask sudo."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from portunix_vdisk.platform import errors
from portunix_vdisk.platform.base import Attachment, Snapshot
from portunix_vdisk.platform.commands import Commands, Output, display
from portunix_vdisk.platform.errors import NoRoot, Refused
from portunix_vdisk.platform.home import calling_owner
from portunix_vdisk.platform.reports import error_in

Ask = Callable[[str], str]
"""Prompt to password; raises ``Refused`` where nobody can be asked."""

_SUDO_VARIABLES = ("SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND")
_ATTEMPTS = 3
_NOT_ALLOWED = (b" is not in the sudoers file", b" may not run sudo", b" is not allowed to ")
_WRONG_PASSWORD = (b"incorrect password", b"try again", b"no password was provided")
_ANY_STATUS = range(-64, 256)


def attach_command() -> list[str]:
    """The attach program as a command line: the installed script, or Python with its module."""
    script = Path(sys.executable).parent / "portunix-vdisk-attach"
    if script.exists():
        return [str(script)]
    return [sys.executable, "-I", "-m", "portunix_vdisk.platform.linux.attach_program"]


class Privilege:
    """Runs commands as root, above all the attach program.

    Args:
        commands: how commands are run.
        ask: asks the person for sudo's password; None where nobody can be asked.
    """

    def __init__(self, commands: Commands, ask: Ask | None) -> None:
        self._commands = commands
        self._ask = ask
        self._password: str | None = None

    def attach_program(
        self, verb: str, *options: str, secret: bytes = b"", told: Callable[[bytes], None] | None = None
    ) -> dict[str, object]:
        """Run one verb as root, which reads ``secret`` from its input, and return its result, the last line it prints.

        Raises what the verb raises, and what :meth:`run` raises.
        """
        owner = calling_owner()
        command = [*attach_command(), verb, *options, f"--owner={owner.uid}:{owner.gid}"]
        return self._result(command, self.run(command, "attaching and mounting need root", secret, told))

    def run(
        self, command: list[str], purpose: str, input: bytes = b"", told: Callable[[bytes], None] | None = None
    ) -> Output:
        """Run a command as root to its end, whatever its exit status; ``input`` is what it reads, ``told`` hears it.

        Raises ``NoRoot`` where root's rights cannot be had, with the command to run as hint.
        """
        if os.getuid() == 0:
            # Called with sudo as a whole, working as the caller meanwhile: the real user is still root. Without
            # sudo's variables the attach program knows that it is not asked to guard root against us.
            without = [f"--unset={name}" for name in _SUDO_VARIABLES]
            return self._commands.run(
                "env", *without, *command, accept=_ANY_STATUS, user=0, input=input or None, told=told
            )
        if self._commands.find("sudo") is None:
            raise _impossible(command, purpose, "sudo is not installed")
        output = self._commands.run("sudo", "-n", "--", *command, accept=_ANY_STATUS, input=input or None, told=told)
        if not _sudo_failed(output):
            return output
        if b"password is required" not in output.stderr:
            raise _impossible(command, purpose, display(output.stderr).strip())
        return self._with_password(command, purpose, input, told)

    def _with_password(
        self, command: list[str], purpose: str, input: bytes, told: Callable[[bytes], None] | None
    ) -> Output:
        for _ in range(_ATTEMPTS):
            if self._password is None:
                self._password = self._asked(command, purpose)
            # -k: never a cached right, so that the line we send is always read by sudo and by nobody else.
            words = ("-S", "-k", "-p", "", "--", *command)
            lines = f"{self._password}\n".encode() + input  # sudo reads its line and not a byte more
            output = self._commands.run("sudo", *words, input=lines, accept=_ANY_STATUS, told=told)
            if not _sudo_failed(output):
                return output
            self._password = None
            if not any(sign in output.stderr for sign in _WRONG_PASSWORD):
                raise _impossible(command, purpose, display(output.stderr).strip().splitlines()[-1])
        raise _impossible(command, purpose, "sudo did not accept the password")

    def _asked(self, command: list[str], purpose: str) -> str:
        nobody = "sudo needs a password and nobody can be asked"
        if self._ask is None:
            raise _impossible(command, purpose, nobody)
        try:
            return self._ask(f"Password for sudo ({purpose})")
        except Refused as error:
            raise _impossible(command, purpose, nobody) from error

    @staticmethod
    def _result(command: list[str], output: Output) -> dict[str, object]:
        try:
            if output.status == 0:
                found = json.loads(output.stdout.splitlines()[-1])
                if isinstance(found, dict):
                    return found
            elif (failure := error_in(output.stderr)) is not None:
                raise failure
        except (ValueError, LookupError, TypeError):
            pass
        words = [display(word) for word in command]
        raise errors.ToolFailed(words, output.status, display(output.stderr or output.stdout))


def snapshot_of(found: dict[str, object]) -> Snapshot:
    """The snapshot that the attach program reported."""
    size, waited, extents = found["size"], found["waited"], found["extents"]
    assert isinstance(size, int)
    assert isinstance(waited, float)
    assert isinstance(extents, list)
    runs = tuple((int(start), int(end)) for start, end in extents)
    return Snapshot(str(found["uuid"]), size, runs, Path(str(found["place"])), found["served"] is True, waited)


def _impossible(command: list[str], purpose: str, why: str) -> NoRoot:
    return NoRoot(
        f"{purpose}: {why}",
        state="nothing was changed",
        hint=f"run the whole command with sudo; this step alone is: sudo {display(shlex.join(command))}",
    )


def _sudo_failed(output: Output) -> bool:
    """sudo itself ends with 1 and speaks under its own name."""
    words = output.stderr.strip().splitlines()
    if output.status != 1 or not words:
        return False
    return words[-1].startswith((b"sudo:", b"Sorry")) or any(sign in words[-1] for sign in _NOT_ALLOWED)


def attachment_of(found: dict[str, object]) -> Attachment:
    """The attachment that the attach program reported."""
    point, pid, server = found["mount_point"], found["daemon_pid"], found.get("server_pid")
    return Attachment(
        image=Path(str(found["image"])),
        device=str(found["device"]),
        read_only=bool(found["read_only"]),
        mount_point=None if point is None else Path(str(point)),
        mount_point_made=bool(found["mount_point_made"]),
        daemon_pid=pid if isinstance(pid, int) else None,
        problem=str(found["problem"]),
        server_pid=server if isinstance(server, int) else None,
        live=found.get("live") is True,
        label=str(found.get("label", "")),
        mapped=found.get("mapped") is True,
    )
