"""Tools that are Debian packages, unpacked with the libraries that they need.

Format of the repository: https://wiki.debian.org/DebianRepository/Format. ``InRelease``, signed, has the digest of
the index, the index that of each package.
"""

from __future__ import annotations

import hashlib
import lzma
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from portunix_vdisk.steps.install.tool import Artifact, Form, NoSuchVersion, Source, Unreachable, fits, this_cpu
from portunix_vdisk.steps.install.web import Web

REPOSITORY: Final = "https://deb.debian.org/debian"
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
Verify = Callable[[bytes, str], bytes]
"""What is signed of a text by a file of keys; raises what it likes."""
_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9./+_~-]*")


def find(web: Web, source: Source, wanted: str, verify: Verify) -> tuple[str, tuple[Artifact, ...]]:
    """The version that the suite has, and the files of the package and of what it depends on.

    Raises ``Unreachable``, ``NoSuchVersion``, and what ``verify`` raises.
    """
    repository = source.repository or REPOSITORY
    architecture = ARCHITECTURES.get(this_cpu(), this_cpu())
    known = _packages(_index(web, repository, source.suite, architecture, source.keyring, verify))
    if source.package not in known:
        raise NoSuchVersion(f"{repository} has no {source.package} for {architecture}")
    version = exact_version(known[source.package]["Version"])
    if not fits(version, wanted):
        raise NoSuchVersion(f"{repository} has {source.package} {version} only, in {source.suite}")
    names = [source.package, *source.packages]
    if not source.closed:
        names = _with_dependencies(names, known, frozenset(source.without))
    return version, tuple(_artifact(repository, name, known, source.folder) for name in names)


def exact_version(text: str) -> str:
    """A version without its epoch, which no folder's name should have: 2.39.5-0+deb12u2."""
    version = text.rpartition(":")[2]
    if not _SAFE.fullmatch(version) or "/" in version:
        raise Unreachable(f"{text!r} is no version of a Debian package")
    return version


def _index(web: Web, repository: str, suite: str, architecture: str, keyring: str, verify: Verify) -> bytes:
    """The index of packages, as its release says it must be; packed if it was."""
    text = web.index(f"{repository}/dists/{suite}/InRelease")
    signed = verify(text, keyring) if keyring else text
    digests = _digests(signed.decode("utf-8", "replace"))
    for ending in (".xz", ""):
        name = f"main/binary-{architecture}/Packages{ending}"
        if name not in digests:
            continue
        digest, size = digests[name]
        packed = Artifact(
            f"{repository}/dists/{suite}/main/binary-{architecture}/by-hash/SHA256/{digest}",
            f"sha256:{digest}",
            Form.TAR,
            size,
        )
        try:
            data = web.fetch(packed, lambda done: None).read_bytes()
        except Unreachable:
            data = web.index(f"{repository}/dists/{suite}/{name}")
            if hashlib.sha256(data).hexdigest() != digest:
                raise Unreachable(f"{repository} has another index than its release says; try it again later") from None
        return data
    raise Unreachable(f"{repository} has no index for {architecture}")


def _unpacked(data: bytes) -> str:
    if data.startswith(b"\xfd7zXZ\0"):
        try:
            data = lzma.LZMADecompressor(memlimit=1 << 28).decompress(data, 512 << 20)
        except lzma.LZMAError as error:
            raise Unreachable(f"an index of packages cannot be unpacked: {error}") from error
    return data.decode("utf-8", "replace")


def _digests(release: str) -> dict[str, tuple[str, int]]:
    """SHA-256 and size of each file that a release names."""
    _, _, section = f"\n{release}".partition("\nSHA256:\n")
    found = {}
    for line in section.splitlines():
        if not line.startswith(" "):
            break
        digest, size, name = (*line.split(), "", "", "")[:3]
        if re.fullmatch("[0-9a-f]{64}", digest) and size.isdigit():
            found[name] = (digest, int(size))
    return found


@lru_cache(maxsize=2)
def _packages(index: bytes) -> dict[str, dict[str, str]]:
    """The fields of each package that we look at; the highest version where there are several."""
    wanted = ("Package", "Version", "Depends", "Pre-Depends", "Filename", "Size", "SHA256")
    found: dict[str, dict[str, str]] = {}
    for stanza in _unpacked(index).split("\n\n"):
        fields = {
            name: value
            for line in stanza.splitlines()
            if line[:1].isupper() and (parts := line.partition(": ")) and (name := parts[0]) in wanted
            for value in (parts[2].strip(),)
        }
        name = fields.get("Package", "")
        if name and {"Version", "Filename", "Size", "SHA256"} <= fields.keys():
            before = found.get(name)
            if before is None or _order(before["Version"]) < _order(fields["Version"]):
                found[name] = fields
    return found


def _order(version: str) -> list[tuple[int, int, str]]:
    """Enough of Debian's order of versions to tell the newest of one package in one suite."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"\d+|[^\d]+", version)]


def _with_dependencies(
    names: Iterable[str], known: Mapping[str, Mapping[str, str]], without: frozenset[str]
) -> list[str]:
    """The packages and what they depend on, of alternatives the first one that there is."""
    waiting, taken = list(names), list[str]()
    while waiting:
        name = waiting.pop(0)
        if name in taken or name in without or name not in known:
            continue
        taken.append(name)
        for field in ("Pre-Depends", "Depends"):
            for group in known[name].get(field, "").split(","):
                words = [one.split("(")[0].split(":")[0].strip() for one in group.split("|")]
                if not without.intersection(words):
                    waiting += [word for word in words if word in known][:1]
    return taken


def _artifact(repository: str, name: str, known: Mapping[str, Mapping[str, str]], folder: str) -> Artifact:
    if name not in known:
        raise NoSuchVersion(f"{repository} has no package {name}")
    one = known[name]
    path = one["Filename"]
    right = _SAFE.fullmatch(path) and ".." not in Path(path).parts and re.fullmatch("[0-9a-f]{64}", one["SHA256"])
    if not right or not one["Size"].isdigit():
        raise Unreachable(f"{repository} says about {name} what cannot be")
    return Artifact(f"{repository}/{path}", f"sha256:{one['SHA256']}", Form.DEB, int(one["Size"]), folder)
