"""Key slots: adding, changing and removing passwords of an encrypted disk, and keeping a copy of its header.

Nothing of the content is written again. The header is changed in a copy, and what differs goes into the image in an
order that leaves at every moment a slot which a known password opens: the new slot is on stable storage, read back
and tried, before the old one goes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from portunix_vdisk.platform.base import ImageType, Partition
from portunix_vdisk.platform.errors import BadUsage, Failed, Refused, WrongPassword
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.luks import HEADER_BYTES, SLOTS, LuksHeader, parse_luks
from portunix_vdisk.steps.step import Context, Json

_TABLE = 4096
"""Bytes that hold the table of slots; what is behind is their key material."""


class KeyChange(StrEnum):
    """What is done about a password."""

    REPLACE = "replace"
    """The new one takes the place of the old one."""
    ADD = "add"
    """The new one opens the disk as well."""
    REMOVE = "remove"
    """It no longer opens the disk."""


@dataclass(frozen=True, slots=True)
class ChangeKey:
    """Change which passwords open a disk that nobody uses.

    ``secret`` is a password that opens it, and the one that goes where one goes; ``new`` the one that comes.
    ``scratch`` is where the copy of the header is changed.
    """

    image: Path
    type: ImageType
    partition: Partition
    scratch: Path
    change: KeyChange
    secret: bytes = field(compare=False, repr=False)
    new: bytes = field(default=b"", compare=False, repr=False)

    def run(self, ctx: Context) -> Json:
        """Result: the slots in use. Raises ``WrongPassword``, ``Refused``, ``BadUsage``, ``Missing``, ``Failed``."""
        if self.change is KeyChange.REPLACE and self.new == self.secret:
            raise BadUsage("the new password is the old one", state="nothing was changed")
        with self.copied(self._header(ctx)):
            if not ctx.platform.luks.opens(self.scratch, self.secret):
                raise wrong_password()
            if self.change is not KeyChange.REMOVE:
                self._add(ctx)
            if self.change is not KeyChange.ADD:
                self._remove(ctx)
            return {"slots": list(self._changed().slots)}

    def _add(self, ctx: Context) -> None:
        # An interrupted run may have got as far as this.
        if ctx.platform.luks.opens(self.scratch, self.new):
            return
        before = self._header(ctx)
        if len(parse_luks(before).slots) == SLOTS:
            raise Refused(
                f"all {SLOTS} key slots are in use",
                state="nothing was changed",
                hint="remove a password first: portunix vdisk passwd DISK --remove",
            )
        ctx.platform.luks.add(self.scratch, self.secret, self.new)
        self._write(before, ctx)
        self._copy_again(self._header(ctx))
        if not ctx.platform.luks.opens(self.scratch, self.new):
            raise Failed(
                "the new password does not open what was written",
                state="the old password is as good as before",
                hint="check the medium that holds the image",
            )

    def _remove(self, ctx: Context) -> None:
        before = self._header(ctx)
        slots = parse_luks(before).slots
        if len(slots) < 2:
            raise Refused(
                "this is the last password of the disk; without one nobody could ever open it",
                state="nothing was changed",
                hint="change it, or add another one before: portunix vdisk passwd DISK --add",
            )
        ctx.platform.luks.remove(self.scratch, self.secret)
        left = self._changed().slots
        if len(left) != len(slots) - 1 or (self.new and not ctx.platform.luks.opens(self.scratch, self.new)):
            raise Failed("removing a password went wrong", state="the disk was not touched by it")
        # The old key material first: a slot whose material is gone opens nothing, whatever the table says.
        self._write(before, ctx)

    def _header(self, ctx: Context) -> bytes:
        """The header and all key material, as they are in the image."""
        with ctx.platform.open_image(self.image, self.type, writable=False) as image:
            header = parse_luks(image.read(self.partition.start, HEADER_BYTES))
            return image.read(self.partition.start, header.payload)

    def _changed(self) -> LuksHeader:
        # The file is as large as the partition, and nearly all of it is a hole.
        with self.scratch.open("rb") as file:
            return parse_luks(file.read(HEADER_BYTES))

    def _write(self, before: bytes, ctx: Context) -> None:
        """Bring what differs from ``before`` into the image: key material, then the table of slots."""
        with self.scratch.open("rb") as file:
            after = file.read(len(before))
        with ctx.platform.open_image(self.image, self.type, writable=True) as image:
            for start in range(_TABLE, len(after), _TABLE):
                block = after[start : start + _TABLE]
                if block != before[start : start + _TABLE]:
                    image.write(self.partition.start + start, block)
            image.flush()
            if after[:_TABLE] != before[:_TABLE]:
                image.write(self.partition.start, after[:_TABLE])
                image.flush()

    @contextmanager
    def copied(self, header: bytes) -> Iterator[None]:
        """While the context lasts, ``scratch`` holds this header."""
        self._copy_again(header)
        try:
            yield
        finally:
            self.scratch.unlink(missing_ok=True)

    def _copy_again(self, header: bytes) -> None:
        self.scratch.unlink(missing_ok=True)
        descriptor = os.open(self.scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(header)
            file.truncate(self.partition.length)


@dataclass(frozen=True, slots=True)
class BackUpHeader:
    """Copy the header of an encrypted disk, with all its key slots, into the new file ``output``."""

    image: Path
    type: ImageType
    partition: Partition
    output: Path

    def run(self, ctx: Context) -> Json:
        """Result: bytes written. Raises ``Refused`` where something is already, ``Corrupt`` without a header."""
        header = read_header(ctx, self.image, self.type, self.partition)
        data = ctx.platform.peek(self.image, self.type, self.partition.start, header.payload)
        partial = durable.partial_of(self.output)
        try:
            partial.unlink(missing_ok=True)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            durable.publish(partial, self.output)
        except FileExistsError:
            partial.unlink(missing_ok=True)
            raise Refused(f"{self.output} exists", state="it was not touched", hint="choose another name") from None
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise Failed(f"cannot write {self.output}: {error.strerror}", state="nothing was kept") from error
        return {"bytes": len(data)}


def check_password(
    ctx: Context, image: Path, type: ImageType, partition: Partition, scratch: Path, secret: bytes
) -> None:
    """Find out whether a password opens a disk, also while it is mounted. Raises ``WrongPassword``."""
    data = ctx.platform.peek(image, type, partition.start, read_header(ctx, image, type, partition).payload)
    copy = ChangeKey(image, type, partition, scratch, KeyChange.ADD, secret)
    with copy.copied(data):
        if not ctx.platform.luks.opens(scratch, secret):
            raise wrong_password()


def wrong_password() -> WrongPassword:
    """What to say of a password that opens no slot."""
    return WrongPassword("wrong password for the disk", state="nothing was changed", hint="try again")


def read_header(ctx: Context, image: Path, type: ImageType, partition: Partition) -> LuksHeader:
    """What the header of an encrypted disk says, also while the disk is mounted. Raises ``Corrupt``."""
    return parse_luks(ctx.platform.peek(image, type, partition.start, HEADER_BYTES))
