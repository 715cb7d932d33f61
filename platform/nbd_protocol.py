"""Numbers and structures of the Network Block Device protocol, as far as client and server here speak it.

Source: "The NBD protocol", https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md. All integers are
big-endian.
"""

from __future__ import annotations

import struct

INIT_MAGIC = b"NBDMAGIC"
OPTION_MAGIC = b"IHAVEOPT"
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
REPLY_MAGIC = 0x67446698

FLAG_FIXED_NEWSTYLE = 1
FLAG_NO_ZEROES = 2

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO = 1, 2, 3, 6, 7
REP_ACK, REP_SERVER, REP_INFO = 1, 2, 3
REP_ERR_UNSUP, REP_ERR_INVALID, REP_ERR_UNKNOWN = 0x80000001, 0x80000003, 0x80000006
INFO_EXPORT, INFO_BLOCK_SIZE = 0, 3

READ, WRITE, DISCONNECT, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6
HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_WRITE_ZEROES, CAN_MULTI_CONN = 1, 2, 4, 64, 256

EPERM, EIO, EINVAL = 1, 5, 22

REQUEST = struct.Struct(">IHHQQI")
"""Magic, flags, command, handle, offset, length."""
REPLY = struct.Struct(">IIQ")
"""Magic, error, handle."""
OPTION = struct.Struct(">8sII")
"""Magic, option, length of its payload."""
OPTION_REPLY = struct.Struct(">QIII")
"""Magic, option, kind of reply, length of its payload."""

MAXIMUM_REQUEST = 32 << 20
"""Bytes in one request where the server names no limit of its own; servers must accept this much."""
