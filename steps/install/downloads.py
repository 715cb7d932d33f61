"""Fetching several files at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Event, Lock
from typing import Final

from portunix_vdisk.platform.errors import Interrupted
from portunix_vdisk.steps.install.tool import Artifact
from portunix_vdisk.steps.install.web import Web
from portunix_vdisk.steps.step import Context

_AT_ONCE: Final = 6
_POLL_SECONDS: Final = 0.1


def fetch_all(artifacts: Sequence[Artifact], web: Web, ctx: Context) -> int:
    """Have all files in the cache; returns their bytes. What is whole when one fails or the person stops is kept.

    Raises what :meth:`Web.fetch` raises, of the first that failed.
    """
    there = dict.fromkeys(artifacts, 0)
    lock, over = Lock(), Event()
    total = sum(one.size for one in artifacts)

    def fetch(one: Artifact) -> None:
        def told(done: int) -> None:
            if over.is_set():
                raise Interrupted("another file failed")
            with lock:
                there[one] = done
                ctx.update(sum(there.values()), max(total, sum(there.values())))

        told(0)
        web.fetch(one, told)

    pool = ThreadPoolExecutor(_AT_ONCE, "fetch")
    try:
        # Large files first: the last one should not be alone for long.
        waiting = {pool.submit(fetch, one) for one in sorted(there, key=lambda one: -one.size)}
        while waiting:
            done, waiting = wait(waiting, _POLL_SECONDS, FIRST_EXCEPTION)
            for one in done:
                one.result()
            ctx.safe_point()
    finally:
        over.set()
        pool.shutdown(cancel_futures=True)
    return sum(there.values())
