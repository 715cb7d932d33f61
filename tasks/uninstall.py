"""uninstall and use: what is on a disk already goes, or becomes what its commands mean."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from portunix_vdisk.platform.errors import NotFound
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.steps.durable import fsync_folder
from portunix_vdisk.steps.install.packages import RemovePackages
from portunix_vdisk.steps.install.put import STAGING, clean_staging
from portunix_vdisk.steps.install.record import (
    Installed,
    InstalledPackage,
    InstalledTool,
    read_installed,
)
from portunix_vdisk.steps.install.remember import remember
from portunix_vdisk.steps.install.shims import has_shims
from portunix_vdisk.steps.install.tool import fits
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.describe import package_json
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.install import mounted_disk, place_of, refuse_elsewhere
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.templates.recipe import built_in_recipes
from portunix_vdisk.templates.template import Package, read_package


def uninstall_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``uninstall:NAME``. Raises ``NotFound``: something is not on the disk, so that nothing is done."""
    disk, root = mounted_disk(session, options)
    installed = read_installed(root)
    tools: list[InstalledTool] = []
    packages: list[InstalledPackage] = []
    for text in options["names"].split():
        some, others = named_on(disk, installed, text)
        tools += some
        packages += others

    def remove(ctx: Context) -> Json:
        refuse_elsewhere(session, disk, root)
        # Packages first: the tools that remove them may be among those that go.
        place = place_of(session, root, options)
        for language in sorted({one.language for one in packages}):
            RemovePackages(place, language, tuple(one.name for one in packages if one.language == language)).run(ctx)
        for tool in tools:
            _remove(root, tool)
        return {}

    def result(values: Mapping[str, Values]) -> Json:
        return {
            "disk": disk.name,
            "tools": [{"name": one.name, "version": one.version} for one in tools],
            "packages": list(map(package_json, packages)),
        }

    named = ", ".join([*(one.name for one in tools), *(one.name for one in packages)])
    member = Member("remove", "remove what is not wanted any more", remove, lambda values: False)
    return Graph("uninstall", disk.name, f"remove {named}", (disk.path,), (member,), result)


def named_on(disk: Disk, installed: Installed, text: str) -> tuple[list[InstalledTool], list[InstalledPackage]]:
    """What a word of a person means of what is there. Raises ``NotFound``: nothing."""
    wanted = read_package(text)
    tools, packages = _tools(installed, wanted), _packages(installed, wanted)
    if not tools and not packages:
        raise NotFound(f"{text} is not on {disk.name}", state="nothing was changed", hint=_what_is_there(installed))
    return tools, packages


def use_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``use:NAME``. Raises ``NotFound``: that version is not on the disk."""
    disk, root = mounted_disk(session, options)
    wanted = read_package(options["tool"])
    there = [one for one in read_installed(root).tools if one.name == _recipe_name(wanted.name)]
    found = [one for one in there if fits(one.version, wanted.version)]
    if not found:
        versions = ", ".join(one.version for one in there)
        raise NotFound(
            f"{options['tool']} is not on {disk.name}",
            state=f"it has {wanted.name} {versions}" if versions else "nothing was changed",
            hint=f"portunix vdisk install {options['tool']} --disk {disk.name}",
        )
    chosen = found[-1]

    def switch(ctx: Context) -> Json:
        refuse_elsewhere(session, disk, root)
        installed = read_installed(root).with_tool(replace(chosen, active=True))
        remember(root, installed)
        return {}

    def done(values: Values) -> bool:
        return chosen.active and has_shims(root, chosen)

    def result(values: Mapping[str, Values]) -> Json:
        return {"disk": disk.name, "name": chosen.name, "version": chosen.version, "changed": not chosen.active}

    member = Member("switch", f"let commands mean {chosen.name} {chosen.version}", switch, done)
    return Graph("use", disk.name, f"use {chosen.name} {chosen.version}", (disk.path,), (member,), result)


def _remove(root: Path, tool: InstalledTool) -> None:
    """Forget a tool first, so that nothing half removed is ever meant by a command. Its last version follows it."""
    installed = read_installed(root).without_tool(tool.name, tool.version)
    left = [one for one in installed.tools if one.name == tool.name]
    if left and not any(one.active for one in left):
        installed = installed.with_tool(replace(left[-1], active=True))
    remember(root, installed)
    clean_staging(root)
    folder = root / tool.folder
    if folder.is_dir():
        staging = root / STAGING
        staging.mkdir(parents=True)
        folder.rename(staging / folder.name)
        fsync_folder(folder.parent)
        shutil.rmtree(staging)
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()


def _recipe_name(name: str) -> str:
    """A tool's name by another name of it."""
    recipe = built_in_recipes().get(name)
    return recipe.name if recipe else name


def _tools(installed: Installed, wanted: Package) -> list[InstalledTool]:
    if wanted.language:
        return []
    name = _recipe_name(wanted.name)
    return [one for one in installed.tools if one.name == name and fits(one.version, wanted.version)]


def _packages(installed: Installed, wanted: Package) -> list[InstalledPackage]:
    return [
        one
        for one in installed.packages
        if one.name == wanted.name
        and wanted.language in ("", one.language)
        and fits(one.version.removeprefix("v"), wanted.version.removeprefix("v"))
    ]


def _what_is_there(installed: Installed) -> str:
    names = [f"{one.name}@{one.version}" for one in installed.tools]
    names += [f"{one.language}:{one.name}" for one in installed.packages]
    return f"there are: {', '.join(names)}" if names else "nothing is installed there"
