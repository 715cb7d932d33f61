"""Mounts that nobody sees before they are complete: with the table of ids that an existing mount cannot be given.

The calls are made by number, since the C libraries of older systems do not know them. They are the same on all machines
but Alpha. Sources: include/uapi/linux/mount.h, include/uapi/asm-generic/unistd.h, mount_setattr(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from contextlib import ExitStack

_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 429, 430, 431, 432, 442
_CLOEXEC = 1
"""Of fsopen and of fsmount."""
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_RDONLY, _NOSUID, _NODEV, _NOATIME, _IDMAP = 0x1, 0x2, 0x4, 0x10, 0x100000
_FROM_EMPTY, _TO_EMPTY, _AT_EMPTY = 0x4, 0x40, 0x1000
_ATTRIBUTES = struct.Struct("=QQQQ")
"""struct mount_attr: set, clear, propagation, descriptor of the user namespace."""


def mount(device: str, place: int, kind: str, options: str, *, read_only: bool, still: bool, users: int) -> None:
    """Mount a block device on the open folder ``place``, never with set-user-ID programs and devices.

    Args:
        device: path of the block device.
        place: descriptor of the folder.
        kind: name of the filesystem.
        options: its own options, with commas between.
        read_only: the mount, and the filesystem too.
        still: reading changes no times.
        users: descriptor of the user namespace whose tables say who is shown as whom.

    Raises:
        OSError: as mount(2) does.
        CannotMap: this kernel, or its driver of this filesystem, knows no such tables; nothing is mounted.
    """
    with ExitStack() as closing:
        try:
            context = _call(_FSOPEN, kind.encode(), _CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                raise CannotMap from error
            raise
        closing.callback(os.close, context)
        _configure(context, _SET_STRING, "source", device)
        for option in filter(None, [*options.split(","), *(["ro"] if read_only else [])]):
            key, equals, value = option.partition("=")
            _configure(context, _SET_STRING if equals else _SET_FLAG, key, value if equals else None)
        _configure(context, _CREATE, None, None)
        attributes = _NOSUID | _NODEV | (_RDONLY if read_only else 0) | (_NOATIME if still else 0)
        made = _call(_FSMOUNT, context, _CLOEXEC, attributes)
        closing.callback(os.close, made)
        wanted = _ATTRIBUTES.pack(_IDMAP, 0, 0, users)
        try:
            _call(_MOUNT_SETATTR, made, b"", _AT_EMPTY, wanted, len(wanted))
        except OSError as error:
            raise CannotMap from error
        _call(_MOVE_MOUNT, made, b"", place, b"", _FROM_EMPTY | _TO_EMPTY)


class CannotMap(Exception):
    """The filesystem is fine, but cannot be mounted with a table of ids."""


def _configure(context: int, command: int, key: str | None, value: str | None) -> None:
    words = [None if text is None else os.fsencode(text) for text in (key, value)]
    _call(_FSCONFIG, context, command, *words, 0)


def _call(number: int, *arguments: int | bytes | None) -> int:
    """A system call. Raises ``OSError``."""
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    wide = [ctypes.c_long(each) if isinstance(each, int) else ctypes.c_char_p(each) for each in arguments]
    result = int(library.syscall(ctypes.c_long(number), *wide))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
