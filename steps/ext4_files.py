"""Which files of an ext4 filesystem lie on given places of it, and what they are called; nothing of it is trusted.

Every inode in use is read for its blocks, then every folder for names, as ``debugfs`` does for ``icheck`` and
``ncheck``; damaged parts may read as zeros. Source: Linux, Documentation/filesystems/ext4 (inodes.rst, ifork.rst,
directory.rst) and fs/ext4/ext4.h. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from portunix_vdisk.steps.ext4 import Doubt, Read
from portunix_vdisk.steps.ext4_shape import Shape, read_shape

_EXTENTS, _INLINE = 0x80000, 0x10000000
_TREE: Final = 0xF30A
_ROOT, _FIRST = 2, 11
_DIRECTORY, _REGULAR, _LINK = 0x4000, 0x8000, 0xA000
_NODE: Final = struct.Struct("<HHHHI")
_DEEPEST: Final = 6
_MOST_NODES: Final = 4096
"""Blocks of one file's map that are read."""
_MOST_BLOCKS: Final = 1 << 20
"""Blocks of all maps that are read, and those of all folders: far more than real filesystems have."""
_MOST_NAMED: Final = 1 << 14
_LONGEST_PATH: Final = 4096
_MOST_RUNS: Final = 1 << 16
"""Pieces that a folder may lie in."""
_WINDOW: Final = 1 << 20
_ZEROS: Final = bytes(_WINDOW)
Runs = list[tuple[int, int]]
"""First block and end of each run."""


@dataclass(slots=True)
class Findings:
    """What lies on the damaged places."""

    files: list[bytes] = field(default_factory=list)
    """Paths from the root of the filesystem, sorted; folders end with a slash. Not more than 16384 of them."""
    file_count: int = 0
    """How many there are."""
    structures: list[str] = field(default_factory=list)
    """Parts of the filesystem itself, in words."""


class _TooMuch(Exception):
    """Nothing of one file: the filesystem as a whole wants more work than any real one."""


