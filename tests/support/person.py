"""An ordinary user of this machine, with a home and an environment of their own, with or without sudo."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from machine import Machine

_SCRIPTS = {
    "portunix": "portunix_vdisk.plugin.cli:program",
    "portunix-vdisk-plugin": "portunix_vdisk.plugin.server:main",
    "portunix-vdisk-attach": "portunix_vdisk.platform.linux.attach_program:main",
}


_NUMBERS = itertools.count()
_STILL_USED = 8
"""Exit status of userdel while the user has processes."""


class Person(Machine):
    """Runs every command as a user who is not root, after a login."""

    name = ""
    python = Path()

    def run(self, *command: str | Path, **more: object):  # type: ignore[no-untyped-def]
        program = self.python.parent / Path(command[0]).name
        words = ["/usr/sbin/runuser", "-u", self.name, "--", str(program) if program.exists() else str(command[0])]
        return super().run(*words, *command[1:], **more)  # type: ignore[arg-type]

    def sudo(self, *words: str | Path, check: int | None = 0):  # type: ignore[no-untyped-def]
        """``sudo portunix vdisk WORDS``, as the person."""
        program = self.python.parent / "portunix"
        kept = f"PORTUNIX_HOME={self.home}"
        return super().run(
            "/usr/sbin/runuser", "-u", self.name, "--", "sudo", "-n", kept, program, "vdisk", *words, check=check
        )


@contextmanager
def person(*, sudo: bool) -> Iterator[Person]:
    """A new user, removed with all their files afterwards."""
    name = f"pvdisk{os.getpid() % 100000}-{next(_NUMBERS)}"
    place = Path(tempfile.mkdtemp(prefix="portunix-vdisk-person-"))
    rule = Path("/etc/sudoers.d") / name
    place.chmod(0o755)
    subprocess.run(["useradd", "--no-log-init", "-M", "-d", place / "home", name], check=True)
    try:
        (place / "work").mkdir()
        (place / "home").mkdir()
        for folder in ("work", "home"):
            shutil.chown(place / folder, name, name)
        if sudo:
            rule.write_text(f"{name} ALL=(ALL) NOPASSWD: ALL\n")
            rule.chmod(0o440)
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(place / "home"), "LANG": "C.UTF-8"}
        made = Person(place / "home" / ".portunix", place / "work", environment | {"PORTUNIX_HOME": ""})
        made.environment["PORTUNIX_HOME"] = str(made.home)
        made.name = name
        made.python = _environment(place / "venv", name)
        yield made
    finally:
        rule.unlink(missing_ok=True)
        deadline = time.monotonic() + 10
        while True:  # a process that is just starting another one takes a second round
            _end_processes(name)
            status = subprocess.run(["userdel", name], check=False).returncode
            if status != _STILL_USED or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        assert status == 0, f"userdel {name} ended with {status}"
        shutil.rmtree(place)


def _end_processes(name: str) -> None:
    uid = pwd.getpwnam(name).pw_uid
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if folder.stat().st_uid == uid:
                os.kill(int(folder.name), signal.SIGKILL)


def _environment(place: Path, name: str) -> Path:
    """A virtual environment that the person can run: the tests' own may lie in root's home."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for base in (
        Path(sys.executable).resolve(),
        Path(f"/usr/bin/python{version}"),
        Path(f"/usr/local/bin/python{version}"),
    ):
        works = subprocess.run(
            ["/usr/sbin/runuser", "-u", name, "--", base, "-c", ""], check=False, capture_output=True
        )
        if works.returncode == 0:
            break
    else:
        raise AssertionError(f"this machine has no Python {version} that an ordinary user can run")
    subprocess.run([base, "-m", "venv", "--without-pip", place], check=True)
    python = place / "bin" / "python"
    packages = next(place.glob("lib/python*/site-packages"))
    root = Path(__file__).resolve().parents[2]
    shutil.copytree(
        root, packages / "portunix_vdisk", ignore=shutil.ignore_patterns(".*", "tests", "__pycache__", "*.egg-info")
    )
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()))
    about = packages / "portunix_vdisk-0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: portunix-vdisk\nVersion: 0\n")
    (about / "entry_points.txt").write_text(
        "[doit.BACKEND]\nportunix-vdisk = portunix_vdisk.tasks.journal:Journal\n"
        "[doit.REPORTER]\nportunix-vdisk = portunix_vdisk.plugin.terminal:DoitReporter\n"
    )
    for script, entry_point in _SCRIPTS.items():
        module, function = entry_point.split(":")
        path = place / "bin" / script
        path.write_text(f"#!{python}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n")
        path.chmod(0o755)
    return python
