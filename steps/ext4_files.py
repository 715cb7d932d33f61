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

_EXTENTS, _INLINE = 0x80000, 0x10000000
_TREE: Final = 0xF30A
_ROOT, _FIRST = 2, 11
_META_BG: Final = 0x10
_CHECKSUMS: Final = 0x10 | 0x400
_DIRECTORY, _REGULAR, _LINK = 0x4000, 0x8000, 0xA000
_NODE: Final = struct.Struct("<HHHHI")
_DEEPEST: Final = 6
_MOST_NODES: Final = 4096
"""Blocks of one file's map that are read."""
_WINDOW: Final = 1 << 20
_MOST_INODES: Final = 1 << 26
Runs = list[tuple[int, int]]
"""First block and end of each run."""


@dataclass(slots=True)
class Findings:
    """What lies on the damaged places."""

    files: list[bytes] = field(default_factory=list)
    """Paths from the root of the filesystem, sorted; folders end with a slash."""
    structures: list[str] = field(default_factory=list)
    """Parts of the filesystem itself, in words."""


@dataclass(frozen=True, slots=True)
class _Shape:
    block_size: int
    inodes: int
    inodes_per_group: int
    inode_size: int
    tables: list[tuple[int, int]]
    """First block of each group's inode table, and how many of its inodes were ever used."""
    descriptors_end: int


