"""archive merge: one full archive of a delta and everything that it is based on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from portunix_vdisk.platform.errors import Refused
from portunix_vdisk.steps.archive.bases import base_chain
from portunix_vdisk.steps.archive.export import close_exports
from portunix_vdisk.steps.archive.keyring import add_key, has_key, set_new_password
from portunix_vdisk.steps.archive.keys import MasterKey
from portunix_vdisk.steps.archive.merge import Merge
from portunix_vdisk.steps.archive.partial import never_begun
from portunix_vdisk.steps.archive.storage import ArchiveFile, exists
from portunix_vdisk.steps.archive.unlock import read_header, read_lock
from portunix_vdisk.steps.durable import partial_of
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.archives import archive_at, archive_graph, bases_at, volume_size
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.graph import Graph
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.unlocking import unlock, unlock_chain


def merge_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``archive-merge:NAME``. Raises ``BadUsage``."""
    archive, bases = archive_at(session, options["archive"]), bases_at(session, options)
    output = Path(os.path.normpath(session.absolute(options["output"])))
    if options["output"].endswith("/") or output.is_dir():
        output = output / archive.name
    split = volume_size(session, output, options)

    def merged(ctx: Context) -> Json:
        chain = base_chain(archive, bases)
        if any(exists(output) and path.samefile(output) for path in chain if path.exists()):
            raise Refused(
                f"{show_path(output)} is one of the archives that are merged",
                state="nothing was written",
                hint="name another file with --output",
            )
        unlock_chain(session, archive, bases)
        session.at_end(close_exports)
        encrypted = _lock_output(session, chain, output)
        result = Merge(archive, output, bases, encrypted, split).run(ctx)
        assert isinstance(result, Mapping)
        return {**result, "output": show_path(output), "merged": [show_path(path) for path in chain]}

    doc = "make a full archive of the delta and its bases"
    return archive_graph(session, "archive merge", archive, doc, merged, locks=(output,))


def _lock_output(session: Session, chain: Sequence[Path], output: Path) -> bool:
    """Whether the output has to be encrypted: as soon as anything in it was. It gets the password of that."""
    locked = next((path for path in chain if read_header(path).encrypted), None)
    if exists(output):
        unlock(session, output)
    if locked is None:
        return False
    subject = f"the archive {show_path(locked.name)}"
    password = session.password(subject)
    partial = partial_of(output)
    if not exists(partial) or _never_begun(partial):
        set_new_password(output, password)
        return True
    header = read_header(partial)
    if not header.encrypted:
        raise Refused(
            f"{show_path(partial)} is not encrypted", state="it was not touched", hint="name another file with --output"
        )
    if not has_key(header.archive_uuid):
        about = f"the unfinished archive {show_path(partial.name)}"
        add_key(header.archive_uuid, MasterKey.unlock(read_lock(partial), password, header.archive_uuid, about))
    return True


def _never_begun(path: Path) -> bool:
    with ArchiveFile(path) as file:
        return never_begun(file)
