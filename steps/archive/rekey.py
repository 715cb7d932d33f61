"""Changing the password of an archive without touching its content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.platform.errors import Failed, Refused
from portunix_vdisk.steps.archive import keyring
from portunix_vdisk.steps.archive.commit import append_update, finish_update, next_of
from portunix_vdisk.steps.archive.directory import Entry, directory_bytes, directory_digest
from portunix_vdisk.steps.archive.documents import Update, text_of, update_text
from portunix_vdisk.steps.archive.layout import MAX_NUMBER, keys_name, next_name
from portunix_vdisk.steps.archive.members import numbered
from portunix_vdisk.steps.archive.reader import ArchiveReader
from portunix_vdisk.steps.archive.record import document, header_length
from portunix_vdisk.steps.archive.storage import ArchiveFile, exists, whole_path
from portunix_vdisk.steps.step import Context, Json


@dataclass(frozen=True, slots=True)
class Rekey:
    """Wrap the archive's key with another password, and wipe what the former password opens.

    The new keys are appended like an update, so that one of the two passwords opens the archive at every moment; then
    the former keys are overwritten. Copies of the archive still open with the former password. The archive's key
    and the new password are on the keyring. Raises ``Refused`` (not encrypted, an export is unfinished), ``Failed``.
    """

    archive: Path

    def run(self, ctx: Context) -> Json:
        archive = whole_path(self.archive)
        finish_update(archive, ctx.safe_point)
        if exists(next_of(archive)):
            raise Refused(f"an export to {archive} is unfinished", state="nothing was changed", hint="finish it first")
        with ArchiveReader(archive) as reader:
            if not reader.header.encrypted:
                raise Refused(f"{archive} is not encrypted", state="nothing was changed")
            uuid = reader.header.archive_uuid
            last = numbered(reader.directory.entries, "keys")[-1][0]
            if last >= MAX_NUMBER:
                raise Refused(f"{archive} has had too many passwords", hint="export to another file")
            slot = keyring.key_of(uuid, archive).wrap(keyring.new_password(archive), uuid)
            former = tuple(
                (entry.offset, header_length(name) + entry.stored)
                for name, entry in reader.directory.entries.items()
                if name.startswith("keys-")
            )
            at = reader.size
            update = Update(
                uuid, reader.generations[-1], at, directory_digest(reader.file, reader.directory).hex(), former
            )
            first, first_payload = document(next_name(update.generation), update_text(update))
            keys, keys_payload = document(keys_name(last + 1), text_of(slot.to_json()))
            place = at + first.total
            members = {name: one for name, one in reader.directory.entries.items() if not name.startswith("keys-")}
            members[keys.name] = Entry(place, keys.stored, keys.crc)
            listed = sorted(members.items(), key=lambda member: member[1].offset)
            limit = reader.header.volume_size
        try:
            with ArchiveFile(next_of(archive), writable=True, create=True, limit=limit) as file:
                parts = (first.header(), first_payload, keys.header(), keys_payload)
                file.write(0, (*parts, directory_bytes(listed, place + keys.total)))
                file.sync()
            append_update(archive, ctx.safe_point)
        except OSError as error:
            raise Failed(
                f"cannot write {archive}: {error.strerror}",
                state="the archive opens with the former password or the new one",
                hint="run the same command again",
            ) from error
        return {"archive_uuid": uuid}
