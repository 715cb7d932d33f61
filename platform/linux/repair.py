"""Bringing a disk back to order after its daemon, its loop device or the machine's patience ended early."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from portunix_vdisk.platform import vhd
from portunix_vdisk.platform.base import AttachRequest, FileSystemType, ImageType, Partition
from portunix_vdisk.platform.commands import display
from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.platform.linux.containers import disk_size, driver_of
from portunix_vdisk.platform.linux.drivers import checker_of
from portunix_vdisk.platform.linux.facts import find
from portunix_vdisk.platform.linux.mounting import Mounting
from portunix_vdisk.platform.linux.opened_files import image_of_descriptor


def repair(
    mounting: Mounting,
    image: Path,
    type: ImageType,
    partition: Partition,
    fs: FileSystemType,
    secret: bytes | None = b"",
) -> list[str]:
    """Clear away what is left of an attachment, then check container and filesystem; says what was done.

    ``secret`` opens an encrypted disk; None: it is not known, so the filesystem is not checked.
    Afterwards the image is not attached, unless its filesystem is damaged beyond automatic repair: then it stays
    attached for the person to look at.

    Raises:
        Refused: programs still use the mounted disk, or another user's disk.
        Corrupt: container or filesystem are damaged.
    """
    done = []
    facts = find(mounting.root, image)
    if facts is not None:
        if facts.problem:
            done.append(f"found: {display(facts.problem)}")
        mounting.detach(image)
        done += [f"unmounted {display(str(entry.point))}" for entry in facts.mounts]
        done += [f"released {found.device}" for found in facts.loops]
        done.append("cleared the old attachment away")
    if type is ImageType.VHD:
        done += _container(mounting, image)
    elif not type.raw:
        done += _checked(mounting, image, type)
    if secret is None:
        return [*done, "the filesystem was not checked: the disk is encrypted; the next mount does what it needs"]
    attached = mounting.attach(AttachRequest(image, type, partition, read_only=False, secret=secret))
    done += _filesystem(mounting, fs, attached.device)
    mounting.detach(image)
    return done


def _container(mounting: Mounting, image: Path) -> list[str]:
    with mounting.opened(image, read_only=False) as descriptor:
        layout = vhd.inspect(descriptor)
        if layout.footer_in_place:
            return ["checked the structures of the image: sound"]
        vhd.restore_footer(descriptor, layout)
        return ["checked the structures of the image: wrote its last sector again"]


def _checked(mounting: Mounting, image: Path, type: ImageType) -> list[str]:
    """Let QEMU replay its log and free what a killed writer had taken and not used."""
    with mounting.opened(image, read_only=False) as descriptor:
        disk_size(descriptor, type)
        words = ("check", "-q", "-r", "all" if type is ImageType.VHDX else "leaks")
        name = image_of_descriptor(descriptor, driver_of(type))
        output = mounting.commands.run("qemu-img", *words, name, accept=range(256), pass_fds=(descriptor,))
    said = display(output.stderr + output.stdout).strip().splitlines()
    if output.status:
        raise Corrupt(
            f"the image is damaged: {said[-1] if said else f'qemu-img check ended with status {output.status}'}",
            state="nothing was removed from it",
            hint=f"copy the image file first, then: qemu-img check -r all {display(str(image))}",
        )
    return ["checked the structures of the image: sound"]


_CHECKS: Final = {
    # program and options; highest exit status that is no damage, and those that mean "repaired"
    FileSystemType.EXT4: (("e2fsck", "-f", "-p"), 3, (1, 2, 3)),
    FileSystemType.NTFS: (("ntfsfix",), 0, ()),
    FileSystemType.FAT32: (("fsck.vfat", "-p"), 1, (1,)),
    FileSystemType.EXFAT: (("fsck.exfat", "-p"), 1, (1,)),
}


def _filesystem(mounting: Mounting, fs: FileSystemType, device: str) -> list[str]:
    if fs not in _CHECKS:
        return [f"the filesystem was not checked: {fs} replays its own journal when it is mounted"]
    (program, *options), sound, repaired = _CHECKS[fs]
    output = mounting.commands.run(program, *options, device, accept=range(256))
    words = display(output.stdout + output.stderr).strip().splitlines()
    if output.status > sound:
        raise Corrupt(
            f"the {fs.value} filesystem is damaged and cannot be repaired without losing something: "
            f"{words[-1] if words else f'{program} ended with status {output.status}'}",
            state=f"the disk is attached as {device} and not mounted; nothing was removed from it",
            hint=f"copy the image file first, then look: {checker_of(fs, device)}",
        )
    if output.status in repaired:
        return ["checked the filesystem: repaired", *words]
    return [f"checked the filesystem: clean ({device})"]
