"""What the filesystem of a target cannot hold: told before the first write, not half-way."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from portunix_vdisk.platform.base import FileSystemType
from portunix_vdisk.platform.formats import FILE_SYSTEMS
from portunix_vdisk.steps.sync.scan import FILE, FOLDER, SYMLINK, Entry

_FORBIDDEN: Final = re.compile(r'[\x00-\x1f"*:<>?\\|]|[. ]$')
"""In names on filesystems that Windows reads; Microsoft, "Naming Files, Paths, and Namespaces"."""
_DEVICES: Final = re.compile(r"(CON|PRN|AUX|NUL|(COM|LPT)[0-9])(\..*)?", re.IGNORECASE)


class Fits:
    """What fits onto a target with this filesystem; everything where it is not known."""

    def __init__(self, file_system: FileSystemType | None) -> None:
        self.name = str(file_system or "the disk")
        facts = FILE_SYSTEMS[file_system] if file_system is not None else None
        self.links = facts is None or facts.links
        """Symbolic links, and files with several names."""
        self.modes = facts is None or facts.modes
        """Owners and permissions, and times that can be set."""
        self._cased = facts is None or facts.cased
        self._any_name = facts is None or facts.any_name
        self._largest = facts.largest_file if facts is not None else None

    def twins(self, names: Iterable[str]) -> frozenset[str]:
        """Names that are the same to a filesystem which doesn't tell capitals from small letters."""
        if self._cased:
            return frozenset()
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(name.casefold(), []).append(name)
        return frozenset(name for group in groups.values() if len(group) > 1 for name in group)

    def trouble(self, name: str, entry: Entry, twins: frozenset[str]) -> str:
        """Why an entry does not fit; empty where it does. Symbolic links are left out elsewhere."""
        if entry.kind not in (FILE, FOLDER, SYMLINK) or (entry.kind == SYMLINK and not self.links):
            return ""
        if name in twins:
            return f"differs from another name only in capitals, which {self.name} does not tell apart"
        if not self._any_name:
            if _FORBIDDEN.search(name) or _DEVICES.fullmatch(name):
                return f"{self.name} cannot hold this name"
            if any("\udc80" <= letter <= "\udcff" for letter in name):
                return f"the name is no UTF-8, and {self.name} holds letters, not bytes"
        if entry.kind == FILE and self._largest is not None and entry.size > self._largest:
            return f"{entry.size} bytes; {self.name} holds {self._largest} in a file at most"
        return ""
