"""Results and errors as text for people. ``--json`` is the form for programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from portunix_vdisk.plugin import (
    render_archive,
    render_disks,
    render_install,
    render_keys,
    render_templates,
    render_use,
)
from portunix_vdisk.plugin.display import is_terminal
from portunix_vdisk.plugin.outcome import Problem
from portunix_vdisk.plugin.text import table
from portunix_vdisk.tasks.sizes import show_size

Object = Mapping[str, Any]
"""A result object; its schema is in ``plugin/schemas``."""

ANSWERS = frozenset(
    {
        *("list", "info", "formats", "doctor", "plugin status", "archive list", "verify", "env", "outdated"),
        *("template list", "template show", "template validate"),
    }
)
"""Operations whose result is what was asked for, so that ``--quiet`` doesn't silence it."""


def render(operation: str, result: Object) -> list[str]:
    """The lines that tell a person what came out."""
    return _RENDERERS[operation](result)


def render_problem(problem: Problem, stream: TextIO) -> list[str]:
    """Up to three lines: what failed, the state of things, what to do next."""
    error = _colour("error:", "31;1", stream)
    lines = [f"{error} {problem.what}"]
    lines += [f"  {text}" for text in (problem.state, problem.hint) if text]
    return lines


def _colour(text: str, code: str, stream: TextIO) -> str:
    wanted = is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\033[{code}m{text}\033[0m" if wanted else text


_SYSTEMS = {"linux": "Linux", "windows": "Windows", "wsl2": "WSL2 (wsl --mount --vhd)", "macos": "macOS"}


def _list(result: Object) -> list[str]:
    if "tools" in result:
        return render_use.installed(result)
    disks = result["disks"]
    if not disks:
        return ["no disks yet; make one with: portunix vdisk create --name my-dev --size 20GB"]
    rows = [
        (disk["name"], disk["size"], show_size(disk["used_bytes"]), disk["type"], _state(disk), disk["path"])
        for disk in disks
    ]
    return table(("NAME", "SIZE", "USED", "TYPE", "STATE", "PATH"), rows, frozenset({1, 2}))


def _state(disk: Object) -> str:
    if disk["problem"]:
        return f"problem: {disk['problem']}"
    if disk["mount_point"]:
        how = (" (read-only)" if disk["read_only"] else "") + (" (without root)" if disk["rootless"] else "")
        return f"mounted at {disk['mount_point']}{how}"
    if disk["device"]:
        return f"attached as {disk['device']}"
    return str(disk["state"])


def _info(result: Object) -> list[str]:
    disk = result["disk"]
    partition = disk["partition"]
    pairs = [
        ("name", disk["name"]),
        ("path", disk["path"]),
        ("size", f"{disk['size']} ({disk['size_bytes']} bytes), {show_size(disk['used_bytes'])} used on the host"),
        ("type", disk["type"] + (", fixed" if disk["fixed"] else "")),
        ("opens on", _opens_on(disk)),
        ("file system", f"{disk['file_system']}, {show_size(partition['length'])} from byte {partition['start']}"),
        ("state", _state(disk)),
        *([("next", f"stop what uses it; portunix vdisk repair {disk['name']}")] if disk["problem"] else []),
        ("created", disk["created_at"]),
        ("owner", render_disks.owner(disk)),
        ("uuid", disk["uuid"]),
        *([("encryption", render_keys.encryption(result["encryption"]))] if result["encryption"] else []),
        *(("export", f"{one['output']}, finished {one['finished_at']}") for one in result["exports"]),
    ]
    return _pairs(pairs)


def _pairs(pairs: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in pairs) + 1
    return [f"{name + ':':<{width}} {value}" for name, value in pairs]


def _create(result: Object) -> list[str]:
    disk = result["disk"]
    if disk is None:
        return _aborted(result)
    if not result["changed"]:
        return [f"{disk['name']} exists: {disk['path']}"]
    lines = [f"created {disk['name']}: {disk['size']} {disk['type']}, {disk['file_system']}, {disk['path']}"]
    lines.append(f"opens on: {_opens_on(disk)}")
    if (template := result["template"]) is not None:
        lines.append(f"filled by {template['key']}: {', '.join(template['installed'])}")
        lines += [f"not installed: {one['name']}: {one['why']}" for one in template["missing"]]
        return [*lines, f"next: portunix vdisk shell {disk['name']}"]
    return [*lines, f"next: portunix vdisk mount {disk['name']}"]


def _opens_on(disk: Object) -> str:
    return ", ".join(_SYSTEMS[system] for system in disk["opens_on"])


def _aborted(result: Object) -> list[str]:
    return ["undone; nothing of it is left" if result["changed"] else "there was nothing to undo"]


def _mount(result: Object) -> list[str]:
    if "image" in result:
        return [f"{result['image']} is mounted at {result['mount_point']}, read-only: {result['kind']}"]
    disk = result["disk"]
    how = ", read-only" if disk["read_only"] else ""
    return [f"{disk['name']} is {'' if result['changed'] else 'already '}mounted at {disk['mount_point']}{how}"]


def _unmount(result: Object) -> list[str]:
    if "archive" in result:
        return render_archive.archive_unmount(result)
    name, path = result["disk"]["name"], result["disk"]["path"]
    return [f"{name} is unmounted; {path} can be moved" if result["changed"] else f"{name} was not mounted"]


def _repair(result: Object) -> list[str]:
    disk = result["disk"]
    if not result["changed"]:
        return [f"{disk['name']} is in use and nothing is wrong with it; it is checked when it is not mounted"]
    again = f"mounted again at {disk['mount_point']}"
    return [f"{disk['name']} is whole", again if disk["mount_point"] else f"next: portunix vdisk mount {disk['name']}"]


def _sync(result: Object) -> list[str]:
    if result["dry_run"]:
        lines = [f"would {planned['action']} {planned['path']}" for planned in result["planned"]]
        more = result["planned_count"] - len(lines)
        lines += [f"and {more} more"] if more else []
        return [*(lines or ["nothing to do"]), *(f"warning: {failed}" for failed in result["failed"])]
    copied = f"{result['files_copied']} files copied ({show_size(result['bytes_copied'])})"
    counts = [
        (result["unchanged"], "unchanged"),
        (result["deleted"], "deleted"),
        (result["made_folders"], "folders made"),
        (result["linked"], "linked"),
        (result["metadata_updated"], "with new mode or time"),
    ]
    lines = [", ".join([copied, *(f"{count} {what}" for count, what in counts if count)])]
    lines += [f"warning: skipped {path}" for path in _listed(result["skipped"])]
    lines += [f"warning: changed in the target: {path}" for path in _listed(result["conflicts"])]
    return lines


def _listed(value: Any) -> list[str]:
    """A list of texts, of whatever the engine keeps lists."""
    return [str(item) for item in value] if isinstance(value, list) else []


def _compact(result: Object) -> list[str]:
    disk, after = result["disk"], show_size(result["after_bytes"])
    if result["skipped"]:
        given = result["trimmed_bytes"]
        trimmed = f"; {show_size(given)} were given back by trimming" if given else ""
        return [f"{disk['name']} was not compacted: {result['skipped']}{trimmed}"]
    if not result["changed"]:
        return [f"{disk['name']} is compact already: it takes {after}"]
    saved = f"{show_size(result['before_bytes'])} became {after}, {show_size(result['saved_bytes'])} saved"
    again = f"mounted again at {disk['mount_point']}"
    return [f"compacted {disk['name']}: {saved}, verified", *([again] if disk["mount_point"] else [])]


def _export(result: Object) -> list[str]:
    if not result["changed"]:
        return [f"{result['output']} is up to date"]
    sizes = f"{show_size(result['archive_bytes'])} for {show_size(result['data_bytes'])} of data"
    lines = [f"exported {result['disk']} to {result['output']}: {sizes}{', encrypted' if result['encrypted'] else ''}"]
    if result["generation"] > 1:
        kept = ", ".join(map(str, result["generations"]))
        lines.append(f"generation {result['generation']} added {show_size(result['added_bytes'])}; kept: {kept}")
    if result["base"]:
        lines.append(f"it holds what changed since {result['base']}; keep both")
    if result["saved_bytes"]:
        lines.append(f"writing the archive anew saved {show_size(result['saved_bytes'])}")
    if result["reused_bytes"]:
        lines.append(f"{show_size(result['reused_bytes'])} were kept from an earlier run")
    if result["excluded"]:
        lines += render_archive.left_out(result["excluded"])
    return lines


def _import(result: Object) -> list[str]:
    disk = result["disk"]
    if disk is None:
        return _aborted(result)
    if result.get("in_place"):
        said = "is now" if result["changed"] else "is already"
        lines = [
            f"{result['image']} {said} the disk {disk['name']}: {disk['size']} {disk['type']}, {disk['file_system']}"
        ]
        return [*lines, f"next: portunix vdisk mount {disk['name']}"]
    if not result["changed"] and not result.get("damage"):
        return [f"{disk['name']} exists already with this content: {disk['path']}"]
    if result.get("damage"):
        return render_archive.damage(disk, result["damage"])
    lines = [f"imported {disk['name']}: {disk['size']} {disk['type']}, verified, {disk['path']}"]
    if result.get("reused_bytes"):
        lines.append(f"{show_size(result['reused_bytes'])} were kept from an earlier run")
    return [*lines, f"next: portunix vdisk mount {disk['name']}"]


def _delete(result: Object) -> list[str]:
    if not result["deleted"]:
        return [f"{result['name']} was kept"]
    return [f"deleted {result['name']}: {result['path']}"]


def _formats(result: Object) -> list[str]:
    found, marks = result["formats"], {True: "yes", False: "-"}
    rows = [
        (
            each["type"] + (", fixed" if each["fixed"] else ""),
            each["file_system"],
            show_size(each["min_size_bytes"]),
            each["max_size"],
            marks[each["encryption"]],
            marks[each["trim"]],
            each["refused"] or ", ".join(_SYSTEMS[system].partition(" ")[0] for system in each["compatible"]),
        )
        for each in found
    ]
    lines = table(("TYPE", "FILESYSTEM", "FROM", "UP TO", "ENCRYPTED", "TRIM", "OPENS ON"), rows, frozenset({2, 3}))
    reasons = sorted({each["not_encrypted_because"] for each in found} - {None})
    lines += [f"never encrypted: {why}" for why in reasons]
    rooted = {each["file_system"]: each["not_rootless_because"] for each in found if not each["rootless"]}
    lines += [f"{fs}: not without root: {why}" for fs, why in rooted.items()]
    lost = ", ".join(sorted({each["file_system"] for each in found if not each["links"]}))
    return [*lines, f"{lost}: no links, owners, permissions; fat32: files of at most 4.3 GB"]


def _doctor(result: Object) -> list[str]:
    lines = [f"installed: {name}" for name in result["fixed"]]
    rows = [(tool["name"], tool["found"] or "missing", tool["purpose"]) for tool in result["tools"]]
    lines += table(("NAME", "FOUND", "FOR"), rows)
    for tool in result["tools"]:
        if not tool["found"]:
            install = f"; install it with: {tool['install']}" if tool["install"] else ""
            lines.append(f"without {tool['name']}: {tool['without']}{install}")
    return [*lines, "everything is there" if result["ok"] else "something is missing; try: portunix vdisk doctor --fix"]


def _plugin_status(result: Object) -> list[str]:
    if not result["running"]:
        return ["vdisk: not running (it starts by itself)"]
    lines = _pairs(
        [
            ("vdisk", f"running, version {result['version']}, process {result['pid']}"),
            ("state folder", result["home"]),
            ("started", result["started_at"]),
        ]
    )
    return lines + [f"  {one['operation']} since {one['started_at']}" for one in result["operations"]]


def _plugin_stop(result: Object) -> list[str]:
    return ["vdisk: stopped" if result["stopped"] else "vdisk: was not running"]


_RENDERERS: dict[str, Callable[[Object], list[str]]] = {
    "list": _list,
    "info": _info,
    "create": _create,
    "mount": _mount,
    "unmount": _unmount,
    "repair": _repair,
    "sync": _sync,
    "compact": _compact,
    **render_disks.RENDERERS,
    **render_templates.RENDERERS,
    **render_install.RENDERERS,
    **render_use.RENDERERS,
    "export": _export,
    "import": _import,
    "delete": _delete,
    "verify": render_archive.verify,
    "archive list": render_archive.archive_list,
    "archive prune": render_archive.archive_prune,
    "archive merge": render_archive.archive_merge,
    "archive repair": render_archive.archive_repair,
    **render_keys.RENDERERS,
    "archive rekey": render_archive.archive_rekey,
    "doctor": _doctor,
    "formats": _formats,
    "archive mount": render_archive.archive_mount,
    "archive unmount": render_archive.archive_unmount,
    "plugin status": _plugin_status,
    "plugin stop": _plugin_stop,
}
