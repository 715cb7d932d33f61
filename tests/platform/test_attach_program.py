"""The privilege boundary: what sudo lets an ordinary user do with the attach program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portunix_vdisk.platform.base import AttachRequest, FileSystemType, ImageType, Owner
from portunix_vdisk.platform.errors import BadUsage, Missing, Refused
from portunix_vdisk.platform.linux import facts, mounts, privilege, state
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.tests.platform.disks import PARTITION, Disk
from portunix_vdisk.tests.platform.restricted import OTHER, PLACE, USER, program


@pytest.fixture
def image(disk: Disk, folder: Path) -> Iterator[Path]:
    path = Path(shutil.move(disk.image, folder / disk.image.name))
    os.chown(path, USER, USER)
    path.chmod(0o600)
    yield path
    disk.platform.detach(path)


def test_a_whole_life(disk: Disk, image: Path, folder: Path) -> None:
    point = folder / "deep/mount point"
    attached = program("attach", f"--image={image}", f"--type={disk.type}", *PLACE, f"--owner={USER}:{USER}")
    assert (attached.status, attached.error) == (0, {})
    assert attached.out["image"] == str(image)
    mounted = program("mount", f"--image={image}", "--fs=ext4", f"--mount-point={point}")
    assert (mounted.status, mounted.error) == (0, {})
    assert (mounted.out["mount_point"], mounted.out["mount_point_made"]) == (str(point), True)
    assert mounted.out["device"] == attached.out["device"]
    assert point.parent.stat().st_uid == USER
    (point / "file").write_text("content")
    assert program("unmount", f"--image={image}").status == 0
    assert not point.exists()
    assert program("detach", f"--image={image}").status == 0
    repaired = program("repair", f"--image={image}", f"--type={disk.type}", *PLACE, "--fs=ext4")
    assert (repaired.status, repaired.error) == (0, {})
    assert any("clean" in line for line in repaired.out["lines"])  # type: ignore[attr-defined]


def test_files_of_others_are_refused(disk: Disk, image: Path, folder: Path) -> None:
    attach = ("attach", f"--type={disk.type}", *PLACE)
    for owner, mode, words, status in (
        (0, 0o600, (), 4),
        (0, 0o644, (), 4),
        (OTHER, 0o600, (), 4),
        (OTHER, 0o600, ("--read-only",), 4),
        (OTHER, 0o644, ("--read-only",), 0),
    ):
        os.chown(image, owner, owner)
        image.chmod(mode)
        answer = program(*attach, f"--image={image}", *words)
        assert answer.status == status, (owner, mode, words, answer)
    disk.platform.detach(image)
    os.chown(image, USER, USER)
    (folder / "link").symlink_to(image)
    hidden = folder.parent / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "image").write_bytes(image.read_bytes())
    (hidden / "image").chmod(0o666)
    for path in (folder / "link", hidden / "image", "/etc/shadow", "/dev/loop-control", "/dev/sda", folder):
        answer = program(*attach, f"--image={path}")
        assert answer.status in (3, 4), (path, answer)
    assert facts.find(state.ROOT, image) is None


def test_folders_of_others_are_refused(disk: Disk, image: Path, folder: Path) -> None:
    above = folder.parent
    assert program("attach", f"--image={image}", f"--type={disk.type}", *PLACE).status == 0
    (above / "roots").mkdir()
    (folder / "link").symlink_to(above / "roots")
    (folder / "out").symlink_to("/etc")
    for point in ("/etc", "/usr/new", "/root/x", above / "roots", above / "new", folder / "link", folder / "out"):
        answer = program("mount", f"--image={image}", "--fs=ext4", f"--mount-point={point}")
        assert answer.status == 4, (point, answer)
        assert answer.error["hint"]
    assert not (above / "new").exists()
    assert not any(str(entry.point).startswith(("/etc", str(above / "roots"))) for entry in mounts.mounted())


def test_attachments_of_others_are_refused(disk: Disk, image: Path, folder: Path) -> None:
    assert program("attach", f"--image={image}", f"--type={disk.type}", *PLACE).status == 0
    for words in (("unmount",), ("detach",), ("mount", "--fs=ext4", f"--mount-point={folder / 'x'}")):
        answer = program(*words, f"--image={image}", user=OTHER)
        assert answer.status == 4, answer
    assert facts.find(state.ROOT, image) is not None
    image.unlink()  # its owner may still take it away
    assert program("detach", f"--image={image}").status == 0
    assert facts.find(state.ROOT, image) is None


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("format",),
        ("attach",),
        ("attach", "--image=relative", "--type=img", *PLACE),
        ("attach", "--image=/x", "--type=floppy", *PLACE),
        ("attach", "--image=/x", "--type=img", "--start=1e3", "--length=5"),
        ("attach", "--image=/x", "--type=img", "--start=-512", "--length=512"),
        ("attach", "--image=/x", "--type=img", "--start=\u0663", "--length=512"),
        ("attach", "--image=/x", "--type=img", f"--start={10**30}", "--length=512"),
        ("attach", "--imag=/x", "--type=img", *PLACE),
        ("attach", "--image=/x", "--type=img", *PLACE, "--owner=0"),
        ("attach", "--image=/x", "--type=img", *PLACE, "--owner=-1:0"),
        ("attach", "--image=/x", "--type=img", *PLACE, f"--owner={OTHER}:{OTHER}"),
        ("attach", "--image=/x", "--type=img", *PLACE, "--owner=0:0"),
        ("attach", "--image=/x", "--type=img", *PLACE, "; reboot"),
        ("mount", "--image=/x", "--fs=ext4,dev", "--mount-point=/x"),
        ("unmount", "--image=/x", "--force"),
    ],
)
def test_hostile_words(words: tuple[str, ...]) -> None:
    answer = program(*words)
    assert answer.status == 2, answer
    assert answer.error["kind"] == "BadUsage"


def test_partitions_outside_the_image(disk: Disk, image: Path) -> None:
    answer = program("attach", f"--image={image}", f"--type={disk.type}", "--start=0", f"--length={1 << 60}")
    assert answer.status == 5


def test_without_root() -> None:
    script = """
