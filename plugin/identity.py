"""Whose rights a process runs with, and what its children inherit.

Under sudo our processes act as the person who called (see :mod:`portunix_vdisk.platform.home`), while the real user
stays root.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

_SECRET = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|(API|ACCESS|PRIVATE|ENCRYPTION)_?KEY", re.IGNORECASE
)


class Identity(TypedDict, total=False):
    """The arguments of ``subprocess.Popen`` that make a child start as the real user."""

    user: int
    group: int


def privileged() -> bool:
    """True under sudo: root is the real user, but not the one we act as."""
    return os.getuid() == 0 and os.geteuid() != 0


def child_identity() -> Identity:
    """Children of our own program start as the real user and give the rights up again themselves."""
    return Identity(user=0, group=0) if privileged() else Identity()


@contextmanager
def as_real_user() -> Iterator[None]:
    """Inside, act as the real user; without sudo this changes nothing."""
    effective = os.geteuid()
    os.seteuid(os.getuid())
    try:
        yield
    finally:
        os.seteuid(effective)


def child_environment() -> dict[str, str]:
    """The environment of the calling process without anything that looks like a secret."""
    return {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
