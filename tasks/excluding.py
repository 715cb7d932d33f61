"""Smart export: what is exported is the disk without what can be made again."""

from __future__ import annotations

import tempfile
from pathlib import Path

from portunix_vdisk.platform.base import FileSystemType
from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.steps.durable import identity_of
from portunix_vdisk.steps.exclude.overlay import Cleaned, Subject, clean_copy
from portunix_vdisk.steps.exclude.remove import LeftOut
from portunix_vdisk.steps.exclude.rules import Rule, Rules
from portunix_vdisk.steps.exclude.view import view_of
from portunix_vdisk.steps.source import Source, SourceIdentity
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.graph import Values
from portunix_vdisk.tasks.mount_disk import must_not_be_attached
from portunix_vdisk.tasks.session import Session


class Excluding:
    """One export that leaves out what the rules say, in this process.

    Raises ``BadUsage`` for rules that are wrong, ``Refused`` for a disk that can't be exported so.
    """

    def __init__(self, session: Session, disk: Disk) -> None:
        if disk.file_system is not FileSystemType.EXT4:
            raise Refused(
                f"{disk.name} has {disk.file_system}, and --exclude-cache understands only ext4 so far",
                state="nothing was written",
                hint="export it without --exclude-cache",
            )
        if disk.encrypted:
            raise Refused(
                f"{disk.name} is encrypted, and --exclude-cache has to look inside",
                state="nothing was written",
                hint="export it without --exclude-cache: it is archived as it is, encrypted",
            )
        # Reading YAML and matching patterns takes long to import, and hardly any operation needs it.
        from portunix_vdisk.templates.excludes import FILE_NAME, read_excludes

        found = read_excludes(session.home.root / FILE_NAME)
        rules = [Rule(one.name, one.patterns, one.beside, one.holds, one.lacks) for one in found.rules]
        self._rules = Rules(rules, found.keep)
        self._session = session
        self._disk, self._image = disk, disk.path
        places = (session.home.run, Path(tempfile.gettempdir()), Path("/var/tmp"), disk.path.parent)
        what = (disk.path, disk.type, disk.size, disk.partition, disk.file_system)
        self._subject = Subject(*what, tuple(dict.fromkeys(places)), disk.owner)
        self._cleaned: Cleaned | None = None
        self._left_out: LeftOut | None = None
        self.view = view_of(self._rules.digest)
        """Tells the copy from the disk, and from copies by other rules."""

    def check(self) -> None:
        """Refuse what the overlay cannot stand: somebody who writes to the image. Raises ``Refused``."""
        must_not_be_attached(self._session, self._disk, "exported with --exclude-cache")

    def source(self, ctx: Context) -> Source:
        """The copy. It is made once; again only if the image has changed. Raises what making it raises."""
        if self._cleaned is None or not self._cleaned.holds_for(identity_of(self._image)):
            self.close()
            self._session.at_end(self.close)
            self._cleaned, self._left_out = clean_copy(self._subject, self._rules, self.view, ctx)
            _tell(self._left_out, ctx)
        return self._cleaned.open()

    def identity(self) -> SourceIdentity:
        """The identity of what is read. Raises ``OSError``."""
        image = identity_of(self._image)
        made = self._cleaned is not None and self._cleaned.holds_for(image)
        return self._cleaned.identity if made and self._cleaned else SourceIdentity(image, self.view)

    def close(self) -> None:
        """Release the copy."""
        if self._cleaned is not None:
            self._cleaned.close()
            self._cleaned = None

    def report(self) -> Json:
        """What was left out by the run that made the copy, for the journal."""
        if self._left_out is None:
            return None
        image = SourceIdentity(identity_of(self._image), self.view)
        rules: list[Json] = [
            {"rule": name, "files": one.files, "bytes": one.bytes}
            for name, one in sorted(self._left_out.by_rule.items(), key=lambda item: (-item[1].bytes, item[0]))
        ]
        return {
            "of": repr(image),
            "files": sum(one.files for one in self._left_out.by_rule.values()),
            "bytes": sum(one.bytes for one in self._left_out.by_rule.values()),
            "stayed": self._left_out.stayed,
            "rules": rules,
        }

    def reported(self, values: Values) -> Json:
        """The same from the journal, where it is about the disk and the rules as they are now."""
        found = values.get("excluded")
        if not isinstance(found, dict) or found.get("of") != repr(SourceIdentity(identity_of(self._image), self.view)):
            return None
        return {name: value for name, value in found.items() if name != "of"}


def _tell(left_out: LeftOut, ctx: Context) -> None:
    """Nobody should believe that something was left out that was not."""
    if left_out.stayed:
        examples = "; ".join(left_out.examples)
        ctx.warn(f"{left_out.stayed} files or folders could not be left out and are exported, such as {examples}")
