"""Encrypted disks and their passwords, as text for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portunix_vdisk.tasks.sizes import show_size

Object = Mapping[str, Any]


def encryption(found: Object) -> str:
    """How a disk is encrypted, as ``info`` says it."""
    slots = ", ".join(map(str, found["slots"]))
    return f"{found['format']}, {found['cipher']}, {found['key_bits']} bits, {found['hash']}; key slots in use: {slots}"


def passwd(result: Object) -> list[str]:
    """The lines of ``passwd``."""
    done = {"replace": "has another password", "add": "has one more password", "remove": "has one password less"}
    count = len(result["slots"])
    return [f"{result['disk']} {done[result['change']]}; {count} {'opens' if count == 1 else 'open'} it now"]


def luks_backup(result: Object) -> list[str]:
    """The lines of ``luks-backup``."""
    return [
        f"the header of {result['disk']} is in {result['output']}, {show_size(result['bytes'])}",
        "whoever has it can open the disk with the passwords of today, also after they were changed: keep it safe",
    ]


RENDERERS = {"passwd": passwd, "luks-backup": luks_backup}
