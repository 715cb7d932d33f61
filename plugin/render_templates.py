"""Templates as text for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from portunix_vdisk.plugin.text import table
from portunix_vdisk.tasks.sizes import show_size

Object = Mapping[str, Any]


def _list(result: Object) -> list[str]:
    rows = [(one["key"], one["size"], one["name"], one["origin"]) for one in result["templates"]]
    return table(("TEMPLATE", "SIZE", "NAME", "FROM"), rows, frozenset({1}))


def _show(result: Object) -> list[str]:
    one = result["template"]
    lines = [f"{one['key']}: {one['name']}" + (f" ({one['description']})" if one["description"] else "")]
    lines += [f"size:     {show_size(one['size_bytes'])}"]
    lines += [f"tools:    {', '.join(map(_named, one['tools']))}"] if one["tools"] else []
    lines += [f"packages: {', '.join(map(_named, one['packages']))}"] if one["packages"] else []
    for script in one["scripts"]:
        network = ", with the network" if script["network"] else ""
        lines += [f"script:   {script['name']} (at most {script['timeout']} s{network})"]
        lines += [f"          | {line}" for line in script["run"].splitlines()]
    lines += [f"sets:     {name}={value}" for name, value in one["configuration"].items()]
    return [*lines, f"from:     {one['origin']}"]


def _validate(result: Object) -> list[str]:
    keys = [one["key"] for one in result["templates"]]
    return [f"{result['file']} is right: {', '.join(keys) or 'no templates'}"]


def _lock(result: Object) -> list[str]:
    count = len(result["tools"]) + len(result["packages"])
    lines = [f"{result['lock']}: {count} tools and packages of {result['template']}, exactly"]
    lines += [f"without {', '.join(result['missing'])}"] if result["missing"] else []
    return [*lines, f"portunix vdisk create --name NAME --template {result['template']} --locked uses it"]


def _from_disk(result: Object) -> list[str]:
    lines = [f"{result['disk']} is the template {result['template']} in {result['file']}, its lock {result['lock']}"]
    if result["lost"]:
        lines.append(f"not in it: {', '.join(result['lost'])}, scripts of a template that is not here")
    return [*lines, f"portunix vdisk create --name NAME --template {result['file']} --locked makes the same again"]


def _named(one: Object) -> str:
    language = f"{one['language']}:" if one.get("language") else ""
    version = f"@{one['version']}" if one["version"] else ""
    return f"{language}{one['name']}{version}"


RENDERERS: dict[str, Callable[[Object], list[str]]] = {
    "template list": _list,
    "template show": _show,
    "template validate": _validate,
    "template lock": _lock,
    "template from-disk": _from_disk,
}
