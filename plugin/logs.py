"""Where plugin and workers write down what happened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from portunix_vdisk.platform.home import Home

if TYPE_CHECKING:
    import logging

_LIMIT = 1 << 20
"""Bytes after which a log file is put aside."""


def plugin_log(home: Home) -> Path:
    """The plugin's own log."""
    return home.logs / "vdisk-plugin.log"


def worker_log(home: Home) -> Path:
    """What workers have to say: tracebacks, and whatever libraries print."""
    return home.logs / "vdisk-worker.log"


def open_plugin_log(home: Home) -> logging.Logger:
    """A logger into the plugin's log, which keeps three files of 1 MiB. A full disk silences it and stops nothing."""
    import logging.handlers  # the command line, which only needs the names of these files, does without

    logging.raiseExceptions = False
    logger = logging.getLogger("portunix_vdisk.plugin")
    handler = logging.handlers.RotatingFileHandler(
        plugin_log(home), maxBytes=_LIMIT, backupCount=2, encoding="utf-8", errors="backslashreplace"
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger


def open_worker_log(home: Home) -> int:
    """A descriptor for a new worker's error output; a file that has grown large is put aside first.

    A file and not a pipe: daemons that a worker leaves behind may hold it as long as they like.
    """
    path = worker_log(home)
    try:
        if path.exists() and path.stat().st_size > _LIMIT:
            path.replace(path.with_name(path.name + ".1"))
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def last_lines(path: Path, start: int, count: int = 3) -> list[str]:
    """The last lines that were written to a log after the byte ``start``."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - (64 << 10)))
            text = file.read().decode("utf-8", "backslashreplace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]
