"""create --template: create → mount → install → scripts → settle → unmount.

A disk is ready as soon as it is created; what a template adds is put onto it mounted, like by ``install``. That all of
it is there is known by the journal and by the disk itself, so that doing it again mounts nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from portunix_vdisk.platform.base import Attachment
from portunix_vdisk.platform.errors import BadUsage, Failed, Refused, VdiskError
from portunix_vdisk.steps.attaching import DetachImage, UnmountImage
from portunix_vdisk.steps.install.environment import environment
from portunix_vdisk.steps.install.folders import refuse_links
from portunix_vdisk.steps.install.lock import Lock
from portunix_vdisk.steps.install.made_from import MadeFrom, read_made_from, write_made_from
from portunix_vdisk.steps.install.record import Installed, read_installed
from portunix_vdisk.steps.install.remember import remember
from portunix_vdisk.steps.install.scripts import RunScript, digest_of_script
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.adapter import saved_values
from portunix_vdisk.tasks.create_disk import create_graph, known_disk
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.install import members_of, refuse_elsewhere
from portunix_vdisk.tasks.mount_disk import mount_graph
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.which import attachment_of
from portunix_vdisk.tasks.which_template import lock_of_template, template_named
from portunix_vdisk.tasks.wishes import PackageWish, ToolWish, met, wishes
from portunix_vdisk.templates.recipe import find_recipe
from portunix_vdisk.templates.template import BUILT_IN, Script, Template

_OURS = ("template", "allow-missing", "offline", "locked")
"""Parameters of ``create`` that are about the template."""


def create_any_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``create:NAME``, with or without a template. Raises ``VdiskError``."""
    options = {**session.configuration.disks.get(options["name"], {}), **options}
    plain = {name: text for name, text in options.items() if name not in _OURS}
    if "template" not in options:
        if "locked" in options:
            raise BadUsage("--locked is about the lock of a template, and no template is named")
        return create_graph(session, plain)
    template, place = template_named(session, options["template"])
    lock = lock_of_template(template, place) if options.get("locked") == "true" else None
    if "size" not in plain and session.catalog.get(options["name"]) is None:
        plain["size"] = template.size
    return _Filling(session, template, options, lock).graph(create_graph(session, plain))


