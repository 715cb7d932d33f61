"""Exporting a disk while it is mounted and written to, as a person does it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from blocks import check_filesystem, raw_of
from machine import Machine

from portunix_vdisk.platform.base import Partition


def noise(length: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(length)


class Busy:
    """A program that makes and deletes files all the time; each file's name is its content."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.longest, self.count = folder, 0.0, 0
        self.failure: BaseException | None = None
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        folder.mkdir()
        self._thread.start()

    def _run(self) -> None:
        dice = random.Random(5)
        try:
            while not self._stop:
                began = time.monotonic()
                name = f"{self.count:07}-{dice.randrange(1 << 60):x}"
                (self.folder / name).write_text(name * dice.randrange(1, 800))
                if self.count >= 1000:
                    next(self.folder.glob(f"{self.count - 1000:07}-*")).unlink()
                self.longest = max(self.longest, time.monotonic() - began)
                self.count += 1
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            self.failure = error

    def finish(self) -> None:
        self._stop = True
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self.failure is not None:
            raise self.failure


@contextmanager
def busy(folder: Path) -> Iterator[Busy]:
    writer = Busy(folder)
    try:
        yield writer
    finally:
        writer.finish()


def check_import(machine: Machine, archive: str, name: str) -> Path:
    """Import; the filesystem must be in order as it is. Mounted at the folder that is returned."""
    machine.vdisk("import", archive, "--name", name)
    partition = Partition(**machine.vdisk("info", name, "--json").result["disk"]["partition"])
    with raw_of(machine.disk(name)) as raw:
        check_filesystem(raw, partition)
    machine.vdisk("mount", name, name)
    return machine.folder / name


@pytest.mark.parametrize("type", ["vhd", pytest.param("img", marks=pytest.mark.full)])
def test_a_mounted_disk_is_exported_under_a_writer(machine: Machine, type: str) -> None:
    machine.vdisk("create", "--name", "my-dev", "--size", "150MB", "--type", type)
    machine.vdisk("mount", "my-dev", "mnt", *(["--live"] if type == "img" else []))
    point = machine.folder / "mnt"
    (point / "steady").write_bytes(noise(20_000_000, 1))
    with busy(point / "busy") as writer:
        while writer.count < 1500:
            time.sleep(0.02)
        first = writer.count
        result = machine.vdisk("export", "--disk", "my-dev", "--output", "a.zip", "--json").result
        last = writer.count
    waited = (
        f"{result['waited_seconds'] * 1000:.0f} ms frozen, the writer waited {writer.longest * 1000:.0f} ms at most"
    )
    print(f"{type}: {last - first} files made and deleted meanwhile; {waited}")
    assert last > first and result["changed"] and 0 < result["waited_seconds"] < 2
    machine.vdisk("unmount", "my-dev")
    copy = check_import(machine, "a.zip", "copy")
    assert (copy / "steady").read_bytes() == noise(20_000_000, 1)
    texts = {path.name: path.read_text() for path in (copy / "busy").iterdir()}
    assert 999 <= len(texts) <= 1001
    # Numbers without gaps: the files of one moment. The last one may have been made and not written yet.
    numbers = sorted(int(name[:7]) for name in texts)
    assert numbers == list(range(numbers[0], numbers[-1] + 1)) and first - 1 <= numbers[-1] <= last
    assert all(text == name * (len(text) // len(name)) for name, text in texts.items())
    assert sum(not text for text in texts.values()) <= 1
    machine.vdisk("unmount", "copy")


def count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


@pytest.mark.full
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed here")
def test_under_a_running_npm_install(machine: Machine, tmp_path: Path) -> None:
    """Installed, deleted and installed again all the time, from npm's own cache after the first."""
    machine.vdisk("create", "--name", "my-dev", "--size", "4GB")
    machine.vdisk("mount", "my-dev", "mnt")
    project = machine.folder / "mnt/project"
    project.mkdir()
    wanted = dict.fromkeys(("express", "webpack", "typescript", "react"), "*")
    (project / "package.json").write_text(json.dumps({"name": "x", "version": "1.0.0", "dependencies": wanted}))
    install = ["npm", "install", "--prefer-offline", "--no-audit", "--no-fund", "--cache", tmp_path / "cache"]
    subprocess.run(install, cwd=project, check=True, capture_output=True)
    script = 'while [ ! -e stop ]; do rm -rf node_modules; "$@" >/dev/null || exit 1; done'
    with busy(machine.folder / "mnt/busy") as writer:
        results = []
        npm = subprocess.Popen(["sh", "-c", script, "sh", *install], cwd=project)
        try:
            for _ in range(4):
                while count(project) < 200:
                    time.sleep(0.01)
                results.append(machine.vdisk("export", "--disk", "my-dev", "--output", "a.zip", "--json").result)
        finally:
            (project / "stop").touch()
            assert npm.wait(120) == 0
    machine.vdisk("unmount", "my-dev")
    frozen = ", ".join(f"{one['waited_seconds'] * 1000:.0f}" for one in results)
    print(f"frozen for {frozen} ms; another writer waited {writer.longest * 1000:.0f} ms at most")
    for generation in (4, 3):
        name = f"copy{generation}"
        machine.vdisk("import", "a.zip", "--name", name, "--generation", str(generation))
        partition = Partition(**machine.vdisk("info", name, "--json").result["disk"]["partition"])
        with raw_of(machine.disk(name)) as raw:
            check_filesystem(raw, partition)
        machine.vdisk("mount", name, name)
        print(f"generation {generation}: {count(machine.folder / name / 'project')} files")
        machine.vdisk("unmount", name)
