"""Work done by several threads, taken in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = max(2, os.cpu_count() or 2)
_AHEAD = 3
"""Items in work or waiting to be taken, per thread."""
_POLL = 0.1


class Pipeline(Generic[Item, Result]):
    """Runs ``work`` on items in threads; results are taken in the order of the items.

    At most three items per thread are in work or waiting, which bounds memory. Between two calls of :meth:`take` the
    threads go on until that many are waiting, so that they don't run dry at the borders of ranges.
    """

    def __init__(self, work: Callable[[Item], Result], items: Iterator[Item], *, threads: int = THREADS) -> None:
        self._work = work
        self._items = items
        self._window = threads * _AHEAD
        self._queue: deque[tuple[Item, Future[Result]]] = deque()
        self._pool = ThreadPoolExecutor(threads)
        self._fill()

    @property
    def head(self) -> Item | None:
        """The item that the next :meth:`take` is about; None at the end."""
        return self._queue[0][0] if self._queue else None

    def take(self, poll: Callable[[], None]) -> Result:
        """Wait for the next result; ``poll`` is called about every 0.1 s and may raise. Raises what ``work`` raised."""
        _, future = self._queue[0]
        poll()
        while not wait([future], _POLL).done:
            poll()
        result = future.result()
        self._queue.popleft()
        self._fill()
        return result

    def close(self) -> None:
        """Drop what was not taken and wait for the threads."""
        self._queue.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _fill(self) -> None:
        while len(self._queue) < self._window:
            try:
                item = next(self._items)
            except StopIteration:
                return
            self._queue.append((item, self._pool.submit(self._work, item)))
