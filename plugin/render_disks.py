"""Disks, and results of operations that make another image of one, as text for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portunix_vdisk.tasks.sizes import show_size

Object = Mapping[str, Any]


def convert(result: Object) -> list[str]:
    """The lines of ``convert``."""
    disk = result["disk"]
    if copy := result["copy"]:
        if not result["changed"]:
            return [f"{copy['path']} exists already with the present content of {disk['name']}"]
        return [f"copied {disk['name']}, compressed ({show_size(copy['bytes'])}) and verified: {copy['path']}"]
    kind = f"{'fixed ' if disk['fixed'] else ''}{disk['type']}"
    if not result["changed"]:
        return [f"{disk['name']} is a {kind} already: {disk['path']}"]
    return [f"converted {disk['name']}: it is a {kind} now, verified, {disk['path']}"]


def resize(result: Object) -> list[str]:
    """The lines of ``resize``."""
    disk = result["disk"]
    if not result["changed"]:
        return [f"{disk['name']} has {disk['size']} already"]
    before, now = result["former_size_bytes"], disk["size_bytes"]
    if before == now:  # an interrupted run had come further than it could say
        return [f"{disk['name']} has {disk['size']} now"]
    return [f"{disk['name']} is {'larger' if now > before else 'smaller'}: {disk['size']}, {show_size(before)} before"]


def clone(result: Object) -> list[str]:
    """The lines of ``clone``."""
    disk = result["disk"]
    if disk is None:
        return ["undone; nothing of it is left" if result["changed"] else "there was nothing to undo"]
    if not result["changed"]:
        return [f"{disk['name']} exists already with the content of {result['source']}: {disk['path']}"]
    how = "sharing its blocks" if result["shared"] else "verified"
    return [
        f"cloned {result['source']} to {disk['name']}, {how}: {disk['path']}",
        f"next: portunix vdisk mount {disk['name']}",
    ]


def check(result: Object) -> list[str]:
    """The lines of ``check``."""
    problems = [f"{problem['part']}: {problem['what']}" for problem in result["problems"]]
    done = [f"repaired: {line}" for line in result["repaired"]]
    return [*done, *(problems or [f"{result['disk']['name']}: nothing is wrong"])]


def owner(disk: Object) -> str:
    """Whose disk it is."""
    numbers = f"user {disk['owner']['uid']}, group {disk['owner']['gid']}"
    return numbers + (", whose files are shown as yours" if disk["shown_as_yours"] else "")


RENDERERS = {"convert": convert, "resize": resize, "clone": clone, "check": check}
