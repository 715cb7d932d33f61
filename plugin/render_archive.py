"""Results of the operations that look after archives, as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portunix_vdisk.plugin.text import table
from portunix_vdisk.tasks.sizes import show_size

Object = Mapping[str, Any]


def archive_list(result: Object) -> list[str]:
    """What an archive holds."""
    facts = [
        f"{result['disk']}, {result['type']}, {show_size(result['size_bytes'])}",
        show_size(result["archive_bytes"]),
    ]
    facts += ["encrypted"] if result["encrypted"] else []
    facts += [f"{result['volumes']} volumes"] if result["volumes"] else []
    facts += [f"holds only what changed since {result['base']}"] if result["base"] else []
    rows = [
        (str(one["generation"]), one["finished_at"], show_size(one["data_bytes"]), show_size(one["added_bytes"]))
        for one in result["generations"]
    ]
    lines = [f"{result['archive']}: {', '.join(facts)}"]
    lines += table(("GENERATION", "FINISHED", "DATA", "ADDED"), rows, frozenset({0, 2, 3}))
    if cleaned := [one["generation"] for one in result["generations"] if one["without_caches"]]:
        lines.append(f"exported with --exclude-cache, so without caches: {_numbers(cleaned)}")
    if result["cut_off_bytes"]:
        lines.append(f"an update did not finish ({show_size(result['cut_off_bytes'])}); export again to finish it")
    if result["dead_bytes"] > result["archive_bytes"] // 10:
        lines.append(f"{show_size(result['dead_bytes'])} are needed by no generation; archive prune frees them")
    return lines


def left_out(excluded: Object) -> list[str]:
    """What an export left out, by rule."""
    if not excluded["rules"]:
        return ["there was nothing to leave out"]
    rows = [(one["rule"], str(one["files"]), show_size(one["bytes"])) for one in excluded["rules"]]
    total = f"left out: {excluded['files']} files, {show_size(excluded['bytes'])}"
    return [total, *table(("RULE", "FILES", "SIZE"), rows, frozenset({1, 2}))]


def verify(result: Object) -> list[str]:
    """That an archive is whole."""
    what = "directory, index and headers" if result["quick"] else f"every chunk, {show_size(result['checked_bytes'])}"
    lines = [f"{result['archive']} is whole: {what}; generations: {_numbers(result['generations'])}"]
    if result["cut_off_bytes"]:
        lines.append(f"an update did not finish ({show_size(result['cut_off_bytes'])}); export again to finish it")
    return lines


def archive_prune(result: Object) -> list[str]:
    """What pruning saved."""
    if not result["saved_bytes"] and not result["dropped"]:
        return [f"{result['archive']}: there was nothing to prune; generations: {_numbers(result['generations'])}"]
    dropped = f"dropped generation {_numbers(result['dropped'])}, " if result["dropped"] else ""
    sizes = f"saved {show_size(result['saved_bytes'])}, {show_size(result['archive_bytes'])} are left"
    return [f"{result['archive']}: {dropped}{sizes}; kept: {_numbers(result['generations'])}"]


def archive_merge(result: Object) -> list[str]:
    """What was made of which archives."""
    if not result["changed"]:
        return [f"{result['output']} exists already with this content"]
    lines = [
        f"merged {', '.join(result['merged'])} to {result['output']}: {show_size(result['archive_bytes'])}, verified"
    ]
    if result["reused_bytes"]:
        lines.append(f"{show_size(result['reused_bytes'])} were kept from an earlier run")
    return lines


def archive_repair(result: Object) -> list[str]:
    """What was mended, and what is lost."""
    damaged, checked = result["damaged_chunks"], show_size(result["checked_bytes"])
    documents = [f"mended: {name}" for name in result["mended_documents"]]
    documents += [f"lost: {name}" for name in result["damaged_documents"]]
    if not damaged and not result["damaged_generations"]:
        return [*documents, f"{result['archive']} is whole: every chunk, {checked}"]
    ways = [(result["mended_in_place"], "mended in place"), (result["appended_chunks"], "appended")]
    done = ", ".join(f"{count} {how}" for count, how in ways if count) or "none mended"
    lines = [*documents, f"{result['archive']}: {damaged} damaged chunks, {done}"]
    lines += [
        f"lost: chunk at disk offset {one['offset']} of generation {_numbers(one['generations'])}"
        for one in result["lost"]
    ]
    more = result["lost_chunks"] - len(result["lost"])
    lines += [f"and {more} more"] if more else []
    return [*lines, f"whole generations: {_numbers(result['whole_generations']) or 'none'}"]


def damage(disk: Object, found: Object) -> list[str]:
    """What of an imported disk is not what it was."""
    lines = [f"imported {disk['name']}, but for what was damaged: {disk['path']}"]
    lines += [f"damaged: {path}" for path in found["files"]]
    more = found["file_count"] - len(found["files"])
    lines += [f"and {more} more"] if more else []
    lines += [f"damaged, of the filesystem itself: {part}" for part in found["structures"]]
    return [*lines, f"look at it: portunix vdisk mount {disk['name']} --read-only"]


def archive_rekey(result: Object) -> list[str]:
    """That the password is another one."""
    return [f"{result['archive']} has its new password; copies made before still open with the former one"]


def archive_mount(result: Object) -> list[str]:
    """Where an archive's files are."""
    already = "" if result["changed"] else "already "
    return [
        f"{result['archive']} is {already}mounted at {result['mount_point']}, read-only: "
        f"disk {result['disk']}, {result['size']}, {result['file_system']}, generation {result['generation']}",
        f"when done: portunix vdisk unmount {result['mount_point']}",
    ]


def archive_unmount(result: Object) -> list[str]:
    """That they are no longer there."""
    return [f"{result['archive']} is unmounted" if result["changed"] else f"{result['archive']} was not mounted"]


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
