"""install: of each tool, members that resolve, unpack and record it; one fetches for all, in parallel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from portunix_vdisk.platform.base import FileSystemType
from portunix_vdisk.platform.errors import BadUsage, Refused, VdiskError
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.steps.install.downloads import fetch_all
from portunix_vdisk.steps.install.folders import refuse_links
from portunix_vdisk.steps.install.languages.language import Place
from portunix_vdisk.steps.install.lock import Lock
from portunix_vdisk.steps.install.packages import InstallPackages, is_whole
from portunix_vdisk.steps.install.put import STAGING, Activate, Unpack, clean_staging
from portunix_vdisk.steps.install.record import InstalledTool, read_installed
from portunix_vdisk.steps.install.resolve import NotToBeHad, resolve
from portunix_vdisk.steps.install.shims import has_shims
from portunix_vdisk.steps.install.tool import Artifact, Plan
from portunix_vdisk.steps.install.web import Web
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.describe import package_json, show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.network import passed_on, proxy_of
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.which import attachment_of, disk_at, find_disk, only_mounted_disk
from portunix_vdisk.tasks.wishes import TOOLS_OF, PackageWish, ToolWish, comes_along, wishes_of

CACHE = "cache"
"""Folder beside the disks of what was fetched."""


@dataclass(slots=True)
class _Work:
    """What the members of one run hand to each other."""

    root: Path
    place: Place
    web: Web
    lock: Lock | None = None
    upgrade: bool = False
    plans: dict[str, Plan] = field(default_factory=dict)
    unpacked: dict[str, InstalledTool] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    changed: bool = False

    def has(self, plan: Plan) -> bool:
        """Whether this version is on the disk, active or not."""
        known = [(one.name, one.version) for one in read_installed(self.root).tools]
        return (plan.name, plan.version) in known and (self.root / plan.folder).is_dir()


def install_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``install:NAME``. Raises ``VdiskError`` for a request that cannot be."""
    disk, root = mounted_disk(session, options)
    tools, packages = wishes_of(options["names"].split(), read_installed(root))
    return graph_of(session, disk, root, tools, packages, options)


def graph_of(
    session: Session,
    disk: Disk,
    root: Path,
    tools: Sequence[ToolWish],
    packages: Sequence[PackageWish],
    options: Mapping[str, str],
) -> Graph:
    """The graph that makes a disk have these tools and packages."""
    members, result = members_of(session, root, tools, packages, options)

    def at_its_place(member: Member) -> Member:
        def run(ctx: Context) -> Json:
            refuse_elsewhere(session, disk, root)
            return member.run(ctx)

        return replace(member, run=run)

    return Graph(
        operation="install",
        disk=disk.name,
        doc=f"install {', '.join([*(one.name for one in tools), *(one.name for one in packages)])}",
        locks=(disk.path,),
        members=tuple(map(at_its_place, members)),
        result=lambda values: {"disk": disk.name, **result()},
    )


def members_of(
    session: Session,
    root: Path,
    tools: Sequence[ToolWish],
    packages: Sequence[PackageWish],
    options: Mapping[str, str],
    lock: Lock | None = None,
) -> tuple[list[Member], Callable[[], dict[str, Json]]]:
    """The members that make the disk at ``root`` have these, and what tells their result afterwards.

    With ``lock``, exactly what stands there is taken, and nobody is asked what there is.
    """
    upgrade = options.get("upgrade") == "true"
    work = _Work(root, place_of(session, root, options), web_of(session, options), lock, upgrade)

    def is_there(wish: ToolWish) -> bool:
        installed = read_installed(root)
        active = installed.active(wish.name)
        return wish.is_met(installed, tools) and (
            active is None or ((root / active.folder).is_dir() and has_shims(root, active))
        )

    def done(*wishes: ToolWish) -> Callable[[Values], bool]:
        def look(values: Values) -> bool:
            if work.upgrade:
                return False
            try:
                return all(map(is_there, wishes))
            except (OSError, VdiskError):
                return False  # running it says what is wrong

        return look

    by_language: dict[str, list[PackageWish]] = {}
    for one in packages:
        by_language.setdefault(one.language, []).append(one)

    def packages_done(wishes: Sequence[PackageWish]) -> Callable[[Values], bool]:
        def look(values: Values) -> bool:
            if work.upgrade:
                return False
            try:
                installed = read_installed(root)
                return all(one.is_met(installed) and is_whole(root, one.language) for one in wishes)
            except (OSError, VdiskError):
                return False

        return look

    members = [
        *(
            Member(
                f"{wish.name}:resolve", f"choose a version of {wish.name}", _resolver(work, wish, options), done(wish)
            )
            for wish in tools
        ),
        Member("fetch", "fetch what is not in the cache", _fetcher(work), done(*tools)),
    ]
    for wish in tools:
        members.append(Member(f"{wish.name}:unpack", f"unpack {wish.name}", _unpacker(work, wish), done(wish)))
        members.append(Member(f"{wish.name}:record", f"make {wish.name} usable", _recorder(work, wish), done(wish)))

    for language, some in by_language.items():
        names = ", ".join(one.name for one in some)
        run = _packager(work, language, some)
        members.append(Member(f"{language}:packages", f"install {names} by {language}", run, packages_done(some)))

    def result() -> dict[str, Json]:
        installed = read_installed(root)
        active = [one for wish in tools if (one := installed.active(wish.name))]
        return {
            "mount_point": show_path(root),
            "tools": [{"name": one.name, "version": one.version, "source": one.source} for one in active],
            "packages": [
                package_json(one) for one in installed.packages if any(wish.is_that(one) for wish in packages)
            ],
            "missing": [{"name": name, "why": why} for name, why in work.missing.items()],
            "changed": work.changed,
        }

    return members, result


