"""outdated and upgrade: newer versions of what is on a disk, within what was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from portunix_vdisk.platform.errors import NotFound, VdiskError
from portunix_vdisk.steps.install.languages import LANGUAGES
from portunix_vdisk.steps.install.record import Installed, InstalledTool, read_installed
from portunix_vdisk.steps.install.resolve import resolve
from portunix_vdisk.steps.step import Json
from portunix_vdisk.tasks.graph import Graph, Values
from portunix_vdisk.tasks.install import graph_of, mounted_disk, place_of, web_of
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.uninstall import named_on
from portunix_vdisk.tasks.wishes import PackageWish, ToolWish
from portunix_vdisk.templates.recipe import built_in_recipes


def show_outdated(session: Session, options: Mapping[str, str]) -> Json:
    """What has a newer version, and the one that ``upgrade`` would take. Raises ``VdiskError``."""
    disk, root = mounted_disk(session, options, writing=False)
    installed = read_installed(root)
    ctx = session.context("outdated")
    web = web_of(session, options)
    found: list[dict[str, str]] = []
    unknown: list[str] = []
    scratch = session.home.run / "outdated"
    try:
        for tool in _upgradable(installed):
            wish = ToolWish(built_in_recipes()[tool.name], tool.asked)
            try:
                newest = resolve(wish.wanted, web, scratch, ctx).version
            except VdiskError as error:
                unknown.append(error.what)
                continue
            if newest != tool.version:
                found.append({"language": "", "name": tool.name, "version": tool.version, "newest": newest})
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    place = place_of(session, root, options)
    for language in dict.fromkeys(one.language for one in installed.packages):
        here = {one.name: one for one in installed.of(language)}
        try:
            newer = LANGUAGES[language].newer(place, list(here), ctx)
        except VdiskError as error:
            unknown.append(error.what)
            continue
        found += [
            {"language": language, "name": name, "version": here[name].version, "newest": newest}
            for name, newest in newer.items()
        ]
    return {"disk": disk.name, "outdated": found, "unknown": unknown}


def upgrade_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``upgrade:NAME``. Raises ``NotFound``: something is not on the disk, so that nothing is done."""
    disk, root = mounted_disk(session, options)
    before = read_installed(root)
    tools, packages = _upgradable(before), list(before.packages)
    if options.get("names"):
        tools, packages = [], []
        for text in options["names"].split():
            some, others = named_on(disk, before, text)
            tools += [one for one in some if one in _upgradable(before)]
            packages += others
    if not tools and not packages:
        raise NotFound(f"there is nothing on {disk.name} that could be upgraded", state="nothing was done")
    wished = [ToolWish(built_in_recipes()[one.name], one.asked) for one in tools]
    libraries = [PackageWish(one.language, one.name + one.extra, one.asked) for one in packages]
    graph = graph_of(session, disk, root, wished, libraries, {**options, "upgrade": "true"})

    def result(values: Mapping[str, Values]) -> Json:
        after = read_installed(root)
        told = graph.result(values)
        assert isinstance(told, Mapping)
        return {"disk": disk.name, "upgraded": _changes(before, after), "missing": told["missing"]}

    return Graph("upgrade", disk.name, graph.doc.replace("install", "upgrade", 1), graph.locks, graph.members, result)


def _upgradable(installed: Installed) -> list[InstalledTool]:
    """Tools that a recipe knows, in the versions that commands mean."""
    return [one for one in installed.tools if one.active and one.name in built_in_recipes()]


def _changes(before: Installed, after: Installed) -> list[dict[str, str]]:
    """What has another version now."""
    found = [
        {"language": "", "name": one.name, "from": was.version, "to": one.version}
        for one in after.tools
        if one.active and (was := before.active(one.name)) and was.version != one.version
    ]
    known = {(one.language, one.name): one.version for one in before.packages}
    found += [
        {"language": one.language, "name": one.name, "from": known[one.language, one.name], "to": one.version}
        for one in after.packages
        if known.get((one.language, one.name), one.version) != one.version
    ]
    return found
