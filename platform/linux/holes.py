"""Where a sparse file has data, as its filesystem knows."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator


def data_of(descriptor: int, length: int) -> Iterator[tuple[int, int]]:
    """Start and end of each run of data in the first ``length`` bytes, ascending. Raises ``OSError``."""
    end = 0
    while end < length:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), length)
        if start < end:
            yield start, end
