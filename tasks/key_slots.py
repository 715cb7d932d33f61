"""passwd: which passwords open an encrypted disk. luks-backup: a copy of the header that they open."""

from __future__ import annotations

from collections.abc import Mapping

from portunix_vdisk.platform.errors import BadUsage, Refused
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.steps.keyslots import BackUpHeader, ChangeKey, KeyChange, read_header
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.mount_disk import must_not_be_attached
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.unlocking import disk_secret
from portunix_vdisk.tasks.which import find_disk, must_be_ready


def passwd_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``passwd:NAME``. Raises ``BadUsage``, ``NotFound``, ``Refused``."""
    disk = _encrypted_disk(session, options["disk"])
    wanted = [one for one in KeyChange if options.get(one.value) == "true"]
    if len(wanted) > 1:
        raise BadUsage("--add and --remove: only one of them can be")
    change = wanted[0] if wanted else KeyChange.REPLACE

    def run(ctx: Context) -> Json:
        must_be_ready(disk)
        must_not_be_attached(session, disk, "given another password")
        secret = disk_secret(session, disk)
        new = b""
        if change is not KeyChange.REMOVE:
            new = session.password(f"the disk {disk.name}", new=True, name="new-password")
        scratch = session.home.run / f"{disk.uuid}.header"
        return ChangeKey(disk.path, disk.type, disk.partition, scratch, change, secret, new).run(ctx)

    return Graph(
        operation="passwd",
        disk=disk.name,
        doc=f"change which passwords open {disk.name}",
        locks=(disk.path,),
        members=(Member("passwd", "change the key slots", run, _never),),
        result=lambda values: {"disk": disk.name, "change": str(change), **values["passwd"]},
    )


def luks_backup_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``luks-backup:NAME``. Raises ``NotFound``, ``Refused``."""
    disk = _encrypted_disk(session, options["disk"])
    output = session.absolute(options["output"])

    def run(ctx: Context) -> Json:
        must_be_ready(disk)
        return BackUpHeader(disk.path, disk.type, disk.partition, output).run(ctx)

    return Graph(
        operation="luks-backup",
        disk=disk.name,
        doc=f"copy the LUKS header of {disk.name}",
        locks=(disk.path,),
        members=(Member("copy", "copy header and key slots", run, _never),),
        result=lambda values: {"disk": disk.name, "output": show_path(output), **values["copy"]},
    )


def encryption_json(session: Session, disk: Disk) -> Json:
    """What the header of an encrypted disk says in the clear; None for other disks. Raises ``Corrupt``."""
    if not disk.encrypted or not disk.path.exists():
        return None
    header = read_header(session.context("info"), disk.path, disk.type, disk.partition)
    return {
        "format": "LUKS1",
        "cipher": header.cipher,
        "key_bits": header.key_bits,
        "hash": header.hash,
        "uuid": header.uuid,
        "slots": list(header.slots),
    }


def _encrypted_disk(session: Session, text: str) -> Disk:
    disk = find_disk(session, text)
    if not disk.encrypted:
        raise Refused(f"{disk.name} is not encrypted", state="nothing was changed")
    return disk


def _never(values: Values) -> bool:
    return False