def web_of(session: Session, options: Mapping[str, str]) -> Web:
    """What asks servers, with the cache that all disks share."""
    stop = session.context("").safe_point
    return Web(session.home.vdisk / CACHE, stop, offline=options.get("offline") == "true", proxy_of=proxy_of)


def place_of(session: Session, root: Path, options: Mapping[str, str]) -> Place:
    """Where packages are installed, with the same cache."""
    return Place(root, session.home.vdisk / CACHE, options.get("offline") == "true", passed_on())


def mounted_disk(session: Session, options: Mapping[str, str], *, writing: bool = True) -> tuple[Disk, Path]:
    """The disk that a person means, and where it is mounted (so that it can be written to). Raises ``VdiskError``."""
    if target := options.get("target"):
        found = disk_at(session, session.absolute(target))
        if found is None:
            raise Refused(
                f"{show_path(session.absolute(target))} is not on a mounted disk",
                state="nothing was installed",
                hint="mount the disk first; portunix vdisk list shows where disks are mounted",
            )
        disk = found[0]
        if options.get("disk") and find_disk(session, options["disk"]).uuid != disk.uuid:
            raise BadUsage(
                f"--target is on {disk.name}, which is not the disk of --disk", state="nothing was installed"
            )
    else:
        disk = find_disk(session, options["disk"]) if options.get("disk") else only_mounted_disk(session)
    held = attachment_of(session, disk)
    if held is None or held.mount_point is None:
        raise Refused(
            f"{disk.name} is not mounted", state="nothing was installed", hint=f"portunix vdisk mount {disk.name}"
        )
    if held.problem:
        raise Refused(f"{disk.name}: {held.problem}", hint=f"portunix vdisk mount {disk.name} repairs it")
    if held.read_only and writing:
        raise Refused(f"{disk.name} is mounted for reading only", hint=f"portunix vdisk unmount {disk.name} first")
    if writing and disk.file_system in (FileSystemType.FAT32, FileSystemType.EXFAT):
        raise Refused(
            f"{disk.name} has {disk.file_system}, which keeps neither links nor what is a program: no tool runs there",
            state="nothing was installed",
            hint="make a disk with ext4, or with ntfs (--portable) if Windows should read it",
        )
    refuse_links(held.mount_point)
    return disk, held.mount_point


def refuse_elsewhere(session: Session, disk: Disk, root: Path) -> None:
    """Under the disk's lock: refuse if it was unmounted meanwhile, or mounted elsewhere. Raises ``Refused``.

    What lies at ``root`` then is a folder of this machine.
    """
    held = attachment_of(session, disk)
    if held is None or held.mount_point != root or held.problem:
        raise Refused(
            f"{disk.name} is not mounted at {show_path(root)} any more",
            state="nothing was done",
            hint=f"portunix vdisk mount {disk.name}, then run the same command again",
        )


def _resolver(work: _Work, wish: ToolWish, options: Mapping[str, str]) -> Callable[[Context], Json]:
    def run(ctx: Context) -> Json:
        clean_staging(work.root)
        if not wish.version and comes_along(wish.name, [plan.commands for plan in work.plans.values()]):
            return {"comes_along": True}
        known = work.lock.installed.active(wish.name) if work.lock else None
        try:
            plan = known.plan if known else resolve(wish.wanted, work.web, work.root / STAGING, ctx)
        except NotToBeHad as error:
            if options.get("allow-missing") != "true":
                raise
            ctx.warn(error.what)
            work.missing[wish.name] = error.what
            return {"missing": error.what}
        work.plans[wish.name] = plan
        return {"version": plan.version, "source": plan.source}

    return run


def _fetcher(work: _Work) -> Callable[[Context], Json]:
    def run(ctx: Context) -> Json:
        artifacts: dict[Artifact, None] = {}
        for plan in work.plans.values():
            if not work.has(plan):
                artifacts |= dict.fromkeys(plan.artifacts)
        return {"bytes": fetch_all(list(artifacts), work.web, ctx)}

    return run


def _unpacker(work: _Work, wish: ToolWish) -> Callable[[Context], Json]:
    def run(ctx: Context) -> Json:
        plan = work.plans.get(wish.name)
        if plan is None:
            return {}
        known = work.lock.installed.active(wish.name) if work.lock else None
        tool = known or InstalledTool.of(plan, wish.version)
        if work.has(plan):
            (there,) = (one for one in read_installed(work.root).tools if one.folder == plan.folder)
            tool = replace(there, active=True, asked=tool.asked)
        else:
            Unpack(work.root, plan, work.web).run(ctx)
        work.unpacked[wish.name] = tool
        return {"version": plan.version}

    return run


def _packager(work: _Work, language: str, wishes: Sequence[PackageWish]) -> Callable[[Context], Json]:
    def run(ctx: Context) -> Json:
        if gone := [name for name in TOOLS_OF[language] if name in work.missing]:
            raise Refused(
                f"packages of {language} need {gone[0]}, which is not there", state="none of them was installed"
            )
        work.changed = True
        wanted = {one.name: one.version for one in wishes}
        return dict(InstallPackages(work.place, language, wanted, work.upgrade, work.lock).run(ctx))

    return run


def _recorder(work: _Work, wish: ToolWish) -> Callable[[Context], Json]:
    def run(ctx: Context) -> Json:
        tool = work.unpacked.get(wish.name)
        if tool is None:
            return {}
        work.changed = True
        return dict(Activate(work.root, tool).run(ctx))

    return run
