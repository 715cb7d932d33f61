"""Operations that only look: list, info, formats, doctor."""

from __future__ import annotations

from collections.abc import Mapping

from portunix_vdisk.platform.base import ImageType
from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.platform.formats import FILE_SYSTEMS, Cell, cells
from portunix_vdisk.steps.sizes import show_size
from portunix_vdisk.steps.step import Json
from portunix_vdisk.tasks.describe import disk_json, show_path
from portunix_vdisk.tasks.key_slots import encryption_json
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.use_disk import list_installed
from portunix_vdisk.tasks.which import find_disk


def list_disks(session: Session, options: Mapping[str, str]) -> Json:
    """Every disk in the catalog, with what it is doing now; with ``tools``, what is installed on one.

    Raises ``BadUsage``, ``NotFound``, ``Refused``, ``Corrupt``.
    """
    if options.get("tools") == "true":
        return list_installed(session, options)
    if "disk" in options:
        name = options["disk"]
        raise BadUsage(
            "list shows all disks", hint=f"portunix vdisk info {name}, or portunix vdisk list --tools {name}"
        )
    return {"disks": [disk_json(session, disk) for disk in session.catalog.all()]}


def info(session: Session, options: Mapping[str, str]) -> Json:
    """One disk and its exports. Raises ``NotFound``, ``Refused``."""
    disk = find_disk(session, options["disk"])
    exports: list[Json] = [
        {"output": show_path(export.output), "finished_at": export.finished_at, "root": export.root}
        for export in session.catalog.exports(disk.uuid)
    ]
    return {"disk": disk_json(session, disk), "encryption": encryption_json(session, disk), "exports": exports}


def formats(session: Session, options: Mapping[str, str]) -> Json:
    """Every image type with every filesystem: how large, where it opens, what it can. Never raises."""
    return {"formats": [_cell_json(each) for each in cells()]}


def _cell_json(found: Cell) -> Json:
    """The specification's keys first, then ours."""
    inside = FILE_SYSTEMS[found.file_system]
    return {
        "type": found.type.extension,
        "compression": found.compression,
        "encryption": found.encryption,
        "max_size": show_size(found.largest),
        "compatible": [str(system) for system in found.opens],
        "fixed": found.type is ImageType.VHD_FIXED,
        "file_system": str(found.file_system),
        "max_size_bytes": found.largest,
        "min_size_bytes": found.smallest,
        "trim": found.trim,
        "snapshots": found.snapshots,
        "links": inside.links,
        "modes": inside.modes,
        "rootless": not inside.rooted,
        "not_rootless_because": inside.rooted or None,
        "max_file_bytes": inside.largest_file,
        "not_encrypted_because": found.unencrypted or None,
        "refused": found.refused or None,
    }


def doctor(session: Session, options: Mapping[str, str]) -> Json:
    """Every host tool and privilege. With ``fix``, installs what is missing. Raises ``Missing``, ``ToolFailed``."""
    fixed: list[str] = []
    tools = session.platform.host_tools()
    if options.get("fix") == "true":
        fixed = session.platform.install([tool for tool in tools if tool.found is None])
        tools = session.platform.host_tools()
    return {
        "tools": [
            {
                "name": tool.name,
                "purpose": tool.purpose,
                "without": tool.without,
                "found": tool.found,
                "install": " ".join(tool.install) or None,
            }
            for tool in tools
        ],
        "ok": all(tool.found for tool in tools),
        "fixed": list(fixed),
    }
