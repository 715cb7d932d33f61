"""An ordinary user: with sudo everything works, without it what needs root says so at once."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from pathlib import Path

import pytest
from blocks import free_extents, raw_of
from person import Person, person

from portunix_vdisk.platform.base import ImageType, Partition
from portunix_vdisk.platform.linux.machine import LinuxPlatform


def stranger_files(place: Path, uid: int) -> list[Path]:
    return [path for path in place.rglob("*") if path.lstat().st_uid != uid]


def tidy(user: Person) -> None:
    user.run("portunix", "plugin", "stop", "vdisk", check=0)


def test_the_main_job_as_a_user_with_sudo() -> None:
    with person(sudo=True) as user:
        uid = pwd.getpwnam(user.name).pw_uid
        source = user.folder / "src"
        source.mkdir()
        (source / "file").write_text("hello")
        subprocess.run(["chown", "-R", user.name, source], check=True)
        for type in ("vhd", "img"):
            name = f"my-{type}"
            user.vdisk("create", "--name", name, "--size", "64MB", "--type", type)
            user.vdisk("mount", name, "mnt")
            mount_point = user.folder / "mnt"
            assert os.path.ismount(mount_point)
            assert mount_point.stat().st_uid == uid, "the tree belongs to the caller"
            user.run("touch", mount_point / "mine", check=0)
            user.vdisk("sync", "--source", "src", "--target", "mnt/in")
            assert (mount_point / "in" / "file").stat().st_uid == uid
            user.vdisk("unmount", "mnt")
            assert not mount_point.exists()
            user.vdisk("export", "--disk", name, "--output", f"{name}.zip")
            user.vdisk("import", f"{name}.zip", "--name", f"{name}-copy")
            user.vdisk("mount", f"{name}-copy")
            assert (user.home / "vdisk" / "mnt" / f"{name}-copy" / "in" / "file").read_text() == "hello"
            user.vdisk("unmount")
            user.vdisk("delete", f"{name}-copy", "--yes")
            user.doit(f"mount:{name}", "mountpoint=mnt")
            user.doit(f"unmount:{name}")
        assert stranger_files(user.folder, uid) == []
        assert stranger_files(user.home, uid) == []
        tidy(user)


def test_the_whole_command_under_sudo() -> None:
    with person(sudo=True) as user:
        uid = pwd.getpwnam(user.name).pw_uid
        user.sudo("create", "--name", "my-dev", "--size", "64MB")
        user.sudo("mount", "my-dev", "mnt")
        mount_point = user.folder / "mnt"
        assert mount_point.stat().st_uid == uid
        user.run("touch", mount_point / "mine", check=0)
        assert user.vdisk("list", "--json").result["disks"][0]["mount_point"] == str(mount_point)
        user.sudo("unmount", "mnt")
        user.sudo("export", "--disk", "my-dev", "--output", "a.zip")
        user.vdisk("import", "a.zip", "--name", "copy")
        assert stranger_files(user.folder, uid) == []
        assert stranger_files(user.home, uid) == []
        tidy(user)


def test_without_sudo_the_command_to_run_is_named_at_once() -> None:
    with person(sudo=False) as user:
        user.vdisk("create", "--name", "my-dev", "--size", "64MB")
        started = time.monotonic()
        refused = user.vdisk("mount", "my-dev", "mnt", "--live", check=6)
        assert time.monotonic() - started < 5
        assert "sudo" in refused.err
        assert "portunix-vdisk-attach attach" in refused.err
        assert not (user.folder / "mnt").exists()
        user.vdisk("export", "--disk", "my-dev", "--output", "a.zip")
        user.vdisk("import", "a.zip", "--name", "copy")
        assert [disk["state"] for disk in user.vdisk("list", "--json").result["disks"]] == ["ready", "ready"]
        assert user.vdisk("doctor", check=None).code in (0, 6)
        tidy(user)


@pytest.mark.full
def test_compact_needs_no_root_for_a_disk_that_is_not_mounted() -> None:
    with person(sudo=False) as user:
        uid = pwd.getpwnam(user.name).pw_uid
        for type in ("vhd", "img"):
            user.vdisk("create", "--name", f"my-{type}", "--size", "1GB", "--type", type)
            image = user.disk(f"my-{type}")
            place = Partition(**user.vdisk("info", f"my-{type}", "--json").result["disk"]["partition"])
            with raw_of(image) as raw:
                # Not just the longest: mkfs leaves bitmaps unwritten, and those count as in use.
                start = next(start for start, end in free_extents(raw, place) if end - start >= 16 << 20)
            with LinuxPlatform().open_image(image, ImageType(type), writable=True) as disk:
                disk.write(start, os.urandom(16 << 20))
            image.chmod(0o600)
            assert " saved" in user.vdisk("compact", f"my-{type}").out
            about = image.stat()
            assert (about.st_uid, about.st_mode & 0o777) == (uid, 0o600)
            assert about.st_blocks * 512 < 12 << 20
        assert stranger_files(user.home, uid) == []
        tidy(user)


@pytest.mark.full
def test_compact_of_a_mounted_disk_with_sudo() -> None:
    with person(sudo=True) as user:
        uid = pwd.getpwnam(user.name).pw_uid
        user.vdisk("create", "--name", "my-dev", "--size", "128MB", "--type", "img")
        user.vdisk("mount", "my-dev", "mnt")
        gone = user.folder / "mnt" / "gone"
        gone.write_bytes(os.urandom(32 << 20))
        os.sync()
        gone.unlink()
        with (user.folder / "mnt").joinpath("open").open("wb"):
            assert "given back by trimming" in user.vdisk("compact", "my-dev").out
        gone.write_bytes(os.urandom(32 << 20))
        os.sync()
        gone.unlink()
        assert "mounted again" in user.vdisk("compact", "my-dev").out
        assert (user.folder / "mnt").stat().st_uid == uid
        assert stranger_files(user.home, uid) == []
        user.sudo("compact", "my-dev")
        assert stranger_files(user.home, uid) == []
        user.vdisk("unmount", "my-dev")
        tidy(user)


@pytest.mark.full
def test_an_encrypted_disk_of_a_user_with_sudo() -> None:
    """The password goes to the privileged program by its input, through sudo."""
    with person(sudo=True) as user:
        uid = pwd.getpwnam(user.name).pw_uid
        for name, text in (("password", "twelve large boxers"), ("wrong", "eleven of them")):
            (user.folder / name).write_text(text)
            os.chown(user.folder / name, uid, uid)
        user.vdisk("create", "--name", "safe", "--size", "64MB", "--encrypted", "--password-file", "password")
        refused = user.vdisk("mount", "safe", "mnt", "--password-file", "wrong", check=5)
        assert "wrong password for the disk" in refused.err
        user.vdisk("mount", "safe", "mnt", "--password-file", "password")
        user.run("touch", user.folder / "mnt" / "mine", check=0)
        user.vdisk("passwd", "safe", "--password-file", "password", "--new-password-file", "wrong", check=4)
        user.vdisk("unmount", "safe")
        user.vdisk("passwd", "safe", "--password-file", "password", "--new-password-file", "wrong")
        user.doit("mount:safe", "mountpoint=mnt", "password-file=wrong")
        assert (user.folder / "mnt" / "mine").exists()
        user.doit("unmount:safe")
        user.sudo("mount", "safe", user.folder / "mnt", "--password-file", user.folder / "wrong")
        user.sudo("unmount", "safe")
        assert stranger_files(user.folder, uid) == []
        assert stranger_files(user.home, uid) == []
        tidy(user)