import os
from portunix_vdisk.platform.linux.attach_program import main
os.setgid(54321)
os.setuid(54321)
raise SystemExit(main(["detach", "--image=/x"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 6
    assert json.loads(done.stderr)["error"]["kind"] == "Missing"


def test_root_itself_may_mount_anywhere(disk: Disk, image: Path, tmp_path: Path) -> None:
    assert program("attach", f"--image={image}", f"--type={disk.type}", *PLACE, user=None).status == 0
    point = tmp_path / "roots folder"
    words = ("mount", f"--image={image}", "--fs=ext4", f"--mount-point={point}", f"--owner={USER}:{USER}")
    assert program(*words, user=None).status == 0
    assert program("unmount", f"--image={image}", user=None).status == 0
    assert not point.exists()


def test_it_starts_fast() -> None:
    script = "import sys, portunix_vdisk.platform.linux.attach_program; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"plumbum", "doit", "grpc", "yaml", "tempfile", "asyncio"} & set(modules)


# how the platform gets there --------------------------------------------------------------------------


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work as an ordinary user; the real rights come back afterwards."""
    monkeypatch.setattr(privilege.os, "getuid", lambda: USER)
    monkeypatch.setattr(privilege, "calling_owner", lambda: Owner(USER, USER))
    os.setegid(USER)
    os.seteuid(USER)
    yield
    os.seteuid(0)
    os.setegid(0)


def fake_sudo(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sudo that behaves as its manual says; the real one would need a password in this machine's settings."""
    folder.chmod(0o755)
    sudo = folder / "sudo"
    sudo.write_text(text)
    sudo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


ASKS = """#!/bin/sh
case "$1" in
-n) echo 'sudo: a password is required' >&2; exit 1;;
-S) read -r word
    if [ "$word" != secret ]; then echo 'sudo: 1 incorrect password attempt' >&2; exit 1; fi
    echo "$@" > FOLDER/words
    if read -r rest; then exit 9; fi
    echo '{"image": "/i", "device": "/dev/loop9", "read_only": false, "mount_point": null,
           "mount_point_made": false, "daemon_pid": null, "problem": ""}' | tr -d '\\n';;
esac
"""


def test_sudo_asks_once_and_the_password_is_in_no_argument(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_user: None
) -> None:
    os.seteuid(0)
    fake_sudo(folder, ASKS.replace("FOLDER", str(folder)), monkeypatch)
    os.seteuid(USER)
    answers = ["wrong", "secret"]
    platform = LinuxPlatform(lambda prompt: answers.pop(0))
    for _ in range(2):
        found = platform.attach(AttachRequest(Path("/i"), ImageType.IMG, PARTITION, read_only=False))
        assert found.device == "/dev/loop9"
    assert answers == []
    words = (folder / "words").read_text()
    assert "secret" not in words
    assert "--owner=54321:54321" in words


@pytest.mark.parametrize("how", ["nobody to ask", "asking refused", "always wrong", "not allowed", "no sudo"])
def test_without_a_way_to_root_the_command_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, as_user: None, how: str
) -> None:
    def refuse(prompt: str) -> str:
        raise Refused("nobody there")

    os.seteuid(0)
    text = ASKS.replace("FOLDER", str(folder))
    if how == "not allowed":
        text = "#!/bin/sh\necho 'someone is not in the sudoers file.' >&2; exit 1"
    fake_sudo(folder, text, monkeypatch)
    if how == "no sudo":
        (folder / "sudo").unlink()
        monkeypatch.setattr(privilege.Commands, "find", lambda self, program: None)
    os.seteuid(USER)
    ask = {"asking refused": refuse, "always wrong": lambda prompt: "wrong"}.get(how)
    began = time.monotonic()
    with pytest.raises(Missing) as caught:
        LinuxPlatform(ask).attach(AttachRequest(Path("/my image"), ImageType.IMG, PARTITION, read_only=False))
    assert time.monotonic() - began < 5
    assert "sudo " in caught.value.hint
    assert "'--image=/my image'" in caught.value.hint


@contextmanager
def busy(point: Path) -> Iterator[None]:
    descriptor = os.open(point, os.O_RDONLY)
    yield
    os.close(descriptor)


def test_under_sudo_as_a_whole(disk: Disk, image: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real user root, working as the caller: root comes back for the attach program alone."""
    point = folder / "here"
    monkeypatch.setenv("SUDO_UID", str(USER))
    monkeypatch.setenv("SUDO_GID", str(USER))
    os.setegid(USER)
    os.seteuid(USER)
    try:
        platform = LinuxPlatform()
        attached = platform.attach(AttachRequest(image, disk.type, PARTITION, read_only=False))
        assert platform.attachment(image) == attached
        mounted = platform.mount(image, FileSystemType.EXT4, point)
        assert mounted == platform.attachment(image)
        assert (mounted.mount_point, mounted.problem) == (point, "")
        with busy(point), pytest.raises(Refused, match="in use"):
            platform.unmount(image)
        platform.unmount(image)
        platform.detach(image)
        assert platform.attachment(image) is None
        assert any("clean" in line for line in platform.repair(image, disk.type, PARTITION, FileSystemType.EXT4))
        with pytest.raises(BadUsage):
            platform._privilege.attach_program("format")
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert not point.exists()
