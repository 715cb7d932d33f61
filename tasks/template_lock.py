"""template lock: fill a folder as a template fills a disk, and keep what it was filled with exactly.

The folder lies beside the disks and goes when the lock is there; what was fetched for it stays in the shared cache.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from portunix_vdisk.platform.errors import Failed
from portunix_vdisk.steps.durable import fsync_folder, replace_text
from portunix_vdisk.steps.install.lock import lock_of
from portunix_vdisk.steps.install.record import Installed, read_installed
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.describe import package_json, show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.install import members_of
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.which_template import template_named
from portunix_vdisk.tasks.wishes import met, wishes


def template_lock_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``template-lock:KEY``. Raises ``BadUsage``, ``NotFound``: there is no such template."""
    template, place = template_named(session, options["template"])
    tools, packages = wishes(template.tools, template.packages, Installed())
    root = session.home.vdisk / "locking" / template.key
    members, _ = members_of(session, root, tools, packages, options)

    def prepare(ctx: Context) -> Json:
        root.mkdir(parents=True, exist_ok=True)
        return {}

    def write(ctx: Context) -> Json:
        installed = read_installed(root)
        lacking = [name for name, there in met(tools, packages, installed).items() if not there]
        if lacking and options.get("allow-missing") != "true":
            raise Failed(
                f"not to be had: {', '.join(lacking)}",
                state="no lock was written",
                hint="the same command tries again; with --allow-missing the lock is one without them",
            )
        replace_text(place, lock_of(root, installed).text)
        fsync_folder(place.parent)
        shutil.rmtree(root)
        return {
            "tools": [{"name": one.name, "version": one.version} for one in installed.tools if one.active],
            "packages": list(map(package_json, installed.packages)),
            "missing": lacking,
        }

    def result(values: Mapping[str, Values]) -> Json:
        return {"template": template.key, "lock": show_path(place), **values["write"]}

    first = Member("prepare", "make a folder to fill", prepare, lambda values: root.is_dir())
    last = Member("write", "write the lock", write, lambda values: False)
    return Graph(
        "template lock", template.key, f"lock what {template.key} installs", (place,), (first, *members, last), result
    )
