"""RECOVER.txt does what it says, for every sort of archive, where this program is not installed."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.steps.archive.keyring import set_new_password
from portunix_vdisk.steps.archive.storage import volumes_of
from portunix_vdisk.tests.support.chunks import CHUNK, noise

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has ``cryptography``, as RECOVER.txt asks for, and nothing of ours."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    place = next((folder / "lib").glob("python*/site-packages"))
    import cryptography

    site = Path(cryptography.__file__).parent.parent
    for name in ("cryptography", "cffi", "_cffi_backend*", "pycparser"):
        for found in site.glob(name):
            (place / found.name).symlink_to(found)
    return folder / "bin" / "python"


def recover(archive: Path, python: Path, work: Path, password: str = "") -> subprocess.CompletedProcess[str]:
    """Do what RECOVER.txt says."""
    work.mkdir()
    whole = work / "joined.zip"
    with whole.open("wb") as joined:
        subprocess.run(["cat", *volumes_of(archive)], stdout=joined, check=True)
    subprocess.run(["unzip", "-q", whole], cwd=work, check=True)
    base = json.loads((work / "portunix-vdisk.json").read_text())["base"]
    if base is not None:
        unzip_base(archive.parent / base["name"], work / "base")
    return run_recover(python, work, password)


def unzip_base(archive: Path, folder: Path) -> None:
    """The sentence about the base, bases of bases included."""
    subprocess.run(["unzip", "-q", archive, "-d", folder], check=True)
    base = json.loads((folder / "portunix-vdisk.json").read_text())["base"]
    if base is not None:
        unzip_base(archive.parent / base["name"], folder / "base")


def run_recover(python: Path, work: Path, password: str = "") -> subprocess.CompletedProcess[str]:
    lines = (work / "RECOVER.txt").read_text().splitlines()
    program = lines[lines.index("----8<----") + 1 : lines.index("---->8----")]
    (work / "recover.py").write_text("\n".join(program) + "\n")
    absent = subprocess.run([python, "-I", "-c", "import portunix_vdisk"], cwd="/", capture_output=True)
    assert absent.returncode == 1
    # Without a terminal getpass reads standard input.
    return subprocess.run(
        [python, "-I", "-W", "ignore", "recover.py"],
        cwd=work,
        input=f"{password}\n" * 3,  # each of an archive and its bases asks
        capture_output=True,
        text=True,
        env={"PATH": os.defpath},
        start_new_session=True,
    )


@pytest.mark.parametrize("kind", ["plain", "encrypted", "volumes", "stored"])
def test_recovery(house: Any, python: Path, tmp_path: Path, kind: str) -> None:
    if kind == "encrypted":
        house.options["encrypted"] = True
        set_new_password(house.output, PASSWORD.encode())
    if kind == "volumes":
        house.options["volume_size"] = 1 << 20
    if kind == "stored":
        house.options["level"] = 0
    house.make(6 * CHUNK + 1234, {n * CHUNK: noise(400_000, n) for n in range(5)} | {5 * CHUNK: noise(CHUNK, 9)})
    house.export()
    house.change(CHUNK + 70_000, noise(9000, 50))
    house.change(6 * CHUNK, b"end")
    house.export()
    work = tmp_path / "work"
    done = recover(house.output, python, work, PASSWORD)
    assert done.returncode == 0 and "disk.img is complete" in done.stdout, done.stderr
    assert (work / "disk.img").read_bytes() == house.image.read_bytes()


def delta(house: Any, name: str) -> None:
    """Export to another file what the last one doesn't hold."""
    house.new_process()
    base = house.output
    house.output = house.folder / name
    if house.options.get("encrypted"):
        set_new_password(base, PASSWORD.encode())
        set_new_password(house.output, PASSWORD.encode())
    house.options["base"] = base
    house.export()


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_recovery_of_a_delta(house: Any, python: Path, tmp_path: Path, encrypted: bool) -> None:
    """Of one against another one: pieces from all three archives, patches of pieces in the first one included."""
    if encrypted:
        house.options["encrypted"] = True
        set_new_password(house.output, PASSWORD.encode())
    house.make(6 * CHUNK + 1234, {n * CHUNK: noise(400_000, n) for n in range(5)} | {5 * CHUNK: noise(CHUNK, 9)})
    house.export()
    house.change(CHUNK + 70_000, noise(9000, 50))  # a patch
    house.change(2 * CHUNK, noise(CHUNK, 51))  # a new piece
    delta(house, "tuesday.zip")
    house.change(2 * CHUNK + 8192, b"again")  # a patch of a piece that only tuesday has
    house.change(5 * CHUNK + 4096, b"and of one that only monday has")
    delta(house, "wednesday.zip")
    work = tmp_path / "work"
    done = recover(house.output, python, work, PASSWORD)
    assert done.returncode == 0 and "disk.img is complete" in done.stdout, done.stderr
    assert (work / "disk.img").read_bytes() == house.image.read_bytes()
    stored = [path.name for path in (work / ("sealed" if encrypted else "chunks")).iterdir()]
    assert len(stored) == 2, "a delta holds only what changed"


def test_recovery_of_a_delta_whose_base_went_on(house: Any, python: Path, tmp_path: Path) -> None:
    """The base's newest state is another one then; the right one is found by its root, or it is said that it's gone."""
    house.make(3 * CHUNK, {n * CHUNK: noise(300_000, n) for n in range(3)})
    house.export()
    base, monday = house.output, house.image.read_bytes()
    house.change(CHUNK, noise(5000, 20))
    delta(house, "tuesday.zip")
    archive, tuesday = house.output, house.image.read_bytes()
    for count in (1, 2):  # two generations are kept: after the second one the first state is gone
        house.new_process()
        house.output = base
        house.options.pop("base", None)
        house.change(0, noise(CHUNK, 30 + count))
        house.change(2 * CHUNK, noise(CHUNK, 40 + count))
        house.export()
        work = tmp_path / f"work-{count}"
        done = recover(archive, python, work)
        if count == 1:
            assert done.returncode == 0, done.stderr
            assert (work / "disk.img").read_bytes() == tuesday != monday
        else:
            assert done.returncode == 1 and "no longer holds that state" in done.stderr
            assert not (work / "disk.img").exists()


def test_wrong_password(house: Any, python: Path, tmp_path: Path) -> None:
    house.options["encrypted"] = True
    set_new_password(house.output, PASSWORD.encode())
    house.make(CHUNK, {0: b"content"})
    house.export()
    done = recover(house.output, python, tmp_path / "work", "wrong")
    assert done.returncode != 0 and "InvalidTag" in done.stderr


def test_damage_is_found(house: Any, python: Path, tmp_path: Path) -> None:
    house.make(2 * CHUNK, {0: noise(5000, 0), CHUNK: noise(CHUNK, 1)})
    house.export()
    work = tmp_path / "work"
    assert recover(house.output, python, work).returncode == 0
    packed = work / "chunks/1-000000000000.zst"
    content = bytearray(packed.read_bytes())
    packed.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    assert run_recover(python, work).returncode != 0