@dataclass(slots=True)
class _Filling:
    """One disk that a template fills."""

    session: Session
    template: Template
    options: Mapping[str, str]
    lock: Lock | None
    mounted_by_us: bool = False

    @property
    def name(self) -> str:
        return self.options["name"]

    @property
    def digest(self) -> str:
        """Of everything that the template and its lock say: another text is another template."""
        said = repr(replace(self.template, origin="")) + (self.lock.digest if self.lock else "")
        return hashlib.sha256(said.encode()).hexdigest()

    def graph(self, base: Graph) -> Graph:
        """All members. Raises ``VdiskError``: something is named that cannot be."""
        tools, packages = wishes(self.template.tools, self.template.packages, Installed())
        root = self._root()
        # A tool that cannot be had keeps nothing else from being installed; the last member says so.
        options = {**self.options, "allow-missing": "true"}
        members, _ = members_of(self.session, root, *self._exactly(tools, packages), options, self.lock)

        def told(values: Mapping[str, Values]) -> Json:
            made = base.result(values)
            assert isinstance(made, Mapping)
            return {**made, "changed": bool(self.session.ran), "template": self._told(values.get("settle", {}))}

        scripts = self.template.scripts
        return Graph(
            operation="create",
            disk=self.name,
            doc=f"{base.doc}, filled by the template {self.template.key}",
            locks=base.locks,
            members=(
                *([self._member("trust", "ask before scripts of others run", self._trust)] if scripts else []),
                *base.members,
                self._member("mount", "mount it to fill it", self._mount),
                *(self._unless_settled(one, root) for one in members),
                self._member("configure", "write what the template sets", lambda ctx: self._configure(root)),
                *(self._script(root, number, one) for number, one in enumerate(scripts)),
                self._member("settle", "see that all is there", lambda ctx: self._settle(root, tools, packages)),
                Member("unmount", "unmount it again", self._unmount, lambda values: not self.mounted_by_us),
            ),
            result=told,
        )

    def _exactly(
        self, tools: Sequence[ToolWish], packages: Sequence[PackageWish]
    ) -> tuple[Sequence[ToolWish], Sequence[PackageWish]]:
        """What the lock has instead of what the template wishes. Raises ``Refused``: it is not that template's lock."""
        if self.lock is None:
            return tools, packages
        there = self.lock.installed
        lacking = [name for name, is_there in met(tools, packages, there).items() if not is_there]
        if lacking and self.options.get("allow-missing") != "true":
            raise Refused(
                f"the lock of {self.template.key} lacks {', '.join(lacking)}",
                state="nothing was created",
                hint=f"portunix vdisk template lock {self.template.key} makes it anew; --allow-missing is content",
            )
        exact_tools = [ToolWish(find_recipe(one.name), one.version) for one in there.tools if one.active]
        return exact_tools, [PackageWish(one.language, one.name + one.extra, one.version) for one in there.packages]

    # when there is nothing to do ------------------------------------------------------------------------

    def settled(self, values: Values | None = None) -> bool:
        """Whether this very disk was filled by this very template."""
        known = self.session.catalog.get(self.name)
        if values is None:
            values = saved_values(f"create:{self.name}:settle")
        return known is not None and (values.get("uuid"), values.get("template")) == (known.uuid, self.digest)

    def _member(self, name: str, doc: str, run: Callable[[Context], Json]) -> Member:
        return Member(name, doc, run, lambda values: self.settled())

    def _unless_settled(self, member: Member, root: Path) -> Member:
        """A member of ``install``, which keeps the others from nothing if what it needs cannot be had."""

        def run(ctx: Context) -> Json:
            refuse_elsewhere(self.session, known_disk(self.session, self.name), root)
            try:
                return member.run(ctx)
            except Failed as error:
                if not member.name.endswith(":packages"):
                    raise
                ctx.warn(error.what)
                return {"missing": error.what}

        return replace(member, run=run, done=lambda values: self.settled() or member.done(values))

    # what is done ---------------------------------------------------------------------------------------

    def _trust(self, ctx: Context) -> Json:
        """Somebody else's commands are run only by somebody who has seen them."""
        if self.template.origin == BUILT_IN:
            return {}
        shown = "\n".join(
            f"  {one.name}{' (uses the network)' if one.network else ''}:\n"
            + "\n".join(f"    {line}" for line in one.run.strip().splitlines())
            for one in self.template.scripts
        )
        if not ctx.confirm("scripts", f"The template {self.template.key} runs these scripts:\n{shown}\nRun them?"):
            raise Refused(
                f"{self.name} was not made: its template's scripts may not run",
                state="nothing was created",
                hint="agree to them, or take a template without scripts",
            )
        return {}

    def _mount(self, ctx: Context) -> Json:
        disk = known_disk(self.session, self.name)
        held = attachment_of(self.session, disk)
        already = held is not None and held.mount_point is not None and not held.problem
        # Mounted by a run that was killed: then it is ours to unmount.
        self.mounted_by_us = not already or (self._note.exists() and held is not None and self._is_default(held))
        if self.mounted_by_us:
            self._note.touch()
        self.session.at_end(self._put_away)
        for member in () if already else mount_graph(self.session, disk, {}).members:
            if not member.done({}):
                member.run(ctx)
        root = self._root()
        refuse_links(root)
        made = read_made_from(root)
        if made is not None and made.template != self.template.key:
            raise Refused(
                f"{self.name} was made from the template {made.template}",
                state="nothing was changed",
                hint=f"portunix vdisk install adds tools to it; another disk can be made from {self.template.key}",
            )
        return {}

    def _configure(self, root: Path) -> Json:
        before = read_made_from(root)
        done = before.scripts if before else {}
        write_made_from(root, MadeFrom(self.template.key, dict(self.template.configuration), done))
        remember(root, read_installed(root))
        (root / "projects").mkdir(exist_ok=True)
        return {}

    def _script(self, root: Path, number: int, script: Script) -> Member:
        def done(values: Values) -> bool:
            if self.settled():
                return True
            try:
                made = read_made_from(root)
            except (VdiskError, OSError):
                return False
            return made is not None and made.scripts.get(script.name) == digest_of_script(script.run)

        def run(ctx: Context) -> Json:
            configuration = self.template.configuration
            found = environment(root, read_installed(root), configuration)
            step = RunScript(
                root,
                script.name,
                script.run,
                script.network,
                script.timeout,
                found.applied({"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}),
                self.session.home.logs / "vdisk-scripts.log",
            )
            return step.run(ctx)

        return Member(f"script:{number:02}", f"run the script {script.name}", run, done)

    def _settle(self, root: Path, tools: Sequence[ToolWish], packages: Sequence[PackageWish]) -> Json:
        found = met(tools, packages, read_installed(root))
        lacking = [name for name, there in found.items() if not there]
        missing = [{"name": name, "why": self._why(name)} for name in lacking]
        if missing and self.options.get("allow-missing") != "true":
            raise Failed(
                f"not installed: {', '.join(lacking)}",
                state=f"{self.name} has everything else of {self.template.key}, and can be used",
                hint="the same command tries again; with --allow-missing it is content without them",
            )
        return {
            "uuid": known_disk(self.session, self.name).uuid,
            "template": self.digest,
            "installed": [name for name, there in found.items() if there],
            "missing": missing,
        }

    def _why(self, name: str) -> str:
        language, _, package = name.rpartition(":")
        member = f"{language}:packages" if language else f"{package}:resolve"
        why = saved_values(f"create:{self.name}:{member}").get("missing", "it is not on the disk")
        return str(why).removeprefix(f"{name} cannot be had: ")

    def _unmount(self, ctx: Context) -> Json:
        disk = known_disk(self.session, self.name)
        UnmountImage(disk.path).run(ctx)
        DetachImage(disk.path).run(ctx)
        self._note.unlink(missing_ok=True)
        self.mounted_by_us = False
        return {}

    def _put_away(self) -> None:
        """After a failure: the disk is not left mounted where nobody asked for that."""
        if not self.mounted_by_us:
            return
        try:
            self._unmount(self.session.context(f"create:{self.name}:unmount"))
        except VdiskError as error:
            self.session.log("warning", f"{self.name} stays mounted at {show_path(self._root())}: {error.what}")

    @property
    def _note(self) -> Path:
        """Exists as long as the disk is mounted for us, so that a run that was killed is told from the person."""
        return self.session.home.run / f"{known_disk(self.session, self.name).uuid}.filling"

    def _is_default(self, held: Attachment) -> bool:
        return held.mount_point == (self.session.home.mounts / self.name).resolve()

    def _root(self) -> Path:
        known = self.session.catalog.get(self.name)
        held = attachment_of(self.session, known) if known is not None else None
        if held is not None and held.mount_point is not None:
            return held.mount_point
        return (self.session.home.mounts / self.name).resolve()

    def _told(self, settled: Values) -> Json:
        return {
            "key": self.template.key,
            "installed": settled.get("installed", []),
            "missing": settled.get("missing", []),
        }