class _Files:
    def __init__(self, read: Read, shape: Shape, damaged: Runs, poll: Callable[[], None]) -> None:
        self._read = read
        self._shape = shape
        self._damaged = damaged
        self._ends = [end for _, end in damaged]
        self._poll = poll
        self._nodes: set[int] = set()
        """Blocks that are part of some map: none is part of two, and what goes in circles ends."""
        self._hit: Runs = []
        """Runs of inodes of which a block, or they themselves, are damaged. There may be millions in a row."""
        self.folders: dict[int, Runs] = {}

    def is_damaged(self, first: int, end: int) -> bool:
        number = bisect_right(self._ends, first)
        return number < len(self._damaged) and self._damaged[number][0] < end

    def is_hit(self, inode: int) -> bool:
        """Whether an inode that was looked at, or a block of it, is damaged."""
        number = bisect_right(self._hit, inode, key=lambda run: run[0]) - 1
        return number >= 0 and inode < self._hit[number][1]

    def _mark(self, inode: int, end: int = 0) -> None:
        """Inodes from this one to ``end``, or just this one, are hit; they are looked at in their order."""
        end = end or inode + 1
        if self._hit and inode <= self._hit[-1][1]:
            self._hit[-1] = self._hit[-1][0], max(end, self._hit[-1][1])
        else:
            self._hit.append((inode, end))

    def _mark_lost(self, group: int, table: int, start: int, stop: int) -> None:
        """Mark those inodes of a group, from ``start`` to ``stop``, that lie in damaged blocks."""
        shape = self._shape
        base = group * shape.inodes_per_group + 1
        for number in range(bisect_right(self._ends, table), len(self._damaged)):
            block, end_block = (place - table for place in self._damaged[number])
            first = max(start, -(-block * shape.block_size // shape.inode_size))
            end = min(stop, -(-end_block * shape.block_size // shape.inode_size))
            if first >= stop:
                return
            if first < end:
                self._mark(base + first, base + end)

    def scan(self) -> Iterator[str]:
        """Look at every inode; says what of the tables is damaged."""
        shape = self._shape
        step = _WINDOW // shape.inode_size
        for group, (table, used) in enumerate(shape.tables):
            for start in range(0, used, step):
                self._poll()
                count = min(step, used - start)
                first = table * shape.block_size + start * shape.inode_size
                raw = bytes(self._read(first, count * shape.inode_size))
                if raw == _ZEROS[: len(raw)]:  # never used, as most inodes of most filesystems, or lost
                    self._mark_lost(group, table, start, start + count)
                    continue
                for number in range(count):
                    at = number * shape.inode_size
                    self._look(group, table, start + number, raw[at : at + shape.inode_size])
            blocks = -(-used * shape.inode_size // shape.block_size)
            if self.is_damaged(table, table + blocks):
                yield f"inodes of block group {group}"

    def _look(self, group: int, table: int, number: int, raw: bytes) -> None:
        shape = self._shape
        inode = group * shape.inodes_per_group + number + 1
        at = table + number * shape.inode_size // shape.block_size
        if self.is_damaged(at, at + 1):
            self._mark(inode)
        mode, links = struct.unpack_from("<H", raw)[0], struct.unpack_from("<H", raw, 0x1A)[0]
        if not mode or (not links and inode >= _FIRST):
            return
        nodes: Runs = []
        data: Runs = []
        is_folder = mode & 0xF000 == _DIRECTORY
        try:
            for run in self._blocks(raw, mode, nodes):
                if self.is_damaged(*run):
                    self._mark(inode)
                if is_folder and len(data) < _MOST_RUNS:
                    data.append(run)
        except Doubt:
            self._mark(inode)
            return
        if any(self.is_damaged(*run) for run in nodes):
            self._mark(inode)
        if is_folder:
            self.folders[inode] = data

    def _blocks(self, raw: bytes, mode: int, nodes: Runs) -> Iterator[tuple[int, int]]:
        """Runs of blocks with content; ``nodes`` gets those of the map itself."""
        (flags,) = struct.unpack_from("<I", raw, 0x20)
        sort = mode & 0xF000
        if flags & _INLINE or sort not in (_DIRECTORY, _REGULAR, _LINK):
            return
        root = raw[0x28:0x64]
        if flags & _EXTENTS:
            yield from self._extents(root, nodes, _DEEPEST)
            return
        if sort == _LINK and struct.unpack_from("<I", raw, 4)[0] < 60:
            return
        pointers = struct.unpack("<15I", root)
        yield from ((block, block + 1) for block in pointers[:12] if block)
        for depth, block in enumerate(pointers[12:], start=1):
            if block:
                yield from self._indirect(block, depth, nodes)

    def _extents(self, node: bytes, nodes: Runs, left: int) -> Iterator[tuple[int, int]]:
        magic, entries, _, depth, _ = _NODE.unpack_from(node)
        if magic != _TREE or _NODE.size * (entries + 1) > len(node) or left < 0 or len(nodes) > _MOST_NODES:
            raise Doubt("the map of a file makes no sense")
        for number in range(1, entries + 1):
            at = number * _NODE.size
            if depth:
                _, low, high = struct.unpack_from("<IIH", node, at)
                block = low | high << 32
                yield from self._extents(self._node(block, nodes), nodes, min(left, depth) - 1)
            else:
                _, length, high, low = struct.unpack_from("<IHHI", node, at)
                block = low | high << 32
                yield block, block + (length if length <= 0x8000 else length - 0x8000)

    def _indirect(self, block: int, depth: int, nodes: Runs) -> Iterator[tuple[int, int]]:
        if len(nodes) > _MOST_NODES:
            raise Doubt("the map of a file is too long")
        raw = self._node(block, nodes)
        for (child,) in struct.iter_unpack("<I", raw):
            if child and depth > 1:
                yield from self._indirect(child, depth - 1, nodes)
            elif child:
                yield child, child + 1

    def _node(self, number: int, nodes: Runs) -> bytes:
        """A block of a map. Raises ``Doubt`` for one that some map has already."""
        nodes.append((number, number + 1))
        if number in self._nodes:
            raise Doubt("the maps of files share blocks")
        if len(self._nodes) >= _MOST_BLOCKS:
            raise _TooMuch("the maps of the files are too long")
        self._poll()
        self._nodes.add(number)
        return self._block(number)

    def _block(self, number: int) -> bytes:
        size = self._shape.block_size
        return bytes(self._read(number * size, size))

    def names(self) -> Iterator[tuple[int, int, bytes, bool]]:
        """Every name: its folder, the inode, the name, whether that is a folder."""
        left = _MOST_BLOCKS
        for folder, runs in self.folders.items():
            for first, end in runs:
                for block in range(first, min(end, first + _MOST_NODES)):
                    self._poll()
                    left -= 1
                    if not left:
                        raise _TooMuch("the folders are too large")
                    try:
                        raw = self._block(block)
                    except Doubt:
                        continue
                    for inode, name in _entries(raw):
                        yield folder, inode, name, inode in self.folders


def files_on(
    read: Read, length: int, damaged: Sequence[tuple[int, int]], poll: Callable[[], None] = lambda: None
) -> Findings:
    """What lies on the damaged places of a filesystem.

    Args:
        read: bytes of the filesystem, at an offset, of a length.
        length: of the partition, in bytes.
        damaged: start and end of each damaged place in bytes, ascending.
        poll: called often; may raise.

    Raises ``Doubt`` if the filesystem can't be found its way in: its superblock is damaged, or says what can't be.
    """

    def bounded(offset: int, size: int) -> bytearray:
        if not 0 <= offset <= length - size:
            raise Doubt("the filesystem names places outside the partition")
        return read(offset, size)

    shape = read_shape(bounded, length)
    runs = [(start // shape.block_size, -(-end // shape.block_size)) for start, end in damaged]
    files = _Files(bounded, shape, runs, poll)
    found = Findings()
    if files.is_damaged(0, shape.descriptors_end):
        found.structures.append("superblock or group descriptors")
    try:
        found.structures += files.scan()
        _name(files, found)
    except _TooMuch as problem:
        raise Doubt(str(problem)) from problem
    reserved = {_ROOT: "root folder", 7: "room for growing", 8: "journal"}
    found.structures += [reserved.get(inode, f"inode {inode}") for inode in range(1, _FIRST) if files.is_hit(inode)]
    return found


def _name(files: _Files, found: Findings) -> None:
    """Find the names of all inodes that were hit."""
    parents: dict[int, tuple[int, bytes]] = {}
    named: list[tuple[int, int, bytes]] = []
    for folder, inode, name, is_folder in files.names():
        if name in (b".", b".."):
            continue
        if is_folder:
            parents.setdefault(inode, (folder, name))
        if files.is_hit(inode):
            found.file_count += 1
            if len(named) < _MOST_NAMED:
                named.append((folder, inode, name))
    for folder, inode, name in named:
        path = _path(folder, parents) + name
        found.files.append(path + b"/" if inode in files.folders else path)
    found.files.sort()


def _path(folder: int, parents: dict[int, tuple[int, bytes]]) -> bytes:
    parts: list[bytes] = []
    length = 0
    while folder != _ROOT:
        length += 1 + len(parts[-1]) if parts else 0
        if folder not in parents or length > _LONGEST_PATH:
            return b"/?/" + b"".join(
                part + b"/" for part in reversed(parts)
            )  # the way to it is damaged, or goes in a circle
        folder, name = parents[folder]
        parts.append(name)
    return b"/" + b"".join(part + b"/" for part in reversed(parts))


def _entries(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Inode and name of every entry in a block of a folder, up to the first that makes no sense."""
    at = 0
    while at + 8 <= len(raw):
        inode, size, length = struct.unpack_from("<IHB", raw, at)
        if size == 0 and len(raw) == 1 << 16:
            size = 1 << 16
        if size < 8 + length or size % 4 or at + size > len(raw):
            return
        if inode and length:
            yield inode, raw[at + 8 : at + 8 + length]
        at += size
