"""What a bare ``doit`` shows: the disks and what can be done with them. It changes nothing."""

from __future__ import annotations

from portunix_vdisk.platform.errors import VdiskError
from portunix_vdisk.steps.sizes import show_size
from portunix_vdisk.tasks.describe import disk_json
from portunix_vdisk.tasks.session import Session

_COMMANDS = """\
doit create                                           make the disks that ~/.portunix/config.yaml declares
doit create:NAME size=20GB [type=…]  [path=…]         make another one
doit mount:NAME [mountpoint=…]                        mount it
doit sync:NAME source=DIR target=DIR                  mirror a folder onto it
doit unmount:NAME                                     unmount it
doit compact:NAME                                     make its image as small as possible
doit convert:NAME to=TYPE                             make its image one of another type
doit clone:NEW-NAME disk=NAME                         make another disk with the same content
doit check:NAME [repair=true]                         look for damage
doit export:NAME [output=FILE]                        pack it into one archive
doit import:NAME archive=FILE                         make a disk from an archive
doit archive-mount:FILE archive=FILE.zip [mountpoint=…]  look into an archive
doit delete:NAME [yes=1]                              delete it
doit list --all --status                              every step, and whether it is done
doit info export:NAME                                 one task in detail
"""


def overview(session: Session) -> str:
    """The overview as text."""
    lines = []
    try:
        for disk in session.catalog.all():
            facts = disk_json(session, disk)
            where = f"mounted at {facts['mount_point']}" if facts["mount_point"] else str(facts["state"])
            lines.append(f"  {disk.name:<24} {show_size(disk.size):>10}  {disk.type:<5} {where}")
    except VdiskError as error:
        lines.append(f"  {error}")
    disks = "\n".join(lines) or "  none yet"
    return f"Virtual development disks\n{disks}\n\n{_COMMANDS}"
