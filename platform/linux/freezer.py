"""The watchdog that freezes a filesystem: ``python -I -S freezer.py DESCRIPTOR``, a folder on it, open.

Whoever writes to a frozen filesystem waits, for ever if nobody thaws it, killing included. So a process does it that
can do nothing else: it is locked in memory, touches no file from then on, hears no signal but SIGKILL, and thaws after
LIMIT seconds or as soon as the pipe of the one who started it closes.

It says ``ready``; to the line ``freeze`` it answers ``frozen``, or ``error NUMBER``; to the next line, whatever it is,
``thawed SECONDS``, or ``late SECONDS`` where it could not wait any longer. The seconds are those that a writer may have
waited. Nothing of this package is imported, so that it starts in no time and is small.
"""

import ctypes
import fcntl
import os
import select
import signal
import sys
import time

LIMIT = 2.0
"""Seconds after which it thaws in any case."""

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
"""Source: include/uapi/linux/fs.h."""
_MCL_CURRENT, _MCL_FUTURE = 1, 2


def guard(descriptor: int) -> None:
    """Wait for the word, freeze, wait for the next word or the end, thaw. Raises ``OSError`` before freezing."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    library = ctypes.CDLL(None, use_errno=True)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    _spare_when_memory_runs_out()
    os.chdir("/")
    # The program's own pages may lie on the very filesystem that it freezes, or in a swap file there.
    if library.mlockall(_MCL_CURRENT | _MCL_FUTURE):
        raise OSError(ctypes.get_errno(), "mlockall")
    os.write(1, b"ready\n")
    if not os.read(0, 100):
        return
    began = time.monotonic()
    try:
        fcntl.ioctl(descriptor, FIFREEZE, 0)
    except OSError as error:
        os.write(1, b"error %d\n" % (error.errno or 0))
        return
    late = True
    try:
        os.write(1, b"frozen\n")
        late = not poll.poll(LIMIT * 1000)
    finally:
        fcntl.ioctl(descriptor, FITHAW, 0)
    os.write(1, b"%s %.6f\n" % (b"late" if late else b"thawed", time.monotonic() - began))


def _spare_when_memory_runs_out() -> None:
    """If we are killed, nobody thaws until the one who started us does. In a container this may be forbidden."""
    score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    try:
        os.write(score, b"-1000")
    except OSError:
        pass
    finally:
        os.close(score)


if __name__ == "__main__":
    try:
        guard(int(sys.argv[1]))
    except OSError as error:
        try:
            os.write(1, b"error %d\n" % (error.errno or 0))
        except OSError:
            sys.exit(1)
