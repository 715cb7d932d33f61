"""A temporary PORTUNIX_HOME in which the real commands run, and that is gone afterwards, whatever happens."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from portunix_vdisk.platform.base import FileSystemType
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.linux.rootless_drivers import need

BIN = Path(sys.executable).parent


class CommandFailed(Exception):
    """A command of ours ended with another exit code than 0."""

    def __init__(self, words: tuple[str, ...], status: int, output: str = "") -> None:
        self.status = status
        super().__init__(f"{shlex.join(words)} ended with exit code {status}" + (f":\n{output}" if output else ""))


class Workplace:
    """Runs commands as a person would, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Under sudo, the commands would act for the person who called it; here they act for the user that runs this.
        # And whoever forbids compiled files on this machine for builds does not mean the programs that are measured.
        without = ("SUDO_", "PORTUNIX_", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(without)}
        self.environment = kept | {
            "PORTUNIX_HOME": str(folder / "home"),
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin{os.pathsep}/sbin",
        }

    def start(self, *words: str, line: str = "") -> subprocess.Popen[bytes]:
        """Show a command line (``line``, if it is a shell's) and start it; its output goes where ours goes."""
        print(f"\n$ {line or shlex.join(words)}", flush=True)
        return subprocess.Popen(words, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL)

    def show(self, *words: str, line: str = "") -> float:
        """Run a command before a person's eyes; the seconds it took. Raises ``CommandFailed``."""
        began = time.perf_counter()
        with self.start(*words, line=line) as process:
            try:
                status = process.wait()
            except BaseException:  # Ctrl-C has reached it, too, but a SIGTERM to us has not
                process.terminate()
                process.wait()
                raise
        if status:
            raise CommandFailed(words, status)
        return time.perf_counter() - began

    def quiet(self, *words: str) -> float:
        """Run a command without showing it; the seconds it took. Raises ``CommandFailed`` with what it said."""
        began = time.perf_counter()
        done = self._run(words)
        if done.returncode:
            raise CommandFailed(words, done.returncode, (done.stdout + done.stderr).decode(errors="backslashreplace"))
        return time.perf_counter() - began

    def ask(self, *words: str) -> Mapping[str, Any]:
        """The ``result`` of a command's ``--json`` object. Raises ``CommandFailed``."""
        words = (*words, "--json")
        done = self._run(words)
        if done.returncode:
            raise CommandFailed(words, done.returncode, (done.stdout + done.stderr).decode(errors="backslashreplace"))
        result: Mapping[str, Any] = json.loads(done.stdout)["result"]
        return result

    def plugin_pid(self) -> int:
        """Process id of the plugin; it is started if it does not run."""
        self.quiet("portunix", "vdisk", "list")
        return int(self.ask("portunix", "plugin", "status", "vdisk")["pid"])

    def _run(self, words: tuple[str, ...]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            words, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )

    def clean_up(self) -> list[str]:
        """Unmount and delete every disk, stop the plugin, remove the folder; what could not be done, a line each."""
        problems: list[str] = []

        def attempt(*words: str) -> None:
            try:
                self.quiet(*words)
            except (CommandFailed, OSError) as error:
                problems.append(str(error))

        if (self.folder / "home").exists():
            try:
                disks = self.ask("portunix", "vdisk", "list")["disks"]
            except (CommandFailed, OSError, ValueError, KeyError) as error:
                disks = []
                problems.append(str(error))
            for disk in disks:
                if disk.get("mount_point") or disk.get("device") or disk.get("problem"):
                    attempt("portunix", "vdisk", "unmount", disk["name"])
                attempt("portunix", "vdisk", "delete", disk["name"], "--yes")
            attempt("portunix", "plugin", "stop", "vdisk", "--force")
        mounts = [point for point in _mount_points() if Path(point).is_relative_to(self.folder)]
        if mounts:  # removing the folder would remove what lies on the mounted disk
            problems += [f"still mounted, therefore {self.folder} is kept: {point}" for point in mounts]
        else:
            shutil.rmtree(self.folder, onerror=lambda _, path, error: problems.append(f"{path}: {error[1]}"))
        return problems


def _mount_points() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    return [line.split()[4].replace("\\040", " ") for line in lines]


@contextmanager
def workplace(parent: Path, purpose: str) -> Iterator[Workplace]:
    """A workplace below ``parent``. Ctrl-C and SIGTERM end it too; while it cleans up, they wait.

    Raises ``RuntimeError`` if something could not be removed afterwards.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    place = Workplace(Path(tempfile.mkdtemp(prefix=f"portunix-vdisk-{purpose}-", dir=parent)))
    unharmed = False
    try:
        yield place
        unharmed = True
    finally:
        before = [(number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGINT, signal.SIGTERM)]
        print("\nCleaning up …", flush=True)
        problems = place.clean_up()
        for number, handler in before:
            signal.signal(number, handler)
        for problem in problems:
            print(f"left behind: {problem}", file=sys.stderr)
        if not problems:
            print("Nothing is left behind.", flush=True)
        elif unharmed:  # otherwise the first failure is the one to report
            raise RuntimeError("not everything could be cleaned up")


def can_be_rootless() -> bool:
    """True where programs of the person can show a disk. Raises ``VdiskError`` with what is missing for that."""
    need(Commands(), FileSystemType.EXT4)
    return True


def can_be_root() -> bool:
    """Whether mounting is possible without anybody typing a password."""
    if os.geteuid() == 0:
        return True
    sudo = shutil.which("sudo")
    if sudo is None:
        return False
    return (
        subprocess.run([sudo, "-n", "true"], check=False, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0
    )
