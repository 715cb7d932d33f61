"""Archives that are updated, encrypted, split, based on one another: as a person meets them."""

from __future__ import annotations

import random
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from blocks import check_filesystem, raw_of
from machine import Machine

from portunix_vdisk.platform.base import Partition


def put(machine: Machine, name: str, content: bytes) -> None:
    """Write a file onto the disk."""
    machine.vdisk("mount", "my-dev", "mnt")
    (machine.folder / "mnt" / name).write_bytes(content)
    machine.vdisk("unmount", "my-dev")


def files_of(machine: Machine, disk: str) -> dict[str, bytes]:
    machine.vdisk("mount", disk, "look")
    found = {path.name: path.read_bytes() for path in (machine.folder / "look").iterdir() if path.is_file()}
    machine.vdisk("unmount", disk)
    return found


def noise(length: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(length)


@pytest.fixture
def filled(machine: Machine) -> Machine:
    machine.vdisk("create", "--name", "my-dev", "--size", "64MB")
    put(machine, "first", noise(3_000_000, 1))
    return machine


def test_an_archive_is_updated_listed_verified_and_pruned(filled: Machine) -> None:
    first = filled.vdisk("export", "--disk", "my-dev", "--output", "a.zip", "--json").result
    assert (first["generation"], first["changed"]) == (1, True)
    again = filled.vdisk("export", "--disk", "my-dev", "--output", "a.zip", "--json").result
    assert (again["changed"], again["generation"]) == (False, 1)
    put(filled, "second", noise(50_000, 2))
    second = filled.vdisk("export", "--disk", "my-dev", "--output", "a.zip", "--json").result
    assert second["generation"] == 2 and second["added_bytes"] < 150_000 and second["generations"] == [1, 2]
    assert [path.name for path in filled.folder.glob("a.zip*")] == ["a.zip"]
    listed = filled.vdisk("archive", "list", "a.zip", "--json").result
    assert [one["generation"] for one in listed["generations"]] == [2, 1]
    assert filled.vdisk("verify", "a.zip", "--json").result["generations"] == [1, 2]
    filled.vdisk("import", "a.zip", "--name", "new")
    filled.vdisk("import", "a.zip", "--name", "old", "--generation", "1", "--type", "img")
    assert filled.disk("old").suffix == ".img"
    assert files_of(filled, "new") == {"first": noise(3_000_000, 1), "second": noise(50_000, 2)}
    assert files_of(filled, "old") == {"first": noise(3_000_000, 1)}
    partition = Partition(**filled.vdisk("info", "old", "--json").result["disk"]["partition"])
    with raw_of(filled.disk("old")) as raw:
        check_filesystem(raw, partition)
    assert filled.vdisk("import", "a.zip", "--name", "none", "--generation", "7", check=3).err
    assert filled.vdisk("archive", "prune", "a.zip", "--json").result["dropped"] == [1]
    assert filled.vdisk("verify", "a.zip", "--json").result["generations"] == [2]
    assert subprocess.run(["unzip", "-tqq", filled.folder / "a.zip"], check=False).returncode == 0


def test_damage_is_told(filled: Machine) -> None:
    filled.vdisk("export", "--disk", "my-dev", "--output", "a.zip")
    archive = filled.folder / "a.zip"
    with zipfile.ZipFile(archive) as opened:
        place = max(opened.infolist(), key=lambda one: one.file_size).header_offset
    content = bytearray(archive.read_bytes())
    content[place + 100_000] ^= 1
    archive.write_bytes(content)
    answer = filled.vdisk("verify", "a.zip", check=5)
    assert "1 of" in answer.err and "chunks/1-" in answer.err
    assert filled.vdisk("verify", "a.zip", "--quick", check=0).out
    filled.vdisk("import", "a.zip", "--name", "x", check=5)


def test_an_encrypted_archive_and_its_passwords(filled: Machine, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("correct horse battery staple\n")
    two.write_text("another horse, another staple\n")
    refused = filled.vdisk("export", "--disk", "my-dev", "--encrypted", "--output", "client-delivery/", check=4)
    assert "--password-file" in refused.err
    made = filled.vdisk(
        "export", "--disk", "my-dev", "--encrypted", "--output", "client-delivery/", "--password-file", one, "--json"
    ).result
    archive = filled.folder / "client-delivery" / "my-dev.zip"
    assert made["encrypted"] and archive.is_file()
    content = archive.read_bytes()
    for secret in (b"my-dev", b"ext4", b"created_at", b"correct horse"):
        assert secret not in content
    with zipfile.ZipFile(archive) as opened:
        assert not any("chunks/" in name for name in opened.namelist())
    for words in (("import", archive), ("verify", archive), ("archive", "list", archive)):
        assert "wrong password" in filled.vdisk(*words, "--password-file", two, check=5).err
        assert "--password-file" in filled.vdisk(*words, check=4).err
    put(filled, "second", b"more")
    update = ("export", "--disk", "my-dev", "--output", archive, "--json")
    assert filled.vdisk(*update, "--password-file", one).result["generation"] == 2
    assert not filled.vdisk(*update, "--password-file", one).result["changed"]
    filled.vdisk("archive", "rekey", archive, "--password-file", one, "--new-password-file", two)
    filled.vdisk("import", archive, "--name", "copy", "--password-file", one, check=5)
    filled.vdisk("import", archive, "--name", "copy", "--password-file", two)
    assert files_of(filled, "copy") == {"first": noise(3_000_000, 1), "second": b"more"}


def test_volumes_join_to_one_archive(filled: Machine) -> None:
    filled.vdisk("export", "--disk", "my-dev", "--output", "v.zip", "--split", "1MiB")
    put(filled, "second", noise(1_500_000, 2))
    filled.vdisk("export", "--disk", "my-dev", "--output", "v.zip")
    volumes = sorted(filled.folder.glob("v.zip.*"))
    assert [path.suffix for path in volumes] == [f".{number:03}" for number in range(1, len(volumes) + 1)]
    assert all(path.stat().st_size == 1 << 20 for path in volumes[:-1]) and len(volumes) > 3
    joined = filled.folder / "joined.zip"
    joined.write_bytes(b"".join(path.read_bytes() for path in volumes))
    assert subprocess.run(["unzip", "-tqq", joined], check=False).returncode == 0
    filled.vdisk("import", "v.zip.001", "--name", "copy")
    assert files_of(filled, "copy")["second"] == noise(1_500_000, 2)


def test_a_delta_needs_its_base(filled: Machine) -> None:
    filled.vdisk("export", "--disk", "my-dev", "--output", "monday.zip")
    put(filled, "second", noise(60_000, 2))
    made = filled.vdisk(
        "export", "--disk", "my-dev", "--base", "monday.zip", "--output", "tuesday.zip", "--json"
    ).result
    assert made["base"] == "monday.zip" and made["archive_bytes"] < 200_000
    filled.vdisk("import", "tuesday.zip", "--name", "copy")
    assert files_of(filled, "copy") == {"first": noise(3_000_000, 1), "second": noise(60_000, 2)}
    merged = filled.vdisk("archive", "merge", "tuesday.zip", "--output", "full.zip", "--json").result
    assert merged["changed"] and [Path(path).name for path in merged["merged"]] == ["tuesday.zip", "monday.zip"]
    assert "exists already" in filled.vdisk("archive", "merge", "tuesday.zip", "--output", "full.zip").out
    filled.vdisk("archive", "merge", "monday.zip", "--output", "other.zip", check=4)
    filled.vdisk("import", "full.zip", "--name", "merged")
    assert files_of(filled, "merged") == files_of(filled, "copy")
    again = filled.vdisk("export", "--disk", "my-dev", "--output", "full.zip", "--json").result
    assert not again["changed"], "it is up to date for the disk that the delta was made of"
    (filled.folder / "monday.zip").rename(filled.folder / "elsewhere.zip")
    missing = filled.vdisk("import", "tuesday.zip", "--name", "other", check=4)
    assert "monday.zip" in missing.err and "--base" in missing.err
    filled.vdisk("import", "tuesday.zip", "--name", "other", "--base", "elsewhere.zip")


def spoil(archive: Path, seed: int = 0) -> None:
    """Damage one of the largest members: the middle one, which is inside a file if one is much larger than others."""
    with zipfile.ZipFile(archive) as opened:
        sizes = [one.file_size for one in opened.infolist()]
        places = [one.header_offset for one in opened.infolist() if one.file_size == max(sizes)]
        place = places[len(places) // 2]
    with archive.open("r+b") as file:
        file.seek(place + 100_000)
        file.write(noise(512, seed))


def test_a_damaged_archive_is_repaired_from_its_disk(filled: Machine) -> None:
    filled.vdisk("export", "--disk", "my-dev", "--output", "a.zip")
    archive = filled.folder / "a.zip"
    before = archive.read_bytes()
    spoil(archive)
    refused = filled.vdisk("import", "a.zip", "--name", "x", check=5)
    assert "archive repair" in refused.err
    nothing = filled.vdisk("archive", "repair", "a.zip", "--json", check=5)
    assert nothing.result["lost_chunks"] == 1 and "--from" in nothing.json["error"]["hint"]
    with archive.open("r+b") as file:
        file.seek(-100, 2)
        file.write(b"?" * 60)
    mended = filled.vdisk("archive", "repair", "a.zip", "--from", "my-dev")
    assert "mended: directory" in mended.out and "1 damaged chunks, 1 mended in place" in mended.out
    assert archive.read_bytes() == before
    assert "is whole" in filled.vdisk("archive", "repair", "a.zip").out
    assert "itself" in filled.vdisk("archive", "repair", "a.zip", "--from", "a.zip", check=4).err
    filled.vdisk("archive", "repair", "a.zip", "--from", "nobody", check=3)
    filled.vdisk("import", "a.zip", "--name", "x")
    assert files_of(filled, "x") == {"first": noise(3_000_000, 1)}


@pytest.mark.parametrize("type", ["vhd", pytest.param("img", marks=pytest.mark.full)])
def test_what_is_whole_is_salvaged_and_the_rest_is_named(filled: Machine, type: str) -> None:
    put(filled, "second", noise(2_000_000, 2))
    put(filled, "third", noise(24_000_000, 3))
    filled.vdisk("export", "--disk", "my-dev", "--output", "a.zip")
    whole = files_of(filled, "my-dev")
    spoil(filled.folder / "a.zip")
    command = ("import", "a.zip", "--name", "x", "--type", type)
    refused = filled.vdisk(*command, check=5)
    assert "--salvage" in refused.err and "archive repair" in refused.err
    answer = filled.vdisk(*command, "--salvage", "--json", check=5)
    damage = answer.result["damage"]
    assert damage["files"] and damage["file_count"] == len(damage["files"]) and damage["unknown"] is None
    again = filled.vdisk(*command, "--salvage", check=5)
    assert "damaged: /third" in again.out, "a disk that was salvaged never passes for a whole one"
    filled.vdisk(*command, check=4)
    there = files_of(filled, "x")
    hurt = {name for name, content in whole.items() if there.get(name) != content}
    assert hurt and hurt <= {path.strip("/") for path in damage["files"]} < set(whole)
    assert answer.json["error"]["what"].count("/third")
    filled.vdisk("archive", "repair", "a.zip", "--from", "my-dev")
    filled.vdisk("import", "a.zip", "--name", "y", "--salvage")
    assert files_of(filled, "y") == whole


@pytest.fixture
def stick(tmp_path: Path) -> Iterator[Path]:
    """A medium of 8 MiB."""
    place = tmp_path / "stick"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_an_export_goes_on_on_another_medium(filled: Machine, stick: Path) -> None:
    put(filled, "second", noise(6_000_000, 2))
    full = filled.vdisk("export", "--disk", "my-dev", "--output", stick / "a.zip", check=1)
    assert "no space left" in full.err and f"--output {stick}/a.zip --move-to DIR" in full.err
    written = (stick / "a.zip.partial").stat().st_size
    assert written > 4_000_000
    filled.vdisk("export", "--disk", "my-dev", "--output", stick / "a.zip", "--move-to", "nowhere", check=3)
    (filled.folder / "other").mkdir()
    moved = filled.vdisk("export", "--disk", "my-dev", "--move-to", "other", "--json").result
    assert moved["output"] == str(filled.folder / "other" / "a.zip") and moved["reused_bytes"] > 4_000_000
    assert list(stick.iterdir()) == []
    assert not filled.vdisk("export", "--disk", "my-dev", "--move-to", "other", "--json").result["changed"]
    filled.vdisk("import", "other/a.zip", "--name", "copy")
    assert files_of(filled, "copy") == {"first": noise(3_000_000, 1), "second": noise(6_000_000, 2)}
    put(filled, "third", noise(20_000_000, 3))
    hopeless = filled.vdisk("export", "--disk", "my-dev", "--output", stick / "b.zip", check=4)
    assert "an estimate" in hopeless.err and list(stick.iterdir()) == []


@pytest.mark.full
def test_encrypted_deltas_in_volumes_are_repaired_and_merged(filled: Machine, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("correct horse battery staple\n")
    password = ("--password-file", secret)
    encrypted = ("export", "--disk", "my-dev", "--encrypted", "--split", "2MiB", *password)
    filled.vdisk(*encrypted, "--output", "monday.zip")
    put(filled, "second", noise(1_500_000, 2))
    filled.vdisk(*encrypted, "--output", "tuesday.zip", "--base", "monday.zip")
    whole = files_of(filled, "my-dev")
    volumes = {path.name: path.read_bytes() for path in filled.folder.glob("*.zip.*")}
    assert len(volumes) >= 3
    for name in ("monday.zip.001", "tuesday.zip.001"):
        with (filled.folder / name).open("r+b") as file:
            file.seek(500_000)
            file.write(noise(512, 5))
    with (filled.folder / max(name for name in volumes if name.startswith("tuesday"))).open("r+b") as file:
        file.seek(-120, 2)
        file.write(bytes(100))
    assert (
        "wrong password"
        in filled.vdisk("archive", "repair", "monday.zip", "--password-file", "/etc/hostname", check=5).err
    )
    assert "--password-file" in filled.vdisk("archive", "repair", "monday.zip", check=4).err
    # The base first: what a delta's patches make is judged with it.
    filled.vdisk("archive", "repair", "monday.zip.001", "--from", "my-dev", *password)
    repaired = filled.vdisk("archive", "repair", "tuesday.zip", "--from", "my-dev", *password)
    assert "mended: directory" in repaired.out
    assert {path.name: path.read_bytes() for path in filled.folder.glob("*.zip.*")} == volumes
    merged = filled.vdisk("archive", "merge", "tuesday.zip.001", "--output", "full.zip", *password, "--json").result
    assert merged["encrypted"]
    assert "--password-file" in filled.vdisk("import", "full.zip", "--name", "copy", check=4).err
    filled.vdisk("import", "full.zip", "--name", "copy", *password)
    assert files_of(filled, "copy") == whole
