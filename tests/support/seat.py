"""Where a person sits and types commands: /mnt, /media and /home are theirs alone, so that any path may be typed.

``room`` in the seat's folder is a filesystem with more space than this machine may have: disks of 20 GB and more are
only made where they would fit.
"""

from __future__ import annotations

import os
import pty
import select
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from machine import Answer

_PREPARE = """
set -e
for folder in /mnt /media {layer}; do mount -t tmpfs seat $folder; done
mkdir {layer}/upper {layer}/work
mount -t overlay seat -o lowerdir=/home,upperdir={layer}/upper,workdir={layer}/work /home
truncate -s 100G {layer}/room.raw
/sbin/mkfs.ext4 -q -F -m 0 -N 20000 -O ^has_journal -E lazy_itable_init=1,nodiscard {layer}/room.raw
mount -o loop {layer}/room.raw {room}
echo ready
exec cat
"""


@dataclass(frozen=True)
class Seat:
    """A mount namespace, kept by a process that waits for the end of its input."""

    pid: int

    def type(
        self,
        line: str,
        folder: Path,
        environment: Mapping[str, str],
        secrets: Mapping[str, str] | None = None,
        seconds: float = 120,
    ) -> Answer:
        """One line, in a shell and a terminal of its own; ``out`` of the answer is all that the terminal showed.

        Prompts are answered by ``secrets``: how they begin, and what is typed.
        """
        inside = f"cd {shlex.quote(str(folder))}; {line}"
        words = ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "bash", "-c", inside]
        pid, terminal = pty.fork()
        if pid == 0:  # pragma: no cover - the child
            os.execvpe(words[0], words, {**environment, "TERM": "dumb"})
        seen, answered, deadline = "", 0, time.monotonic() + seconds
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    data = os.read(terminal, 1 << 16)
                except OSError:  # nobody holds the other end any more
                    break
                seen += data.decode(errors="backslashreplace")
            for prompt, secret in (secrets or {}).items():
                asked = seen.rfind(prompt)
                if asked >= answered and seen.endswith(": "):
                    os.write(terminal, f"{secret}\n".encode())
                    answered = len(seen)
        else:
            os.kill(pid, 9)
            seen += f"\n(killed after {seconds} s)"
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
        return Answer(os.waitstatus_to_exitcode(status), seen.replace("\r\n", "\n"), "")


@contextmanager
def seat(folder: Path) -> Iterator[Seat]:
    """A seat; ``folder`` is used for what is laid over /home. Whatever was mounted in it is gone afterwards."""
    layer, room = folder / "layer", folder / "room"
    layer.mkdir()
    room.mkdir()
    script = _PREPARE.format(layer=shlex.quote(str(layer)), room=shlex.quote(str(room)))
    command = ["unshare", "--mount", "--propagation=private", "bash", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None and keeper.stdin is not None
        assert keeper.stdout.readline() == b"ready\n"
        try:
            yield Seat(keeper.pid)
        finally:
            keeper.stdin.close()
