from __future__ import annotations

import os
import stat
import struct
import tarfile
from pathlib import Path

import pytest
from packing import archive, deb, member, tarball

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.install import unpack
from portunix_vdisk.steps.install.archives import entries
from portunix_vdisk.steps.install.tool import Form
from portunix_vdisk.steps.install.unpack import Tree

ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<H", 3) + bytes(100)


def unpacked(path: Path, form: Form, only: str = "", *, whole_system: bool = False) -> dict[str, str]:
    """Name and mode, or target, of everything that came out; content is compared by who cares."""
    folder = path.parent / "out"
    folder.mkdir()
    tree = Tree(folder, lambda: None)
    tree.fill(entries(path, form), only, whole_system=whole_system)
    tree.close()
    found = {}
    for one in sorted(folder.rglob("*")):
        mode = one.lstat().st_mode
        shown = (
            f"-> {one.readlink()}" if stat.S_ISLNK(mode) else f"{stat.S_IMODE(mode):o}" if stat.S_ISREG(mode) else "/"
        )
        found[str(one.relative_to(folder))] = shown
    return found


def refused(path: Path, form: Form, *, whole_system: bool = False) -> str:
    with pytest.raises(Corrupt) as caught:
        unpacked(path, form, whole_system=whole_system)
    outside = {one.name for one in path.parent.iterdir()} - {"out", path.name}
    assert outside == set(), "something was written outside"
    return caught.value.what


def test_a_wheel_gives_its_part_and_its_scripts(tmp_path: Path) -> None:
    members = [
        ("tool/bin/run", b"#!/bin/sh\n"),
        ("tool/lib/x.js", b"x"),
        ("tool/bin/program", ELF),
        ("tool/lib/libx.so.1", ELF),
        ("tool/marked", b"1", 0o100755),
    ]
    path = archive(tmp_path / "a.whl", *members, ("tool-1.data/scripts/uv", b"x"), ("tool-1.dist-info/RECORD", b""))
    assert unpacked(path, Form.WHEEL, "tool") == {
        "bin": "/",
        "bin/run": "755",
        "bin/program": "755",
        "lib": "/",
        "lib/x.js": "644",
        "lib/libx.so.1": "644",
        "marked": "755",
    }
    (tmp_path / "out").rename(tmp_path / "former")
    assert unpacked(path, Form.WHEEL)["bin/uv"] == "755"
    assert (tmp_path / "out/bin/uv").read_bytes() == b"x"


@pytest.mark.parametrize("packed", ["gz", "xz", "zst", ""])
def test_tarballs_and_packages_are_read(tmp_path: Path, packed: str) -> None:
    folder, link = member("./package", tarfile.DIRTYPE), member("package/l", tarfile.SYMTYPE, "f")
    same = member("package/again", tarfile.LNKTYPE, "package/f")
    path = tarball(tmp_path / "a", folder, ("package/f", b"abc"), link, same, ("other/x", b""), packed=packed)
    assert unpacked(path, Form.TAR, "package") == {"f": "644", "again": "644", "l": "-> f"}
    path.unlink()
    (tmp_path / "out").rename(tmp_path / "former")
    members = (member("./usr/", tarfile.DIRTYPE), ("./usr/bin/git", b"#!/bin/sh\n"), ("./usr/share/doc/x", b"long"))
    absolute = member("./usr/lib/link", tarfile.SYMTYPE, "/usr/bin/git")
    path = deb(tmp_path / "a.deb", *members, absolute, packed=packed)
    found = unpacked(path, Form.DEB, whole_system=True)
    assert found == {
        "usr": "/",
        "usr/bin": "/",
        "usr/bin/git": "755",
        "usr/lib": "/",
        "usr/lib/link": "-> ../bin/git",
    }


WRONG_NAMES = ["/etc/x", "../x", "a/../../x", "a/./b", "a//b", "x" * 5000]


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    assert "no name of a file in a folder" in refused(tarball(tmp_path / "a", (name, b"x")), Form.TAR)
    assert not Path("/etc/x").exists()


@pytest.mark.parametrize("name", WRONG_NAMES[:3])
def test_they_are_in_zip_archives_too(tmp_path: Path, name: str) -> None:
    assert "no name of a file in a folder" in refused(archive(tmp_path / "a", (name, b"x")), Form.ZIP)


