"""Whose rights a private block server has when root works for a person, as under sudo."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.linux import images
from portunix_vdisk.platform.linux.processes import arguments_of, running

NOBODY = 65534


def test_it_has_those_of_the_person_for_good() -> None:
    with tempfile.TemporaryDirectory(prefix="rights-") as folder:
        image = Path(folder) / "disk.qcow2"
        images.create_image(Commands(), image, ImageType.QCOW2, 8 << 20)
        shutil.chown(folder, NOBODY, NOBODY)
        shutil.chown(image, NOBODY, NOBODY)
        hear, tell = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.setegid(NOBODY)
                os.seteuid(NOBODY)
                with images.open_image(Commands(), image, ImageType.QCOW2, writable=True) as disk:
                    disk.write(0, b"x" * 512)
                    for pid in running():
                        words = arguments_of(pid)
                        if words and words[0].endswith(b"qemu-nbd") and os.fsencode(image) in words:
                            status = Path(f"/proc/{pid}/status").read_bytes().splitlines()
                            os.write(tell, b"".join(line + b"\n" for line in status if line[:4] in (b"Uid:", b"Gid:")))
            except BaseException as error:  # noqa: BLE001 - a child of a test
                os.write(tell, repr(error).encode())
            os._exit(0)
        os.close(tell)
        with os.fdopen(hear) as file:
            text = file.read()
        os.waitpid(child, 0)
    assert [line.split()[1:] for line in text.splitlines()] == [[str(NOBODY)] * 4] * 2, text
