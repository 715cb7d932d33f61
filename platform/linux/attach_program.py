"""``portunix-vdisk-attach``: the only program that needs root, run as a whole under sudo.

Fixed verbs, no shell, no path that is looked up twice. Called through sudo it uses only files and folders that the
calling user could use anyway. It prints one JSON object: the result on stdout, or a failure on stderr together with
its exit code. ``chown`` prints lines of progress before.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from portunix_vdisk.platform.base import (
    Attachment,
    AttachRequest,
    FileSystemType,
    ImageType,
    Owner,
    Partition,
    Snapshot,
)
from portunix_vdisk.platform.commands import SYSTEM_FOLDERS, Commands
from portunix_vdisk.platform.errors import BadUsage, ExitCode, Failed, Missing, VdiskError
from portunix_vdisk.platform.linux import filesystem_size
from portunix_vdisk.platform.linux.checking import check_filesystem
from portunix_vdisk.platform.linux.giving import give_files
from portunix_vdisk.platform.linux.id_maps import HIGHEST_ID
from portunix_vdisk.platform.linux.mount_point import Caller
from portunix_vdisk.platform.linux.mounting import Mounting
from portunix_vdisk.platform.linux.repair import repair
from portunix_vdisk.platform.linux.snapshots import drop_snapshot, take_snapshot
from portunix_vdisk.platform.memory import keep_memory_private
from portunix_vdisk.platform.reports import report_of

_HIGHEST_OFFSET = 2**62
_LONGEST_SECRET = 4096


class _Parser(argparse.ArgumentParser):
    """Reports bad usage as our kind of error."""

    def error(self, message: str) -> NoReturn:
        raise BadUsage(message, hint=f"see: {self.prog} --help")


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) or int(text) > _HIGHEST_OFFSET:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes")
    return int(text)


def _label(text: str) -> str:
    if not re.fullmatch(r"[ -~]{0,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is longer than 64 characters, or not printable ASCII")
    return text


def _owner(text: str) -> Owner:
    if not re.fullmatch(r"[0-9]{1,10}:[0-9]{1,10}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not UID:GID")
    uid, gid = map(int, text.split(":"))
    if max(uid, gid) > HIGHEST_ID:
        raise argparse.ArgumentTypeError(f"{text!r} is not UID:GID")
    return Owner(uid, gid)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    program = _Parser(
        prog="portunix-vdisk-attach",
        description="Attach and mount virtual disks. Part of portunix vdisk; runs as root.",
        allow_abbrev=False,
    )
    verbs = program.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)
    explained = {
        "attach": "show the partition of an image as a block device",
        "attach-served": "show the partition of a disk that a server offers as a block device",
        "mount": "mount an attached image",
        "chown": "give the files of a former owner on a mounted image to the caller",
        "unmount": "unmount an image; it stays attached",
        "detach": "unmount an image and take its block device away",
        "trim": "give the free blocks of a mounted image back to the host",
        "snapshot": "keep the present content of a mounted image readable while it is used",
        "drop-snapshot": "take that away again",
        "check": "look for damage in the filesystem of an image, without changing it",
        "repair": "clear away what a crash left and check image and filesystem",
        "smallest": "tell how small the filesystem of an attached image can be",
        "resize": "make the filesystem of an attached image larger or smaller",
    }
    for verb, help in explained.items():
        added = verbs.add_parser(verb, help=help, description=help, allow_abbrev=False)
        added.add_argument("--image", required=True, type=Path, help="absolute path of the image file")
        added.add_argument("--owner", type=_owner, metavar="UID:GID", help="who gets mount points that are made")
        if verb in ("attach", "repair", "check"):
            added.add_argument("--type", required=True, type=ImageType, help="vhd, qcow2, img …")
        if verb in ("attach", "repair", "check", "attach-served"):
            added.add_argument("--start", required=True, type=_number, help="first byte of the partition on the disk")
            added.add_argument("--length", required=True, type=_number, help="bytes of the partition")
        if verb == "attach-served":
            added.add_argument("--socket", required=True, type=Path, help="absolute path of the server's Unix socket")
            added.add_argument("--writable", action="store_true", help="the server takes writes (default: read-only)")
            added.add_argument("--label", default="", type=_label, help="which state of the disk it is")
        if verb in ("attach", "repair", "check"):
            added.add_argument("--encrypted", action="store_true", help="it is; its password is read from the input")
        if verb == "repair":
            added.add_argument("--locked", action="store_true", help="it is encrypted, and the password is not known")
        if verb == "attach":
            added.add_argument("--read-only", action="store_true", help="allow no writes")
            added.add_argument("--live", action="store_true", help="so that it can be exported while it is used")
        if verb == "snapshot":
            added.add_argument(
                "--room", required=True, type=Path, action="append", help="absolute path of a folder with free space"
            )
        if verb == "resize":
            added.add_argument("--size", required=True, type=_number, help="bytes that the filesystem may have")
        if verb in ("mount", "repair", "check", "smallest", "resize"):
            added.add_argument("--fs", required=True, type=FileSystemType, help="ext4, ntfs, fat32 …")
        if verb == "mount":
            added.add_argument("--mount-point", required=True, type=Path, help="absolute path of the folder")
            owned = "whose files on the disk are to be shown as the caller's; not root's"
            added.add_argument("--disk-owner", type=_owner, metavar="UID:GID", help=owned)
        if verb == "chown":
            added.add_argument("--disk-owner", required=True, type=_owner, metavar="UID:GID", help="whose; not root's")
    return program


def caller(owner: Owner | None) -> Caller:
    """For whom we run. sudo says who called it; its word counts more than the command line.

    Raises:
        Missing: we are not root.
        BadUsage: the command line names another user than sudo does.
    """
    if os.geteuid() != 0:
        raise Missing("attaching and mounting need root", hint="run it with sudo")
    text = os.environ.get("SUDO_UID", "")
    if not re.fullmatch(r"[0-9]{1,10}", text) or text == "0":
        return Caller(owner or Owner(0, 0), restricted=False)
    group = os.environ.get("SUDO_GID", text)
    found = Owner(int(text), int(group) if group.isdigit() else int(text))
    if owner is not None and owner.uid != found.uid:
        raise BadUsage(f"--owner names user {owner.uid}, but user {found.uid} called sudo")
    return Caller(found, restricted=True)


def perform(mounting: Mounting, options: argparse.Namespace) -> dict[str, object]:
    """Do one verb; the result as JSON data."""
    image: Path = options.image
    match options.verb:
        case "attach":
            partition = Partition(options.start, options.length)
            what = (image, options.type, partition, options.read_only, options.live, _secret(options))
            return plain(mounting.attach(AttachRequest(*what)))
        case "attach-served":
            partition = Partition(options.start, options.length)
            how = {"writable": options.writable, "label": options.label}
            return plain(mounting.attach_served(image, options.socket, partition, **how))
        case "mount":
            return plain(mounting.mount(image, options.fs, options.mount_point, options.disk_owner))
        case "chown":
            return {"given": give_files(mounting, image, options.disk_owner, _tell)}
        case "unmount":
            mounting.unmount(image)
        case "detach":
            mounting.detach(image)
        case "trim":
            return {"bytes": mounting.trim(image)}
        case "snapshot":
            return plain_snapshot(take_snapshot(mounting, image, options.room))
        case "drop-snapshot":
            drop_snapshot(mounting, image)
        case "smallest":
            return {"bytes": filesystem_size.smallest(mounting, image, options.fs)}
        case "resize":
            filesystem_size.resize(mounting, image, options.fs, options.size)
        case "check":
            partition = Partition(options.start, options.length)
            return {"lines": check_filesystem(mounting, image, options.type, partition, options.fs, _secret(options))}
        case "repair":
            partition = Partition(options.start, options.length)
            secret = None if options.locked else _secret(options)
            return {"lines": repair(mounting, image, options.type, partition, options.fs, secret)}
    return {}


def _tell(seen: int) -> None:
    sys.stdout.write(json.dumps({"seen": seen}) + "\n")
    sys.stdout.flush()


def _secret(options: argparse.Namespace) -> bytes:
    """The password of an encrypted disk, all that there is to read; empty for another one. Raises ``BadUsage``."""
    if not options.encrypted:
        return b""
    keep_memory_private()
    secret = sys.stdin.buffer.read(_LONGEST_SECRET + 1)
    if not 0 < len(secret) <= _LONGEST_SECRET:
        raise BadUsage("the password has to be on standard input, and not longer than 4096 bytes")
    return secret


def plain(found: Attachment) -> dict[str, object]:
    """An attachment as JSON data."""
    return {
        "image": str(found.image),
        "device": found.device,
        "read_only": found.read_only,
        "mount_point": None if found.mount_point is None else str(found.mount_point),
        "mount_point_made": found.mount_point_made,
        "daemon_pid": found.daemon_pid,
        "problem": found.problem,
        "server_pid": found.server_pid,
        "label": found.label,
        "live": found.live,
        "mapped": found.mapped,
    }


def plain_snapshot(taken: Snapshot) -> dict[str, object]:
    """A snapshot as JSON data."""
    return {
        "uuid": taken.uuid,
        "size": taken.size,
        "extents": taken.extents,
        "place": str(taken.place),
        "served": taken.served,
        "waited": taken.waited,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    os.umask(0o022)
    try:
        try:
            options = parser().parse_args(arguments)
            who = caller(options.owner)
            # The user's PATH and Python settings mean nothing to a process with root's rights.
            os.setgid(0)
            os.environ.pop("LD_PRELOAD", None)
            os.environ["PATH"] = os.pathsep.join(SYSTEM_FOLDERS)
            result = perform(Mounting(who, Commands(SYSTEM_FOLDERS)), options)
        except OSError as error:
            raise Failed(f"{error.strerror or error}: {error.filename or 'attaching'}") from error
    except VdiskError as error:
        sys.stderr.write(report_of(error))
        return int(error.code)
    except KeyboardInterrupt:
        sys.stderr.write(json.dumps({"error": {"kind": "Interrupted", "what": "interrupted"}}) + "\n")
        return int(ExitCode.INTERRUPTED)
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
