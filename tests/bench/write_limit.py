"""The limit of the host's disk: writing as many bytes, in pieces of the same size, into a new file, until durable.

``python tests/bench/write_limit.py FOLDER BYTES`` prints the seconds. No import can be faster on this disk.
"""

import os
import sys
import tempfile
import time

PIECE = 4 << 20

folder, left = sys.argv[1], int(sys.argv[2])
pieces = [os.urandom(PIECE) for _ in range(8)]  # nothing that a disk or a filesystem could make smaller
with tempfile.NamedTemporaryFile(dir=folder, prefix="write-limit-") as file:
    os.sync()
    began = time.perf_counter()
    number = 0
    while left > 0:
        left -= os.write(file.fileno(), memoryview(pieces[number % len(pieces)])[: min(PIECE, left)])
        number += 1
    os.fsync(file.fileno())
    seconds = time.perf_counter() - began
print(seconds)