class _Files:
    def __init__(self, read: Read, shape: _Shape, damaged: Runs, poll: Callable[[], None]) -> None:
        self._read = read
        self._shape = shape
        self._damaged = damaged
        self._ends = [end for _, end in damaged]
        self._poll = poll
        self.hit: set[int] = set()
        """Inodes of which a block, or they themselves, are damaged."""
        self.folders: dict[int, Runs] = {}

    def is_damaged(self, first: int, end: int) -> bool:
        number = bisect_right(self._ends, first)
        return number < len(self._damaged) and self._damaged[number][0] < end

    def scan(self) -> Iterator[str]:
        """Look at every inode; says what of the tables is damaged."""
        shape = self._shape
        step = _WINDOW // shape.inode_size
        for group, (table, used) in enumerate(shape.tables):
            for start in range(0, used, step):
                self._poll()
                count = min(step, used - start)
                raw = bytes(self._read(table * shape.block_size + start * shape.inode_size, count * shape.inode_size))
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
            self.hit.add(inode)
        mode, links = struct.unpack_from("<H", raw)[0], struct.unpack_from("<H", raw, 0x1A)[0]
        if not mode or (not links and inode >= _FIRST):
            return
        runs: Runs = []
        try:
            data = list(self._blocks(raw, mode, runs))
        except Doubt:
            self.hit.add(inode)
            return
        if any(self.is_damaged(*run) for run in (*data, *runs)):
            self.hit.add(inode)
        if mode & 0xF000 == _DIRECTORY:
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
                nodes.append((block, block + 1))
                yield from self._extents(self._block(block), nodes, min(left, depth) - 1)
            else:
                _, length, high, low = struct.unpack_from("<IHHI", node, at)
                block = low | high << 32
                yield block, block + (length if length <= 0x8000 else length - 0x8000)

    def _indirect(self, block: int, depth: int, nodes: Runs) -> Iterator[tuple[int, int]]:
        if len(nodes) > _MOST_NODES:
            raise Doubt("the map of a file is too long")
        nodes.append((block, block + 1))
        raw = self._block(block)
        for (child,) in struct.iter_unpack("<I", raw):
            if child and depth > 1:
                yield from self._indirect(child, depth - 1, nodes)
            elif child:
                yield child, child + 1

    def _block(self, number: int) -> bytes:
        size = self._shape.block_size
        return bytes(self._read(number * size, size))

    def names(self) -> Iterator[tuple[int, int, bytes, bool]]:
        """Every name: its folder, the inode, the name, whether that is a folder."""
        for folder, runs in self.folders.items():
            self._poll()
            for first, end in runs:
                for block in range(first, min(end, first + _MOST_NODES)):
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

    shape = _shape(bounded, length)
    runs = [(start // shape.block_size, -(-end // shape.block_size)) for start, end in damaged]
    files = _Files(bounded, shape, runs, poll)
    found = Findings()
    if files.is_damaged(0, shape.descriptors_end):
        found.structures.append("superblock or group descriptors")
    found.structures += files.scan()
    parents: dict[int, tuple[int, bytes]] = {}
    named: list[tuple[int, int, bytes]] = []
    for folder, inode, name, is_folder in files.names():
        if name in (b".", b".."):
            continue
        if is_folder:
            parents.setdefault(inode, (folder, name))
        if inode in files.hit:
            named.append((folder, inode, name))
    for folder, inode, name in named:
        path = _path(folder, parents) + name
        found.files.append(path + b"/" if inode in files.folders else path)
    found.files.sort()
    reserved = {_ROOT: "root folder", 7: "room for growing", 8: "journal"}
    found.structures += [reserved.get(inode, f"inode {inode}") for inode in sorted(files.hit) if inode < _FIRST]
    return found


def _path(folder: int, parents: dict[int, tuple[int, bytes]]) -> bytes:
    parts: list[bytes] = []
    while folder != _ROOT and len(parts) < 256:
        if folder not in parents:
            return b"/?/" + b"".join(part + b"/" for part in reversed(parts))  # the way to it is damaged
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


def _shape(read: Read, length: int) -> _Shape:
    """From the superblock, or the first copy of it, which lies in block group 1."""
    problem: Doubt | None = None
    for at, size in ((1024, 0), *((8 * size * size + size * (size == 1024), size) for size in (4096, 2048, 1024))):
        try:
            return _shape_at(read, length, at, size)
        except Doubt as doubt:
            problem = problem or doubt
    assert problem is not None
    raise problem


def _shape_at(read: Read, length: int, at: int, only: int) -> _Shape:
    """From the superblock at this offset; ``only`` is the size of blocks with which a copy is there."""
    block = bytes(read(at, 1024))
    inodes, blocks = struct.unpack_from("<II", block)
    first, log_size = struct.unpack_from("<II", block, 0x14)
    blocks_per_group, inodes_per_group = struct.unpack_from("<I4xI", block, 0x20)
    (magic,) = struct.unpack_from("<H", block, 0x38)
    (inode_size,) = struct.unpack_from("<H", block, 0x58)
    incompatible, read_only = struct.unpack_from("<II", block, 0x60)
    wide = bool(incompatible & 0x80)
    descriptor_size = struct.unpack_from("<H", block, 0xFE)[0] if wide else 32
    if magic != 0xEF53:
        raise Doubt("there is no ext4 filesystem in the partition, or its superblock is damaged")
    blocks |= struct.unpack_from("<I", block, 0x150)[0] << 32 if wide else 0
    if (
        log_size > 6
        or incompatible & _META_BG
        or not 0 < blocks <= length // (1024 << log_size)
        or not 0 < inodes <= _MOST_INODES
        or not (blocks_per_group and inodes_per_group)
        or inode_size not in (128, 256, 512, 1024, 2048, 4096)
        or not 32 <= descriptor_size <= 1024
        or not 0 < -(-(blocks - first) // blocks_per_group) <= 1 << 20
    ):
        raise Doubt("the filesystem's superblock says what cannot be, or has features that are not understood here")
    size, groups = 1024 << log_size, -(-(blocks - first) // blocks_per_group)
    if only not in (0, size):
        raise Doubt("this is no copy of the superblock")
    raw = bytes(read((at // size + 1) * size, groups * descriptor_size))
    tables = []
    for group in range(groups):
        one = raw[group * descriptor_size :][:descriptor_size]
        table, flags, unused = struct.unpack_from("<I6xH8xH", one, 8)
        if len(one) >= 64:
            table |= struct.unpack_from("<I", one, 0x28)[0] << 32
            unused |= struct.unpack_from("<H", one, 0x32)[0] << 16
        known = bool(read_only & _CHECKSUMS)
        used = 0 if known and flags & 1 else inodes_per_group - (min(unused, inodes_per_group) if known else 0)
        tables.append((table, used if table else 0))
    end = first + 1 + -(-groups * descriptor_size // size)
    return _Shape(size, inodes, inodes_per_group, inode_size, tables, end)
