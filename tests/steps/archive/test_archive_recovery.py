"""RECOVER.txt does what it says, for every sort of archive, where this program is not installed."""

from __future__ import annotations

import os
import random
import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.steps.archive.keyring import set_new_password
from portunix_vdisk.steps.archive.storage import volumes_of

CHUNK = 4 << 20
PASSWORD = "correct horse"


def noise(length: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(length)


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
    return run_recover(python, work, password)


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
        input=password + "\n",
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


def test_wrong_password(house: Any, python: Path, tmp_path: Path) -> None:
    house.options["encrypted"] = True
    set_new_password(house.output, PASSWORD.encode())
    house.make(CHUNK, {0: b"content"})
    house.export()
    done = recover(house.output, python, tmp_path / "work", "wrong")
    assert done.returncode != 0 and "InvalidTag" in done.stderr


def test_damage_is_found(house: Any, python: Path, tmp_path: Path) -> None:
    house.make(2 * CHUNK, {0: noise(5000), CHUNK: noise(CHUNK, 1)})
    house.export()
    work = tmp_path / "work"
    assert recover(house.output, python, work).returncode == 0
    packed = work / "chunks/1-000000000000.zst"
    content = bytearray(packed.read_bytes())
    packed.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    assert run_recover(python, work).returncode != 0
