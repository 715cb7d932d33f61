"""The step: one-way mirror of a folder onto a mounted disk."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from portunix_vdisk.platform.base import FileSystemType
from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.steps.sync.apply import Apply
from portunix_vdisk.steps.sync.fits import Fits
from portunix_vdisk.steps.sync.ledger import Applied, Ledger, target_trouble
from portunix_vdisk.steps.sync.metadata import Metadata
from portunix_vdisk.steps.sync.pipeline import Pipeline
from portunix_vdisk.steps.sync.place import NOTHING, Places, find_places, open_folder, open_target
from portunix_vdisk.steps.sync.plan import NOTES_KEPT, Notes, Options, Plan
from portunix_vdisk.steps.sync.planner import make_plan
from portunix_vdisk.steps.sync.record import SyncRecord
from portunix_vdisk.steps.sync.record_folder import lock_folder, open_record
from portunix_vdisk.steps.sync.scan import Entry, entry_of, shown
from portunix_vdisk.steps.sync.settle import settle
from portunix_vdisk.steps.sync.trees import ScannedTrees

_NAMED = 20


@dataclass(frozen=True, slots=True)
class Mirror:
    """Make ``target`` hold what ``source`` holds: contents, modes, times, symbolic and hard links, sparse files.

    A file counts as unchanged if size, modification time, mode, link text and hard-link group are as they were.
    Owners and system attributes are kept when run as root; otherwise files belong to the caller.

    Args:
        source: folder whose contents are copied.
        target: folder at or below ``root``; missing folders on the way are made.
        root: mount point of the disk; its ``.vdisk`` folder holds the record of what was synced.
        delete: also delete what is gone from the source.
        dry_run: only say what would be done; nothing is written.
        force: overwrite and delete also what was changed in the target, or was never synced.
        file_system: of the target, which may not be able to hold everything; None: it can.
    """

    source: Path
    target: Path
    root: Path
    delete: bool = False
    dry_run: bool = False
    force: bool = False
    file_system: FileSystemType | None = None

    def run(self, ctx: Context) -> Json:
        """Do it; the result counts files, bytes, folders and links.

        Raises:
            NotFound: there is no source.
            BadUsage: source and target lie inside each other, or the source is no folder.
            Refused: conflicts (then nothing was written), or the target is not a folder of this disk.
            Failed: some files could not be copied (all others were), or the disk is full or broken.
            Interrupted: at a safe point; running again continues.
        """
        places = find_places(self.source, self.target, self.root)
        done = Applied()
        try:
            with ExitStack() as stack:
                source = stack.enter_context(open_folder(places.source, "source"))
                root = stack.enter_context(open_folder(places.root, "disk"))
                lock = None if self.dry_run else lock_folder(root, make=False)
                if lock is not None:
                    stack.callback(os.close, lock)
                record = open_record(ctx, places.root, dry_run=self.dry_run)
                stack.callback(record.close)
                if not self.dry_run:
                    settle(ctx, record, root)
                plan = self._plan(ctx, places, source, root, record)
                self._warn(ctx, plan)
                if self.dry_run:
                    return self._result(places, plan, None)
                self._refuse(plan)
                if not plan.empty:
                    if lock is None and (lock := lock_folder(root, make=True)) is not None:
                        stack.callback(os.close, lock)
                    record.create()
                    self._apply(ctx, places, source, root, record, plan, done)
        except OSError as error:
            raise target_trouble(error) from error
        _complain(plan, done)
        return self._result(places, plan, done)

    def _plan(self, ctx: Context, places: Places, source: int, root: int, record: SyncRecord) -> Plan:
        """Compare the trees as they are now."""
        with ExitStack() as stack:
            target = open_target(root, places.below, make=False)
            there: Entry | None = None
            if target is not None:
                stack.callback(os.close, target)
                there = entry_of(os.fstat(target))
            device = os.fstat(root).st_dev
            trees = ScannedTrees(ctx, places, source, target, device, record)
            stack.callback(trees.close)
            if self.dry_run:
                trees.hide_unfinished()
            options = Options(self.delete, self.force, device, os.geteuid(), os.getegid(), Fits(self.file_system))
            return make_plan(trees, entry_of(os.fstat(source)), there, options)

    def _refuse(self, plan: Plan) -> None:
        """Stop before the first write if something stands in the way."""
        if plan.unfit.count:
            raise Refused(
                _listed("do not fit onto the target", plan.unfit),
                state=NOTHING,
                hint="rename or leave them out, or use a disk with ext4; portunix vdisk formats shows what each holds",
            )
        if plan.blocked.count:
            raise Refused(_listed("cannot be replaced", plan.blocked), state=NOTHING)
        if plan.conflicts.count and not self.force:
            raise Refused(
                _listed("in the target would be lost", plan.conflicts),
                state=NOTHING,
                hint="save what you need, then run the same command with --force to overwrite",
            )

    def _warn(self, ctx: Context, plan: Plan) -> None:
        """Say beforehand what will not survive."""
        fits, left = Fits(self.file_system), plan.skipped.count
        if not fits.links:
            ctx.warn(
                f"{fits.name} keeps no owners and permissions, times only roughly, and each name of a file with several"
                " as a file of its own" + (f"; left out: {left} symbolic links or other special files" if left else "")
            )

    def _apply(
        self, ctx: Context, places: Places, source: int, root: int, record: SyncRecord, plan: Plan, done: Applied
    ) -> None:
        target = open_target(root, places.below, make=True)
        if target is None:
            raise Failed(f"target {shown(os.fspath(places.target))} cannot be made")
        with ExitStack() as stack:
            stack.callback(os.close, target)
            metadata = Metadata(os.geteuid(), os.getegid(), Notes(), kept=Fits(self.file_system).modes)
            ledger = Ledger(plan, done, places.prefix)
            pipeline = stack.enter_context(Pipeline(ctx, ledger, metadata, source, target, plan.bytes))
            apply = Apply(plan, ledger, record, metadata, pipeline, source, target)
            stack.callback(apply.close)
            apply.run(ctx)
        if metadata.refused.count:
            ctx.warn(
                f"{metadata.refused.count} extended attributes could not be copied; "
                f"the first: {metadata.refused.lines[0]}"
            )

    def _result(self, places: Places, plan: Plan, done: Applied | None) -> Json:
        result: dict[str, Json] = {
            "source": shown(os.fspath(places.source)),
            "target": shown(os.fspath(places.target)),
            "files_copied": plan.files if done is None else done.files,
            "bytes_copied": plan.bytes if done is None else done.bytes,
            "deleted": plan.deletions if done is None else done.deleted,
            "unchanged": plan.unchanged,
            "made_folders": plan.folders if done is None else done.folders,
            "linked": len(plan.links) if done is None else done.linked,
            "metadata_updated": plan.metadata if done is None else done.metadata,
            "skipped": plan.skipped.lines,
            "conflicts": plan.conflicts.lines,
            "dry_run": self.dry_run,
        }
        if done is None:
            result["failed"] = [*plan.unfit.lines, *plan.failed.lines]
            result["planned"] = [
                {"action": action, "path": shown(path)} for action, path in islice(plan.described(), NOTES_KEPT)
            ]
            result["planned_count"] = sum(1 for _ in plan.described())
        return result


def _listed(what: str, notes: Notes) -> str:
    """A sentence with a count, and the first of the notes on lines of their own."""
    lines = [f"{notes.count} {'path' if notes.count == 1 else 'paths'} {what}:"]
    lines += [f"  {line}" for line in notes.lines[:_NAMED]]
    if notes.count > _NAMED:
        lines.append(f"  ... and {notes.count - _NAMED} more")
    return "\n".join(lines)


def _complain(plan: Plan, done: Applied) -> None:
    """Raise if something of the source is not in the target now."""
    if plan.failed.count:
        raise Failed(
            _listed("could not be synced", plan.failed),
            state=f"everything else is done: {done.files} files copied, {plan.unchanged} unchanged",
            hint="run the same command again when the reason is gone: it does only what is left",
        )
