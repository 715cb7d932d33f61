"""Where a tool comes from, as registries of all kinds say it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from packing import pack
from serving import Served, serving
from silent import Silent

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.steps.install import debian, npm, pypi
from portunix_vdisk.steps.install.resolve import NotToBeHad, _verify, resolve
from portunix_vdisk.steps.install.tool import Form, NoSuchVersion, Source, Unreachable, Wanted, this_cpu
from portunix_vdisk.steps.install.web import Web
from portunix_vdisk.steps.step import Context


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as made:
        yield made


def context() -> Context:
    return Context(LinuxPlatform(), Silent())


def test_pypi_gives_the_newest_wheel_for_this_machine(served: Served, tmp_path: Path) -> None:
    names = [
        "tool-1.9.0-py3-none-any.whl",
        f"tool-1.10.0-py3-none-manylinux_2_17_{this_cpu()}.whl",
        "tool-1.11.0-py3-none-win_amd64.whl",
        "tool-1.12.0rc1-py3-none-any.whl",
        "tool-2.0.0-py3-none-any.whl",
        "tool-1.13.0.tar.gz",
        "nonsense.whl",
    ]
    files = [{"filename": one, "url": f"https://x/{one}", "hashes": {"sha256": "a" * 64}} for one in names]
    files[4]["yanked"] = "broken"
    served.files["/tool/"] = json.dumps({"files": files}).encode()
    web = Web(tmp_path, lambda: None)

    def newest(wanted: str) -> str:
        return pypi.newest_wheel(web, "tool", wanted, index=served.address)[0]

    assert [newest(one) for one in ("latest", "1", "1.9", "1.12.0rc1", "2.0.0")] == [
        *("1.10.0", "1.10.0", "1.9.0"),
        *("1.12.0rc1", "2.0.0"),
    ]
    with pytest.raises(NoSuchVersion, match=r"has no wheel for this machine of tool 1\.11\.0"):
        newest("1.11")
    with pytest.raises(NoSuchVersion, match="has no tool 3"):
        newest("3")
    for wrong in (b"{}", b"[]", b"<html>", json.dumps({"files": [{**files[0], "hashes": {}}]}).encode()):
        served.files["/tool/"] = wrong
        with pytest.raises(Unreachable):
            newest("latest")


def test_npm_gives_a_digest_or_nothing(served: Served, tmp_path: Path) -> None:
    def version(number: str, integrity: str) -> dict[str, object]:
        return {"version": number, "dist": {"tarball": f"https://x/{number}.tgz", "integrity": integrity}}

    good = f"sha1-xx sha512-{'A' * 86}=="
    versions = {one: version(one, good) for one in ("1.9.0", "1.10.0", "2.0.0-beta.1", "1.8.0", "odd")}
    versions["1.7.0"] = version("1.7.0", "sha1-deadbeef")
    said = {"versions": versions, "dist-tags": {"latest": "1.9.0"}}
    served.files["/@s/tool"] = json.dumps(said).encode()
    web, source = Web(tmp_path, lambda: None), Source("npm", "@s/tool")
    served.files["/@s%2Ftool"] = served.files["/@s/tool"]
    found = [npm.find(web, source, one, served.address)[0] for one in ("latest", "1", "1.8")]
    assert found == ["1.9.0", "1.10.0", "1.8.0"]
    _, (file,) = npm.find(web, source, "1", served.address)
    assert file.digest == f"sha512:{'00' * 64}" and file.folder == "package"
    with pytest.raises(Unreachable, match="has no digest to trust"):
        npm.find(web, source, "1.7", served.address)
    with pytest.raises(NoSuchVersion):
        npm.find(web, source, "3", served.address)


def _debian(served: Served, *stanzas: str) -> Source:
    index = pack("\n\n".join(stanzas).encode(), "xz")
    digest, cpu = hashlib.sha256(index).hexdigest(), debian.ARCHITECTURES[this_cpu()]
    place = f"main/binary-{cpu}"
    served.files["/dists/s/InRelease"] = f"Origin: x\nSHA256:\n {digest} {len(index)} {place}/Packages.xz\n".encode()
    served.files[f"/dists/s/{place}/by-hash/SHA256/{digest}"] = index
    return Source("debian", "git", repository=served.address, suite="s", without=("libc6",))


def _stanza(name: str, depends: str = "", version: str = "1:2.1-3", path: str = "pool/x_1.deb") -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()
    more = f"Depends: {depends}\n" if depends else ""
    return f"Package: {name}\nVersion: {version}\n{more}Filename: {path}\nSize: 5\nSHA256: {digest}"


def test_debian_gives_a_package_and_what_it_needs(served: Served, tmp_path: Path) -> None:
    needs = "libc6 (>= 2), liba:any (>= 1) | libother, missing | libb, libx | libc6"
    stanzas = [
        _stanza("git", needs),
        _stanza("liba", "libb"),
        _stanza("libb", "git"),
        _stanza("libx"),
        _stanza("libc6"),
    ]
    web = Web(tmp_path, lambda: None)
    checked: list[str] = []
    source = _debian(served, *stanzas)
    version, files = debian.find(web, source, "2.1", lambda text, keyring: checked.append(keyring) or text)
    assert version == "2.1-3" and [one.form for one in files] == [Form.DEB] * 3 and checked == []
    names = ["git", "liba", "libb"]
    assert [one.digest for one in files] == [f"sha256:{hashlib.sha256(one.encode()).hexdigest()}" for one in names]
    with pytest.raises(NoSuchVersion, match=r"has git 2\.1-3 only"):
        debian.find(web, source, "3", lambda text, keyring: text)
    for wrong in ("../../etc/x.deb", "/x.deb", "pool/a b.deb"):
        with pytest.raises(Unreachable, match="what cannot be"):
            debian.find(web, _debian(served, _stanza("git", path=wrong)), "latest", lambda text, keyring: text)


def test_only_what_is_signed_of_a_release_counts(served: Served, tmp_path: Path) -> None:
    _debian(served, _stanza("git"))
    signed = served.files["/dists/s/InRelease"]
    cpu = debian.ARCHITECTURES[this_cpu()]
    served.files["/dists/s/InRelease"] = f"SHA256:\n {'f' * 64} 5 main/binary-{cpu}/Packages.xz\n\n".encode() + signed
    source = Source("debian", "git", repository=served.address, suite="s", keyring="keys")
    version, _ = debian.find(Web(tmp_path, lambda: None), source, "latest", lambda text, keyring: signed)
    assert version == "2.1-3"


def test_text_in_front_of_a_signed_message_is_no_part_of_it(tmp_path: Path) -> None:
    """gpgv calls it a good signature all the same; with a release that Debian signed."""
    release = Web(tmp_path / "c", lambda: None).index(f"{debian.REPOSITORY}/dists/bookworm/InRelease")
    added = b"SHA256:\n " + b"f" * 64 + b" 5 main/binary-amd64/Packages.xz\n\n"
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    plain, alone = (_verify(text, keyring, tmp_path / "s", "git", context()) for text in (added + release, release))
    assert plain == alone
    assert b"Origin: Debian" in plain and b"PGP" not in plain and b"f" * 64 not in plain


def test_a_release_that_nobody_signed_is_refused(served: Served, tmp_path: Path) -> None:
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    assert keyring.exists() and Path("/usr/bin/gpgv").exists(), "they come with every Debian"
    source = _debian(served, _stanza("git"))
    signed = Source(source.kind, source.package, repository=source.repository, suite="s", keyring=str(keyring))
    with pytest.raises(Corrupt, match="signature of Debian's release"):
        resolve(Wanted("git", "latest", (signed,)), Web(tmp_path, lambda: None), tmp_path / "s", context())


def test_every_source_says_why_not(tmp_path: Path, served: Served) -> None:
    address = f"{served.address}/x-{{version}}.tgz"
    sources = (
        Source("archive", address=address, os=("windows",)),
        Source("archive", address=address, versions=("3", "4")),
        Source("archive", address=address, digests={"1.0": "a" * 64}),
        Source("debian", "git", repository=served.address),
    )
    with pytest.raises(NotToBeHad) as caught:
        resolve(Wanted("tool", "2", sources), Web(tmp_path, lambda: None), tmp_path, context())
    for words in (
        "tool@2 cannot be had",
        "not for linux",
        "serves 3, 4 only",
        "no digest of 2 is known",
        "answers 404",
    ):
        assert words in caught.value.what
    plan = resolve(Wanted("tool", "1", sources), Web(tmp_path, lambda: None), tmp_path, context())
    assert plan.version == "1.0" and plan.artifacts[0].address == f"{served.address}/x-1.0.tgz"
