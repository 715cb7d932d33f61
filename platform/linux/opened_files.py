"""What a program of QEMU opens for an image: that file alone, whatever the image itself names.

An image belongs to the person who called sudo, and its header can be exchanged between our look at it and root's
program that opens it. So what was opened is asked for afterwards, before anybody can use it.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.platform.qmp import QmpClient


def format_node(driver: str, name: str, file: str, *, read_only: bool) -> str:
    """Options of the storage daemon for a node called ``name``: the disk in the container that node ``file`` reads."""
    options: dict[str, object] = {"driver": driver, "node-name": name, "file": file}
    options |= {"read-only": read_only, "discard": "unmap"}
    return json.dumps(options | _nothing_else(driver))


def image_of_descriptor(descriptor: int, driver: str) -> str:
    """The name under which ``qemu-img`` opens an image that it inherits, and no backing file with it."""
    file = {"driver": "file", "filename": f"/proc/self/fd/{descriptor}"}
    return "json:" + json.dumps({"driver": driver, "file": file} | _nothing_else(driver))


def _nothing_else(driver: str) -> dict[str, None]:
    # The other drivers that we use know no backing files.
    return {"backing": None} if driver == "qcow2" else {}


def refuse_other_files(monitor: QmpClient, nodes: Collection[str]) -> None:
    """Refuse what a storage daemon shows, if it is more than these ``nodes``, or the image wants another file.

    Raises:
        Refused: so it is.
        Failed: the daemon does not say.
    """
    found = monitor.execute("query-named-block-nodes", {"flat": True})
    if not isinstance(found, list) or not all(isinstance(node, dict) for node in found):
        raise Failed("the storage daemon does not say what it has opened", state="nothing is attached")
    names = [node.get("node-name") for node in found]
    # An external data file has no option that forbids it; it shows as one more node.
    if sorted(map(str, names)) != sorted(nodes) or any(_needs_another(node) for node in found):
        raise Refused(
            "the image file names another file, and did not when it was checked: somebody exchanged its header",
            state="nothing is attached; nothing of the other file was shown",
            hint="find out who writes to the image file",
        )


def _needs_another(node: dict[str, object]) -> bool:
    image = node.get("image")
    return not isinstance(image, dict) or "backing-filename" in image
