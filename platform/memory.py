"""Whether the memory of this process may be read by others, or written to a disk when it crashes."""

from __future__ import annotations

import resource
import sys

_PR_SET_DUMPABLE = 4
"""``linux/prctl.h``."""


def keep_memory_private() -> None:
    """From now on this process leaves no core dump, and no other process of its user may look into it.

    To be called before the process gets hold of a secret. It is also marked as not dumpable (prctl(2), core(5)). That
    ends with exec, and the programs that get the secret from us inherit only the limit: one byte, because core dumps
    that are piped to a program ignore all limits but this one (``fs/coredump.c``), and no file is as small as that.
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    limit = 0 if most == 0 else 1
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
