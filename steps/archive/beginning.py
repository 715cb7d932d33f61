"""The documents that a new archive begins with."""

from __future__ import annotations

import uuid

from portunix_vdisk.steps.archive import keyring
from portunix_vdisk.steps.archive.documents import BaseArchive, Header, header_text, text_of
from portunix_vdisk.steps.archive.keys import MasterKey
from portunix_vdisk.steps.archive.layout import HEADER_NAME, keys_name
from portunix_vdisk.steps.archive.plan import Export
from portunix_vdisk.steps.archive.record import Record, document
from portunix_vdisk.steps.archive.sealing import Vault


def first_documents(export: Export, base: BaseArchive | None) -> tuple[list[tuple[Record, bytes]], Vault | None]:
    """Header and, of an encrypted archive, key slot; and the ciphers for everything that follows.

    Draws the archive's UUID and its master key, which goes onto the keyring. Raises ``Locked`` without a password.
    """
    header = Header(str(uuid.uuid4()), export.disk.uuid, export.encrypted, base, export.volume_size)
    documents = [document(HEADER_NAME, header_text(header))]
    if not export.encrypted:
        return documents, None
    master = MasterKey.new()
    slot = master.wrap(keyring.new_password(export.output), header.archive_uuid)
    keyring.add_key(header.archive_uuid, master)
    documents.append(document(keys_name(1), text_of(slot.to_json())))
    return documents, Vault(master, header.archive_uuid)
