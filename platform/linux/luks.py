"""Encrypted partitions: LUKS1 headers are made and changed by cryptsetup, the plain content is read by QEMU.

cryptsetup changes the header in a plain file of its own, which needs neither root nor the kernel's dm-crypt. LUKS1
and not LUKS2, because QEMU's driver opens only that; dm-crypt opens both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import BlockImage, ImageType, Partition
from portunix_vdisk.platform.commands import Commands, display
from portunix_vdisk.platform.errors import BadUsage, Failed
from portunix_vdisk.platform.linux.block_server import block_server
from portunix_vdisk.platform.linux.containers import driver_of
from portunix_vdisk.platform.linux.secret_pipe import secret_pipe
from portunix_vdisk.platform.nbd import NbdClient

_ITERATIONS = 600_000
"""PBKDF2-HMAC-SHA256, as OWASP's "Password Storage Cheat Sheet" of 2023 has it. A fixed number, and not what half a
second of this machine can do: measuring takes longer than using it, and another machine may be much slower. A wrong
password is known as such after eight times that, where every slot is in use."""

_SLOWNESS = ("--pbkdf-force-iterations", str(_ITERATIONS))
_PASSPHRASE = 2
"""cryptsetup(8): exit status for "no permission (bad passphrase)"."""


def check_disk_password(secret: bytes) -> None:
    """Raises ``BadUsage`` for a password that one of the programs which open disks could not be given."""
    try:
        fine = "\0" not in secret.decode("utf-8")
    except UnicodeDecodeError:
        fine = False
    if not fine:
        # QEMU's crypto/secret_common.c; a disk that only some machines can open is worth nothing.
        raise BadUsage("the password of a disk has to be text in UTF-8", state="nothing was changed")


@contextmanager
def open_encrypted(
    commands: Commands, path: Path, type: ImageType, partition: Partition, secret: bytes, *, writable: bool
) -> Iterator[BlockImage]:
    """Open the plain content of an encrypted partition; see :meth:`Platform.open_encrypted`."""
    check_disk_password(secret)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Failed(f"cannot open {display(str(path))}: {error.strerror}") from error
    try:
        with secret_pipe(secret) as key:
            source = "driver=luks,key-secret=key," + _below(path.absolute(), type, partition)
            with block_server(commands, source, read_only=not writable, key=key) as client:
                image = PlainImage(client, descriptor)
                yield image
                if writable:
                    image.flush()
    finally:
        os.close(descriptor)


def _below(path: Path, type: ImageType, partition: Partition) -> str:
    """QEMU's options for the partition inside an image, as the file of something else."""
    name = str(path).replace(",", ",,")
    return (
        f"file.driver=raw,file.offset={partition.start},file.size={partition.length},"
        f"file.file.driver={driver_of(type)},file.file.file.driver=file,file.file.file.filename={name}"
    )


def peek(commands: Commands, path: Path, type: ImageType, offset: int, length: int) -> bytes:
    """Bytes of the disk inside an image that may be in use; see :meth:`Platform.peek`."""
    name = str(path.absolute()).replace(",", ",,")
    shared = "force-share=on,read-only=on"
    source = f"driver={driver_of(type)},{shared},file.driver=file,file.filename={name}"
    with block_server(commands, source, read_only=True) as client:
        return client.read(offset, length)


class PlainImage:
    """The content of an encrypted partition, through a private block server; ``descriptor`` is the image file."""

    def __init__(self, client: NbdClient, descriptor: int) -> None:
        self._client = client
        self._descriptor = descriptor
        self.size = client.size
        self.read = client.read
        self.write = client.write

    def zero(self, offset: int, length: int) -> None:
        """See :meth:`BlockImage.zero`. A hole would read as noise: zeros are written as any other data."""
        step = 1 << 20
        for start in range(offset, offset + length, step):
            self.write(start, bytes(min(step, offset + length - start)))

    def flush(self) -> None:
        """See :meth:`BlockImage.flush`."""
        # The server hands over what it keeps in memory, such as the tables of a QCOW2, and syncs nothing itself.
        self._client.flush()
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise Failed(f"the image cannot be written: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Headers:
    """Headers in plain files, by cryptsetup; see :class:`LuksHeaders`."""

    commands: Commands

    def make(self, path: Path, secret: bytes) -> None:
        """See :meth:`LuksHeaders.make`."""
        check_disk_password(secret)
        with secret_pipe(secret) as key:
            self.commands.run(
                "cryptsetup", "luksFormat", "--batch-mode", "--type", "luks1", "--cipher", "aes-xts-plain64",
                "--key-size", "512", "--hash", "sha256", *_SLOWNESS, "--key-file", f"/dev/fd/{key}",
                path.absolute(), pass_fds=(key,),
            )  # fmt: skip

    def opens(self, path: Path, secret: bytes) -> bool:
        """See :meth:`LuksHeaders.opens`."""
        with secret_pipe(secret) as key:
            words = ("open", "--test-passphrase", "--type", "luks1", "--key-file", f"/dev/fd/{key}", path.absolute())
            return self.commands.run("cryptsetup", *words, accept=(0, _PASSPHRASE), pass_fds=(key,)).status == 0

    def add(self, path: Path, secret: bytes, new: bytes) -> None:
        """See :meth:`LuksHeaders.add`."""
        check_disk_password(new)
        with secret_pipe(secret) as key, secret_pipe(new) as other:
            self.commands.run(
                "cryptsetup", "luksAddKey", "--batch-mode", *_SLOWNESS, "--key-file", f"/dev/fd/{key}",
                path.absolute(), f"/dev/fd/{other}", pass_fds=(key, other),
            )  # fmt: skip

    def remove(self, path: Path, secret: bytes) -> None:
        """See :meth:`LuksHeaders.remove`."""
        with secret_pipe(secret) as key:
            words = ("luksRemoveKey", "--batch-mode", path.absolute(), f"/dev/fd/{key}")
            self.commands.run("cryptsetup", *words, pass_fds=(key,))