@pytest.mark.parametrize("target", ["/etc/passwd", "..", "../x", "a/../../x", ""])
def test_links_that_lead_out_are_refused(tmp_path: Path, target: str) -> None:
    assert "leads out of its folder" in refused(tarball(tmp_path / "a", member("l", tarfile.SYMTYPE, target)), Form.TAR)


def test_links_in_zip_archives_are_looked_at_too(tmp_path: Path) -> None:
    path = archive(tmp_path / "a", ("l", b"../../etc/passwd", 0o120777))
    assert "leads out" in refused(path, Form.ZIP)


def test_links_that_lead_out_together_are_refused(tmp_path: Path) -> None:
    up = member("a/b/up", tarfile.SYMTYPE, "../..")
    out = member("out", tarfile.SYMTYPE, "a/b/up/../x")
    path = tarball(tmp_path / "t", ("a/b/f", b""), up, out)
    assert "the link out in it leads out" in refused(path, Form.TAR)


@pytest.mark.parametrize("form", [Form.TAR, Form.DEB])
def test_nothing_is_written_through_a_link(tmp_path: Path, form: Form) -> None:
    members = (("d/f", b"good"), member("l", tarfile.SYMTYPE, "d"), ("l/f", b"evil"))
    path = (tarball if form is Form.TAR else deb)(tmp_path / "t", *members)
    assert "is a folder and something else" in refused(path, form)
    assert (tmp_path / "out/d/f").read_bytes() == b"good"


def test_a_link_is_not_replaced_and_not_followed(tmp_path: Path) -> None:
    path = tarball(tmp_path / "t", ("f", b"good"), member("l", tarfile.SYMTYPE, "f"), ("l", b"evil"))
    assert "twice" in refused(path, Form.TAR)
    assert (tmp_path / "out/f").read_bytes() == b"good"


def test_another_name_is_one_of_a_file_in_it(tmp_path: Path) -> None:
    for number, target in enumerate(("/etc/passwd", "../x", "missing", "d", "l/f", "l")):
        (tmp_path / str(number)).mkdir()
        members = (("d/f", b""), member("l", tarfile.SYMTYPE, "d"), member("s", tarfile.LNKTYPE, target))
        refused(tarball(tmp_path / str(number) / "t", *members), Form.TAR)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    assert "neither file nor folder" in refused(tarball(tmp_path / "t", member("d", kind)), Form.TAR)


def test_nobody_gets_roots_rights(tmp_path: Path) -> None:
    info = tarfile.TarInfo("su")
    info.mode = 0o6755
    assert unpacked(tarball(tmp_path / "t", info), Form.TAR) == {"su": "755"}


def test_there_is_an_end_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "_MOST_BYTES", 1 << 20)
    monkeypatch.setattr(unpack, "_MOST_ENTRIES", 50)
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    bomb = tarball(tmp_path / "1" / "t", *((f"{number}", bytes(300_000)) for number in range(10)))
    assert "larger than it says" in refused(bomb, Form.TAR)
    many = tarball(tmp_path / "2" / "t", *((f"{number}", b"") for number in range(60)))
    assert "more than 50 files" in refused(many, Form.TAR)


@pytest.mark.parametrize("form", list(Form))
def test_damage_is_told(tmp_path: Path, form: Form) -> None:
    whole = {
        Form.TAR: lambda path: tarball(path, ("f", os.urandom(100_000)), packed="gz"),
        Form.DEB: lambda path: deb(path, ("f", os.urandom(100_000))),
        Form.ZIP: lambda path: archive(path, ("f", os.urandom(100_000))),
        Form.WHEEL: lambda path: archive(path, ("f", os.urandom(100_000))),
    }[form](tmp_path / "t")
    data = whole.read_bytes()
    bent = bytearray(data)
    bent[len(data) // 2] ^= 0xFF
    for number, wrong in enumerate((data[: len(data) // 2], b"", os.urandom(5000), bytes(bent))):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "t").write_bytes(wrong)
        if form is Form.TAR and number in (1, 3):
            continue  # these are read as tarballs, an empty one and one with other content, as their digests tell
        assert "unpacked" in refused(folder / "t", form), number
