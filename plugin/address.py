"""Where the plugin's socket is, and who may reach it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
from pathlib import Path

from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.platform.home import Home

LONGEST = 107
"""Bytes in the path of a Unix socket on Linux (``sun_path`` in unix(7), less its final zero)."""

_PLAIN = re.compile(rb"[A-Za-z0-9/._+-]+")
"""Paths that mean the same to gRPC, which takes addresses as URIs."""


def socket_path(home: Home) -> Path:
    """The socket of the plugin that serves this state folder; always the same. Nothing is created."""
    path = home.run / "plugin.sock"
    if len(os.fsencode(path)) <= LONGEST and _PLAIN.fullmatch(os.fsencode(path)):
        return path
    return short_folder(home) / "plugin.sock"


def short_folder(home: Home) -> Path:
    """A private folder with a short path, for state folders whose own path is too long for a socket."""
    import hashlib
    import tempfile

    digest = hashlib.sha256(os.fsencode(home.root)).hexdigest()[:12]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and len(runtime) <= 60 and _PLAIN.fullmatch(os.fsencode(runtime)):
        with contextlib.suppress(Refused, Failed):
            check_private(Path(runtime))
            return Path(runtime, f"portunix-{digest}")
    temporary = tempfile.gettempdir()
    if len(temporary) > 60 or not _PLAIN.fullmatch(os.fsencode(temporary)):
        temporary = "/tmp"
    return Path(temporary, f"portunix-{os.geteuid()}-{digest}")


def make_private(folder: Path) -> None:
    """Create the folder with mode 0700 if it is missing, then :func:`check_private`."""
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
    except OSError as error:
        raise Failed(f"the socket's folder cannot be made: {error}") from None
    check_private(folder)


def check_private(folder: Path) -> None:
    """Raises ``Refused`` unless nobody but the current user can reach what lies in the folder."""
    try:
        found = folder.lstat()
    except OSError as error:
        raise Failed(f"the socket's folder cannot be used: {error}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise Refused(
            f"{folder} is not a private folder",
            state="other users could reach the plugin's socket in it",
            hint=f"it must belong to user {os.geteuid()} and have mode 0700",
        )


def answers(path: Path) -> bool:
    """True if a process listens on this socket; a socket file alone, left by a killed process, is not enough."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fsencode(path))
        except OSError:
            return False
        return True
