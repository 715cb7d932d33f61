"""Where an image's data lies, as QEMU tells it."""

from __future__ import annotations

import json
import os

from portunix_vdisk.platform.base import Extent, ImageMap, ImageType
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.errors import Corrupt, Refused
from portunix_vdisk.platform.linux.containers import driver_of
from portunix_vdisk.platform.linux.opened_files import image_of_descriptor


def map_served(commands: Commands, descriptor: int, type: ImageType) -> ImageMap:
    """The map of an open image that our own storage daemon serves, and that is held still."""
    name = image_of_descriptor(descriptor, driver_of(type))
    found = commands.run("qemu-img", "map", "-U", "--output=json", name, pass_fds=(descriptor,))
    return parse_map(found.stdout, os.fstat(descriptor).st_size)


def parse_map(text: bytes, length: int) -> ImageMap:
    """The output of ``qemu-img map --output=json`` for an image file of ``length`` bytes, not trusted.

    Raises ``Corrupt`` where extents overlap, leave gaps, or lie outside the file.
    """
    end = 0
    extents: list[Extent] = []
    try:
        for entry in json.loads(text):
            start, count = entry["start"], entry["length"]
            if type(start) is not int or type(count) is not int or start != end or count <= 0:
                raise ValueError(f"unexpected entry {entry}")
            end = start + count
            if entry["zero"] or not entry["data"]:
                continue
            if "offset" not in entry:
                raise Refused(
                    "parts of this image are compressed or encrypted inside",
                    hint="convert it first: qemu-img convert -O qcow2 FILE NEW-FILE",
                )
            offset = entry["offset"]
            if type(offset) is not int or offset < 0 or offset + count > length:
                raise ValueError(f"data outside the file: {entry}")
            last = extents[-1] if extents else Extent(0, 0, 0)
            if last.length and last.start + last.length == start and last.offset + last.length == offset:
                extents[-1] = Extent(last.start, last.length + count, last.offset)
            else:
                extents.append(Extent(start, count, offset))
    except (ValueError, LookupError, TypeError) as error:
        raise Corrupt(f"the map of the image makes no sense: {error}") from error
    return ImageMap(end, tuple(extents))
