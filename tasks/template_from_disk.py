"""template from-disk: what is on a disk as a template, and its lock beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.durable import fsync_folder, replace_text
from portunix_vdisk.steps.install.lock import lock_of
from portunix_vdisk.steps.install.made_from import read_made_from
from portunix_vdisk.steps.install.record import read_installed
from portunix_vdisk.steps.install.scripts import digest_of_script
from portunix_vdisk.steps.step import Json
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.install import mounted_disk
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.templates.document import document_text
from portunix_vdisk.templates.template import FILE_NAME, Script, all_templates, read_templates

_UNITS = (("GB", 10**9), ("GiB", 1 << 30), ("MB", 10**6), ("MiB", 1 << 20))


def template_from_disk(session: Session, options: Mapping[str, str]) -> Json:
    """Write both files. Raises ``Refused``: one exists, nothing is installed, the disk is not mounted."""
    disk, root = mounted_disk(session, options)
    installed = read_installed(root)
    if not installed.tools and not installed.packages:
        raise Refused(f"nothing is installed on {disk.name}", state="nothing was written")
    path = session.absolute(options.get("output") or f"{disk.name}.yaml")
    key = re.sub("[^a-z0-9_-]+", "_", path.stem.lower()).strip("_-") or "mine"
    lock = path.with_name(f"{key}.vdisk.lock")
    for one in (path, lock):
        if one.exists():
            raise Refused(f"{show_path(one)} exists", state="nothing was written", hint="name another file by --output")
    made = read_made_from(root)
    scripts, lost = _scripts(session, made.scripts if made else {})
    content: dict[str, Any] = {
        "name": disk.name,
        "description": f"made from the disk {disk.name}",
        "size": _size(disk.size),
        "tools": [_named(one.name, one.asked) for one in installed.tools if one.active],
        "packages": [f"{one.language}:{_named(one.name + one.extra, one.asked)}" for one in installed.packages],
        "scripts": scripts,
        "configuration": dict(made.configuration) if made else {},
    }
    text = document_text({"templates": {key: {name: one for name, one in content.items() if one}}})
    read_templates(text.encode(), show_path(path), {})
    replace_text(lock, lock_of(root, installed).text)
    replace_text(path, text)
    fsync_folder(path.parent)
    return {"disk": disk.name, "template": key, "file": show_path(path), "lock": show_path(lock), "lost": lost}


def _named(name: str, version: str) -> str:
    return f"{name}@{version}" if version else name


def _scripts(session: Session, ran: Mapping[str, str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The scripts that ran, of the templates that are known here, and the names of those that nobody knows."""
    known: dict[tuple[str, str], Script] = {}
    for template in all_templates(session.home.root / FILE_NAME).values():
        known |= {(one.name, digest_of_script(one.run)): one for one in template.scripts}
    found = [known[pair] for pair in ran.items() if pair in known]
    shown = [{"name": one.name, "run": one.run, "network": one.network, "timeout": one.timeout} for one in found]
    return shown, [name for name, digest in ran.items() if (name, digest) not in known]


def _size(size: int) -> str:
    """Bytes as a template has them, so that the same come out again."""
    unit, factor = next((pair for pair in _UNITS if size % pair[1] == 0), ("B", 1))
    return f"{size // factor}{unit}"
