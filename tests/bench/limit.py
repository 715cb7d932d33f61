"""The pure limit: zstd of an archive's chunks in memory, with the export's threads and level, without any I/O.

``python tests/bench/limit.py pack|unpack ARCHIVE`` prints the seconds for compressing, or for decompressing them.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import local

import zstandard

from portunix_vdisk.steps.archive.packing import LEVEL
from portunix_vdisk.steps.archive.pipeline import THREADS
from portunix_vdisk.steps.archive.reader import ArchiveReader

BATCH = 96
"""Chunks in memory at once: 400 MB. Reading the next ones is not timed."""
own = local()


def pack(plain: bytes) -> bytes:
    if not hasattr(own, "compressor"):
        own.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True)
    return own.compressor.compress(plain)


seconds = 0.0
with ArchiveReader(Path(sys.argv[2])) as reader, ThreadPoolExecutor(THREADS) as pool:
    chunks = iter({chunk.digest: chunk for chunk in reader.index.chunks}.values())  # equal ones are stored once
    while batch := [reader.plain(chunk) for chunk in islice(chunks, BATCH)]:
        work, given = (pack, batch) if sys.argv[1] == "pack" else (zstandard.decompress, list(map(pack, batch)))
        began = time.perf_counter()
        for _ in pool.map(work, given):
            pass
        seconds += time.perf_counter() - began
print(seconds)
