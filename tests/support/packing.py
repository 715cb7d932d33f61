"""Archives for tests, with whatever members, right or wrong."""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import zstandard


def tarball(path: Path, *members: tarfile.TarInfo | tuple[str, bytes], packed: str = "gz") -> Path:
    """A tarball; a pair is a file of that name and content."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for one in members:
            if isinstance(one, tuple):
                info = tarfile.TarInfo(one[0])
                info.size = len(one[1])
                archive.addfile(info, io.BytesIO(one[1]))
            else:
                archive.addfile(one)
    path.write_bytes(pack(plain.getvalue(), packed))
    return path


def pack(plain: bytes, how: str) -> bytes:
    """Compressed bytes."""
    if how == "gz":
        import gzip

        return gzip.compress(plain, 1)
    return {"xz": lzma.compress, "zst": zstandard.compress, "": bytes}[how](plain)


def member(name: str, kind: bytes, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    """A member that is no file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return info


def deb(path: Path, *members: tarfile.TarInfo | tuple[str, bytes], packed: str = "xz") -> Path:
    """A Debian package."""
    data = tarball(path.with_name("data"), *members, packed=packed).read_bytes()
    path.with_name("data").unlink()
    parts = [("debian-binary", b"2.0\n"), ("control.tar.xz", b"123"), (f"data.tar.{packed}".rstrip("."), data)]
    text = b"!<arch>\n"
    for name, content in parts:
        text += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        text += b"\n" if len(content) % 2 else b""
    path.write_bytes(text)
    return path


def archive(path: Path, *members: tuple[str, bytes] | tuple[str, bytes, int]) -> Path:
    """A ZIP archive or wheel: names, contents and modes."""
    with zipfile.ZipFile(path, "w") as made:
        for name, content, *mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode[0] if mode else 0o100644) << 16
            made.writestr(info, content)
    return path
