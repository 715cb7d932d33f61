"""What came out of operations about tools and packages, as text for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from portunix_vdisk.plugin.text import table

Object = Mapping[str, Any]


def _install(result: Object) -> list[str]:
    tools = [f"{one['name']} {one['version']} ({one['source']})" for one in result["tools"]]
    packages = [f"{one['language']}:{one['name']} {one['version']}" for one in result["packages"]]
    all_of_it = ", ".join([*tools, *packages]) or "nothing"
    lines = [f"{'installed on' if result['changed'] else 'up to date on'} {result['disk']}: {all_of_it}"]
    lines += [f"not installed: {one['why']}" for one in result["missing"]]
    return lines


def _uninstall(result: Object) -> list[str]:
    tools = [f"{one['name']} {one['version']}" for one in result["tools"]]
    packages = [f"{one['language']}:{one['name']} {one['version']}" for one in result["packages"]]
    return [f"removed from {result['disk']}: {', '.join([*tools, *packages])}"]


def _use(result: Object) -> list[str]:
    what = f"{result['name']} {result['version']}"
    return [f"{result['disk']} uses {what} now" if result["changed"] else f"{result['disk']} uses {what} already"]


def _outdated(result: Object) -> list[str]:
    rows = [(_named(one), one["version"], one["newest"]) for one in result["outdated"]]
    lines = table(("NAME", "VERSION", "NEWEST"), rows) if rows else []
    lines += [f"not known: {why}" for why in result["unknown"]]
    if rows:
        lines.append(f"portunix vdisk upgrade --disk {result['disk']} takes the newest")
    return lines or [f"nothing on {result['disk']} has a newer version"]


def _upgrade(result: Object) -> list[str]:
    lines = [f"{_named(one)} {one['from']} -> {one['to']}" for one in result["upgraded"]]
    lines += [f"not upgraded: {one['why']}" for one in result["missing"]]
    return lines or [f"everything on {result['disk']} is the newest already"]


def _named(one: Object) -> str:
    return f"{one['language']}:{one['name']}" if one["language"] else str(one["name"])


RENDERERS: dict[str, Callable[[Object], list[str]]] = {
    "install": _install,
    "uninstall": _uninstall,
    "use": _use,
    "outdated": _outdated,
    "upgrade": _upgrade,
}
