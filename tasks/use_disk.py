"""Using what is installed on a disk: its environment, what is there, and getting it ready for a command.

The engine has no terminal. ``exec`` and ``shell`` therefore end here with the disk mounted and its environment told;
the process that the person started does the rest, and asks for ``unmount`` when ``mounted`` says so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from portunix_vdisk.platform.errors import BadUsage, Failed, Refused, VdiskError
from portunix_vdisk.steps.attaching import DetachImage, UnmountImage
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.steps.install.environment import environment
from portunix_vdisk.steps.install.made_from import read_made_from
from portunix_vdisk.steps.install.quoting import Shell
from portunix_vdisk.steps.install.record import Installed, read_installed
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.describe import disk_json, package_json, show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.mount_disk import mount_graph
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.which import attachment_of, find_disk, only_mounted_disk


def show_environment(session: Session, options: Mapping[str, str]) -> Json:
    """What a mounted disk sets. Raises ``BadUsage``, ``NotFound``, ``Refused``, ``Corrupt``."""
    shell = options.get("shell", str(Shell.SH))
    if shell not in list(Shell):
        raise BadUsage(f"--shell is {', '.join(Shell)}, not {shell!r}")
    python = _python(options)
    disk, root = _mounted(session, options)
    return {"disk": disk.name, **_environment(session, disk, root, python), "shell": shell}


def list_installed(session: Session, options: Mapping[str, str]) -> Json:
    """What is installed on a mounted disk. Raises ``NotFound``, ``Refused``, ``Corrupt``."""
    disk, root = _mounted(session, options)
    found = _record(disk, root)
    kept = ("name", "version", "source", "folder", "active")
    return {
        "disk": disk.name,
        "mount_point": show_path(root),
        "tools": [
            {**{name: getattr(tool, name) for name in kept}, "commands": sorted(tool.commands)} for tool in found.tools
        ],
        "packages": [package_json(one) for one in found.packages],
    }


def exec_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``exec:NAME``. Raises ``VdiskError``."""
    return _ready_graph(session, options, "exec")


def shell_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``shell:NAME``. Raises ``VdiskError``."""
    return _ready_graph(session, options, "shell")


def _ready_graph(session: Session, options: Mapping[str, str], operation: str) -> Graph:
    """Mount the disk unless it is, however it is, and read its environment."""
    python = _python(options)
    disk = find_disk(session, options["disk"]) if "disk" in options else only_mounted_disk(session)
    held = attachment_of(session, disk)
    mounted = held is not None and held.mount_point is not None and not held.problem
    ours = held is None or held.mount_point is None
    members = () if mounted else mount_graph(session, disk, {}).members

    def read(ctx: Context) -> Json:
        root = _mount_point(session, disk)
        try:
            return {"environment": _environment(session, disk, root, python)}
        except VdiskError:
            if ours:  # nobody wanted it mounted for its own sake
                UnmountImage(disk.path).run(ctx)
                DetachImage(disk.path).run(ctx)
            raise

    def never(values: Values) -> bool:
        return False

    return Graph(
        operation=operation,
        disk=disk.name,
        doc=f"get {disk.name} ready for use",
        locks=(disk.path,),
        members=(*members, Member("environment", "read what is installed", read, never)),
        result=lambda values: {
            "disk": disk_json(session, disk),
            "mounted": ours,
            "environment": values["environment"]["environment"],
        },
    )


def _mounted(session: Session, options: Mapping[str, str]) -> tuple[Disk, Path]:
    disk = find_disk(session, options["disk"]) if "disk" in options else only_mounted_disk(session)
    return disk, _mount_point(session, disk)


def _mount_point(session: Session, disk: Disk) -> Path:
    """Where it is mounted. Raises ``Refused``."""
    held = attachment_of(session, disk)
    if held is None or held.mount_point is None:
        raise Refused(
            f"{disk.name} is not mounted", "nothing was done", f"mount it first: portunix vdisk mount {disk.name}"
        )
    if held.problem:
        raise Refused(f"{disk.name}: {held.problem}", hint=f"portunix vdisk mount {disk.name} repairs it")
    return held.mount_point


def _environment(session: Session, disk: Disk, root: Path, python: str) -> dict[str, Json]:
    """What its result object says; warnings go to the person, too."""
    try:
        os.fspath(root).encode()
    except UnicodeEncodeError:
        wrong = "is no text (UTF-8)"
    else:
        wrong = "has a colon in it, which separates the folders of PATH" if ":" in os.fspath(root) else ""
    if wrong:
        raise Refused(
            f"the mount point {show_path(root)} {wrong}, so nothing on the disk can be found by name",
            hint=f"portunix vdisk unmount {disk.name}, and mount it at another place",
        )
    made = read_made_from(root)
    found = environment(root, _record(disk, root), made.configuration if made else {}, python)
    for warning in found.warnings:
        session.log("warning", warning)
    return {
        "root": os.fspath(root),
        "in_front": {name: list(folders) for name, folders in found.in_front.items()},
        "variables": dict(found.variables),
        "warnings": list(found.warnings),
    }


def _record(disk: Disk, root: Path) -> Installed:
    try:
        return read_installed(root)
    except OSError as error:
        raise Failed(
            f"what is installed on {disk.name} cannot be read: {error.strerror}",
            hint=f"portunix vdisk info {disk.name} tells whether something is wrong with the disk",
        ) from error


def _python(options: Mapping[str, str]) -> str:
    version = options.get("python", "")
    if version and not re.fullmatch(r"\d+\.\d+", version):
        raise BadUsage(f"--python is a version such as 3.12, not {version!r}")
    return version
