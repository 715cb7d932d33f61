"""An ordinary user: with sudo everything works, without it what needs root says so at once."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from pathlib import Path

from person import Person, person


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
        refused = user.vdisk("mount", "my-dev", "mnt", check=6)
        assert time.monotonic() - started < 5
        assert "sudo" in refused.err
        assert "portunix-vdisk-attach attach" in refused.err
        assert not (user.folder / "mnt").exists()
        user.vdisk("export", "--disk", "my-dev", "--output", "a.zip")
        user.vdisk("import", "a.zip", "--name", "copy")
        assert [disk["state"] for disk in user.vdisk("list", "--json").result["disks"]] == ["ready", "ready"]
        assert user.vdisk("doctor", check=None).code in (0, 6)
        tidy(user)
