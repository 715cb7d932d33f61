"""Exchange: the converted image gets its name, the catalog points to it, and only then the former image goes.

Between any two of these steps a run may be killed. A note beside the new image, written before it has its name, says
which file was made and which one it was made of, so that the next run finishes or takes back, whatever it finds.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import astuple, dataclass
from pathlib import Path

from portunix_vdisk.platform.base import FileIdentity, ImageType
from portunix_vdisk.platform.errors import NotFound, Refused
from portunix_vdisk.steps import durable
from portunix_vdisk.steps.catalog import Catalog
from portunix_vdisk.steps.compact.replace import sync_file
from portunix_vdisk.steps.convert.copy import CopyDisk
from portunix_vdisk.steps.step import Context, Json

_WORDS = {ImageType.VHD: "dynamic", ImageType.VHD_FIXED: "fixed"}
"""Types that share their extension."""


def converted_path(image: Path, type: ImageType, wanted: ImageType) -> Path:
    """The file that an image becomes: beside it, with the other type's extension."""
    stem = image.name.removesuffix(f".{type.extension}")
    for word in _WORDS.values():
        stem = stem.removesuffix(f".{word}") or stem
    made = image.with_name(f"{stem}.{wanted.extension}")
    return made if made != image else image.with_name(f"{stem}.{_WORDS[wanted]}.{wanted.extension}")


def convert_partial_of(image: Path, wanted: ImageType) -> Path:
    """Where a conversion of this image writes."""
    return image.with_name(f"{image.name}.{wanted}.convert.partial")


def note_of(image: Path) -> Path:
    """The note about a converted image; it is there as long as the exchange is not finished."""
    return image.with_name(image.name + ".convert")


def remove_unfinished(image: Path, *, but: ImageType | None = None) -> None:
    """Remove what conversions of this image have begun to write, except for one to the type ``but``."""
    for type in ImageType:
        if type is not but:
            convert_partial_of(image, type).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Exchange:
    """Prove the converted image once more against the disk and let it be the disk's image.

    Owner, mode, extended attributes and time of the last change are those of the former one.
    """

    copy: CopyDisk
    final: Path
    catalog: Path
    uuid: str

    def run(self, ctx: Context) -> Json:
        """Result: the new image. Raises ``Corrupt``, and ``Refused`` where something has that name already."""
        image, partial = self.copy.image, self.copy.partial
        self.copy.prove(ctx)
        # A virtual machine may have opened it meanwhile.
        with ctx.platform.open_image(image, self.copy.type, writable=True):
            pass
        shutil.copystat(image, partial)
        former, made = durable.identity_of(image), durable.identity_of(partial)
        note = {
            "uuid": self.uuid,
            "former": image.name,
            "identity": astuple(former),
            "partial": partial.name,
            "made": [made.device, made.inode],
        }
        sync_file(partial, drop=False)
        durable.replace_text(note_of(self.final), json.dumps(note))
        try:
            durable.publish(partial, self.final)
        except FileExistsError:
            note_of(self.final).unlink()
            raise in_the_way(self.final) from None
        with Catalog.open(self.catalog, create=True) as catalog:
            disk = catalog.by_uuid(self.uuid)
            if disk is None:
                raise NotFound("the disk was deleted meanwhile", state=f"the converted image is {self.final}")
            untouched = disk.imported_identity == former
            identity = durable.identity_of(self.final) if untouched else None
            catalog.set_image(self.uuid, self.final, self.copy.wanted, identity)
        settle(self.catalog, self.uuid, self.final)
        return {"path": str(self.final)}


def settle(catalog: Path, uuid: str, final: Path) -> None:
    """Finish what the note of an image says, or take back what a killed run had begun. Raises ``OSError``.

    Where the catalog points to the new image, the former one is removed if nobody has written to it since. Where it
    still points to the former one the new one is partial again: the disk may have been used meanwhile.
    """
    note = note_of(final)
    try:
        said = json.loads(note.read_text())
        former, partial = (final.with_name(str(said[key])) for key in ("former", "partial"))
        identity, (device, inode) = FileIdentity(*said["identity"]), said["made"]
        ours = said["uuid"] == uuid and partial.name.startswith(former.name + ".")
    except FileNotFoundError:
        return
    except (ValueError, TypeError, KeyError):
        ours = False
    with Catalog.open(catalog, create=False) as known:
        disk = known.by_uuid(uuid)
        if ours and disk is not None:
            if disk.path == final and known.by_path(former) is None:
                _remove(former, identity)
            elif disk.path == former and durable.has_inode(final, (device, inode)):
                if durable.has_inode(partial, (device, inode)):  # killed between the two names
                    final.unlink()
                else:
                    final.replace(partial)
    note.unlink()
    durable.fsync_folder(final.parent)


def in_the_way(path: Path) -> Refused:
    """Why an image cannot get its name."""
    return Refused(
        f"{path} exists, and that is what the converted image would be called",
        state="nothing was changed",
        hint="move that file away and run the same command again",
    )


def _remove(former: Path, known: FileIdentity) -> None:
    try:
        now = durable.identity_of(former)
    except FileNotFoundError:
        return
    if (now.device, now.inode, now.size, now.mtime_ns) == (known.device, known.inode, known.size, known.mtime_ns):
        former.unlink()
        durable.fsync_folder(former.parent)
