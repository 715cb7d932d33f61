"""The other way round: a disk that another kernel partitioned and formatted is used here."""

from __future__ import annotations

import subprocess

import pytest
from machine import Machine

from portunix_vdisk.tests.guest.boot import Drive, boot

_JOB = """
device=/dev/$(disk blank)
echo "== blank"
printf 'label: dos\\n,16MiB,c\\n,,83\\n' | /bin/sfdisk -q $device >&2 || echo "-- failed sfdisk"
/bin/mke2fs -q -t ext4 ${device}2 >&2 || echo "-- failed mke2fs"
mkdir /mnt/blank
mount -t ext4 ${device}2 /mnt/blank && seq 100000 >/mnt/blank/numbers && umount /mnt/blank || echo "-- failed write"
"""


@pytest.mark.full
@pytest.mark.parametrize(("kind", "format", "options"), [("qcow2", "qcow2", "compat=0.10"), ("vmdk", "vmdk", "")])
def test_a_disk_of_another_kernel_is_used(machine: Machine, kind: str, format: str, options: str) -> None:
    image = machine.folder / f"theirs.{kind}"
    words = ["qemu-img", "create", "-q", "-f", format, *(["-o", options] if options else []), image, "64M"]
    subprocess.run(words, check=True)
    said = boot(machine.folder, [Drive("blank", image, format)], _JOB, programs=("sfdisk", "mke2fs"))
    assert said["blank"] == [], (machine.folder / "console").read_text(errors="replace")[-2000:]
    how = ("--in-place",) if kind == "qcow2" else ()
    machine.vdisk("import", image, *how, "--name", "ours")
    machine.vdisk("mount", "ours", "mnt")
    numbers = (machine.folder / "mnt" / "numbers").read_text()
    machine.vdisk("unmount", "ours")
    assert numbers == "".join(f"{number}\n" for number in range(1, 100001))
