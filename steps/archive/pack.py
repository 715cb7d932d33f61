"""The steps of an export up to the last chunk: scan, and pack by ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.base import FileIdentity
from portunix_vdisk.platform.errors import BadUsage, Corrupt, NotFound
from portunix_vdisk.steps.archive.commit import next_of
from portunix_vdisk.steps.archive.documents import Header
from portunix_vdisk.steps.archive.export import close_export, job_of, open_export
from portunix_vdisk.steps.archive.keyring import has_key, key_of
from portunix_vdisk.steps.archive.layout import NewerVersion, NotAnArchive, range_count
from portunix_vdisk.steps.archive.partial import Content, read_back
from portunix_vdisk.steps.archive.plan import Export
from portunix_vdisk.steps.archive.room import check_again, check_room
from portunix_vdisk.steps.archive.sealing import Vault
from portunix_vdisk.steps.archive.storage import ArchiveFile, exists, volumes_of
from portunix_vdisk.steps.durable import identity_of, partial_of
from portunix_vdisk.steps.source import SourceIdentity
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class Scan:
    """Map the image, open or create the partial archive, and find out what is left to do.

    Raises ``NotFound`` (no such folder or image), ``BadUsage`` (the output is a folder), ``Refused`` (the output
    exists; the partial is another disk's or being written; no room at all), ``Corrupt`` (the image has another size
    than the catalog says). The result has sizes in bytes.
    """

    export: Export

    def run(self, ctx: Context) -> Json:
        output = self.export.output
        if not output.parent.is_dir():
            raise NotFound(f"{output.parent}: no such folder", hint=f"mkdir -p {output.parent}")
        if output.is_dir():
            raise BadUsage(f"{output} is a folder", hint=f"name a file: {output / self.export.disk.name}.zip")
        job = open_export(self.export, ctx)
        try:
            needed = check_room(job, ctx)
        except BaseException:
            close_export(output)
            raise
        ctx.update(job.done, job.total)
        return {
            "disk_bytes": self.export.disk.size,
            "data_bytes": job.total,
            "done_bytes": job.done,
            "partial_bytes": job.appender.end,
            "needed_bytes": needed,
            "generation": job.generation,
            "ranges": range_count(self.export.disk.size),
        }


@dataclass(frozen=True, slots=True)
class Pack:
    """Compress one of ``count`` ranges of the disk into the partial archive.

    What is there already, and holds for the image as it is now, is not read again. The result names where the
    partial ends then and the digest over all its headers up to there; see :func:`pack_is_done`. Raises ``Failed``
    (read and write errors, no space, image changed meanwhile) with everything written so far kept.
    """

    export: Export
    index: int
    count: int

    def run(self, ctx: Context) -> Json:
        try:
            job = open_export(self.export, ctx)
            result = job.pack(self.index, self.count, ctx)
            check_again(job, ctx)
            return result
        except BaseException:
            close_export(self.export.output)
            raise


_scans: dict[Path, tuple[FileIdentity, Content]] = {}


def pack_is_done(output: Path, result: object, source: SourceIdentity) -> bool:
    """Whether what a :class:`Pack` step once returned still holds for the partial file (or the finished archive).

    True if the file's headers, up to the offset the result names, are the same as then, and the last session before it
    read ``source``. Reads only headers, and each file once per process. The file decides: any doubt is False.
    """
    if not isinstance(result, Mapping):
        return False
    end, last = result.get("end"), result.get("last")
    if not isinstance(end, int) or not isinstance(last, str):
        return False
    job = job_of(output)
    if job is not None and job.is_current():
        chains, sessions = job.chains, list(job.sessions.values())
    elif (content := _scan(output)) is not None:
        chains, sessions = content.chains, [(place, session) for place, _, session in content.sessions.values()]
    else:
        return False
    former = [(offset, session) for offset, session in sessions if offset < end]
    if not former or max(former, key=lambda item: item[0])[1].source != source:
        return False
    return end in chains and chains[end].hex() == last


def _vault(header: Header | None) -> Vault | None:
    """The ciphers of an encrypted archive whose key is at hand; without them nothing can be told to be done."""
    if header is None or not header.encrypted or not has_key(header.archive_uuid):
        return None
    return Vault(key_of(header.archive_uuid, Path()), header.archive_uuid)


def _scan(output: Path) -> Content | None:
    path = next((one for one in (partial_of(output), next_of(output)) if exists(one)), output)
    try:
        identity = identity_of(volumes_of(path)[-1])
        if path in _scans and _scans[path][0] == identity:
            return _scans[path][1]
        with ArchiveFile(path) as file:
            content = read_back(file, payloads=False, vault=_vault)
    except (OSError, IndexError, NotAnArchive, NewerVersion, Corrupt):
        return None
    _scans[path] = identity, content
    return content
