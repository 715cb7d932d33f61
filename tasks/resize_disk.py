"""resize: prepare → shrink → extend → partition → cut → grow → register. Each is needed for one direction, or for both.

The filesystem is never larger than its partition, nor that than the image, whenever a run is killed. What the catalog
says of the partition is true meanwhile; the size in it is the smaller of the two until all is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from portunix_vdisk.platform.base import MIB, Partition
from portunix_vdisk.platform.errors import Refused, VdiskError
from portunix_vdisk.platform.formats import FILE_SYSTEMS, cell
from portunix_vdisk.steps.allocate import check_size
from portunix_vdisk.steps.compact.survey import allocated, compact_partial_of
from portunix_vdisk.steps.convert.exchange import remove_unfinished
from portunix_vdisk.steps.disk import Disk
from portunix_vdisk.steps.exclude.overlay import release_image
from portunix_vdisk.steps.keyslots import check_password
from portunix_vdisk.steps.resize.filesystem import ResizeFilesystem, changes_of, write_changes
from portunix_vdisk.steps.resize.image import ResizeImage
from portunix_vdisk.steps.resize.table import ResizeTable, resized_partition, table_changes
from portunix_vdisk.steps.sizes import parse_size, show_size
from portunix_vdisk.steps.step import Context, Json
from portunix_vdisk.tasks.create_disk import known_disk
from portunix_vdisk.tasks.describe import disk_json, show_path
from portunix_vdisk.tasks.graph import Graph, Member, Values
from portunix_vdisk.tasks.mount_disk import must_not_be_attached
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.unlocking import disk_secret
from portunix_vdisk.tasks.which import find_disk, must_be_ready

_END = 2 * MIB
"""What rounding and the backup of the partition table may take at the end of a disk."""


@dataclass(slots=True)
class _Resizing:
    """One change of a disk's size in this process."""

    session: Session
    disk: Disk
    wanted: int

    # what is the case -----------------------------------------------------------------------------------

    @property
    def known(self) -> Disk:
        """The disk as the catalog has it now."""
        return known_disk(self.session, self.disk.name)

    @property
    def place(self) -> Partition:
        """Where the partition will lie."""
        return resized_partition(self.disk.partition, self.disk.type, self.wanted)

    def present(self) -> int:
        """Bytes of the disk in the image as it is now; 0 where that cannot be told."""
        try:
            return self.session.platform.sizing.size(self.disk.path, self.disk.type)
        except VdiskError:
            return 0

    def done(self) -> bool:
        """Whether nothing is left to do."""
        known = self.session.catalog.by_uuid(self.disk.uuid)
        if known is None or (known.size, known.partition) != (self.wanted, self.place):
            return False
        return self.present() == self.wanted and not changes_of(self.disk.path).exists()

    def table(self) -> ResizeTable:
        """The partition table as it has to be."""
        return ResizeTable(self.disk.path, self.disk.type, self.place, self.wanted)

    # what is done ---------------------------------------------------------------------------------------

    def prepare(self, ctx: Context) -> Json:
        """Finish what was begun, find out whether it can be done, and ask before anything is cut off."""
        disk = self.disk
        must_not_be_attached(self.session, disk, "resized")
        release_image(disk.path, ctx)
        write_changes(disk.path, disk.type, ctx)
        must_be_ready(disk)
        if self.done():
            return {}
        facts, shrinking = FILE_SYSTEMS[disk.file_system], self.place.length < self.known.partition.length
        if not (facts.shrinks if shrinking else facts.grows):
            raise Refused(
                f"{disk.file_system} filesystems cannot {'shrink' if shrinking else 'grow'} here: "
                "no program can do that, or none that is safe",
                state="nothing was changed",
                hint=f"make another disk and copy the files: portunix vdisk create --name NEW --fs {disk.file_system} "
                f"--size {self.wanted >> 20}MiB, then mount both and sync",
            )
        if ctx.platform.map_image(disk.path, disk.type).snapshots:
            raise Refused(
                f"{disk.name} has snapshots inside its image, which are of its present size",
                state="nothing was changed",
                hint=f"remove them first: qemu-img snapshot -l {show_path(disk.path)}",
            )
        # Nobody else may have it open, and the table must be one that can be changed.
        with ctx.platform.open_image(disk.path, disk.type, writable=True) as image:
            if disk.type.partitioned:
                table_changes(image.read, image.size, self.wanted, self.place)
        if disk.encrypted:
            scratch = self.session.home.run / f"{disk.uuid}.header"
            check_password(ctx, disk.path, disk.type, self.known.partition, scratch, disk_secret(self.session, disk))
        if not shrinking:
            self._need_room(ctx)
        # Checks the filesystem, and whether there is the right to do that, before anything is changed.
        needed = self._filesystem().smallest(ctx)
        if shrinking:
            self._agree(needed, ctx)
        compact_partial_of(disk.path).unlink(missing_ok=True)
        remove_unfinished(disk.path)
        return {}

    def shrink(self, ctx: Context) -> Json:
        """Make room at the end of the partition."""
        # From here on nobody may count on more.
        former = self.known.size
        self.session.catalog.set_size(self.disk.uuid, self.wanted)
        try:
            return self._filesystem().run(ctx)
        except (VdiskError, OSError):
            if not changes_of(self.disk.path).exists():
                self.session.catalog.set_size(self.disk.uuid, former)
            raise

    def partition(self, ctx: Context) -> Json:
        """Write the table, and remember it."""
        result = self.table().run(ctx)
        self.session.catalog.set_partition(self.disk.uuid, self.place)
        return result

    def image(self, ctx: Context) -> Json:
        """Make the image longer or shorter."""
        return ResizeImage(self.disk.path, self.disk.type, self.wanted).run(ctx)

    def grow(self, ctx: Context) -> Json:
        """Let the filesystem have all of the partition."""
        return self._filesystem().run(ctx)

    def register(self, ctx: Context) -> Json:
        """The catalog says so too."""
        self.session.catalog.set_size(self.disk.uuid, self.wanted)
        return {}

    def _filesystem(self) -> ResizeFilesystem:
        disk = self.known
        secret = disk_secret(self.session, disk)
        return ResizeFilesystem(disk.path, disk.type, disk.partition, disk.file_system, self.place.length, secret)

    def _agree(self, needed: int, ctx: Context) -> None:
        """Refuse what is too small for the ``needed`` bytes of the partition, naming what is not; else ask."""
        disk, known = self.disk, self.known
        if needed > self.place.length:
            least = -(-(known.partition.start + needed) // MIB) * MIB + (_END if disk.type.partitioned else 0)
            least = max(least, cell(disk.type, disk.file_system, encrypted=disk.encrypted).smallest)
            raise Refused(
                f"{show_size(self.wanted)} is too small for what is on {disk.name}",
                state="nothing was changed",
                hint=f"the smallest possible is {-(-least // MIB)}MiB ({show_size(least)})",
            )
        text = f"Make {disk.name} smaller, from {show_size(self.present())} to {show_size(self.wanted)}?"
        if not ctx.confirm("resize", text):
            raise Refused(f"{disk.name} was not resized", state="nothing was changed")

    def _need_room(self, ctx: Context) -> None:
        """As for a new disk: all that it may ever need. Raises ``Refused``."""
        folder, image = self.disk.path.parent, self.disk.path
        free = ctx.platform.free_space(folder)
        if self.wanted - allocated(image) > free:
            raise Refused(
                f"no room for a disk of {show_size(self.wanted)}: {folder} has {show_size(free)} free",
                state="nothing was changed",
                hint="free some space there, or choose a smaller --size",
            )
        largest = ctx.platform.largest_file(folder)
        if self.disk.type.raw and largest is not None and self.wanted > largest:
            raise Refused(
                f"the filesystem of {folder} holds no files larger than {show_size(largest)}",
                state="nothing was changed",
                hint=f"portunix vdisk convert {self.disk.name} --to vhdx makes one that grows as it is filled",
            )


def resize_graph(session: Session, options: Mapping[str, str]) -> Graph:
    """The graph of ``resize:NAME``. Raises ``NotFound``, ``Refused``, or ``BadUsage`` for a size that cannot be."""
    disk, wanted = find_disk(session, options["disk"]), parse_size(options["size"])
    check_size(wanted, disk.type, disk.file_system, encrypted=disk.encrypted)
    work = _Resizing(session, disk, wanted)
    former = work.present()

    def done(values: Values) -> bool:
        return work.done()

    def shrunk(values: Values) -> bool:
        return work.done() or work.place.length >= work.known.partition.length

    def extended(values: Values) -> bool:
        return work.done() or work.present() >= wanted

    def partitioned(values: Values) -> bool:
        # Killed between the two, the table knows more than the catalog.
        return work.done() or (work.known.partition == work.place and work.table().is_written(session.platform))

    def cut(values: Values) -> bool:
        return work.done() or work.present() <= wanted

    def grown(values: Values) -> bool:
        # While a disk becomes smaller the catalog knows that beforehand.
        return work.done() or work.known.size == wanted

    return Graph(
        operation="resize",
        disk=disk.name,
        doc=f"make {disk.name} a disk of {show_size(wanted)}",
        locks=(disk.path,),
        members=(
            Member("prepare", "find out whether that is possible", work.prepare, done),
            Member("shrink", "make the filesystem smaller", work.shrink, shrunk),
            Member("extend", "make the image larger", work.image, extended),
            Member("partition", "change the partition table", work.partition, partitioned),
            Member("cut", "make the image smaller", work.image, cut),
            Member("grow", "make the filesystem larger", work.grow, grown),
            Member("register", "enter the size into the catalog", work.register, done),
        ),
        result=lambda values: {
            "disk": disk_json(session, known_disk(session, disk.name)),
            "former_size_bytes": former,
            "changed": bool(session.ran),
        },
    )
