"""A user without root and without sudo does the whole job: disks are mounted by programs of theirs."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from person import Person, person

from portunix_vdisk.platform.linux import state


class Lodger(Person):
    """Runs every command in a mount namespace of their own, in which they may use FUSE."""

    inside = 0
    """The process that keeps the namespace."""

    def run(self, *command: str | Path, **more: object):  # type: ignore[no-untyped-def]
        words = ["/usr/bin/nsenter", f"--target={self.inside}", "--mount", "--", "env", f"--chdir={self.folder}"]
        words += ["/usr/sbin/runuser", "-u", self.name]
        program = self.python.parent / Path(command[0]).name
        words += ["--", str(program) if program.exists() else str(command[0])]
        return super(Person, self).run(*words, *command[1:], **more)  # type: ignore[arg-type]


@contextmanager
def lodger() -> Iterator[Lodger]:
    """A person without sudo, who may use FUSE."""
    with person(sudo=False) as user:
        node = user.folder.parent / "fuse"
        os.mknod(node, 0o666 | 0o020000, os.makedev(10, 229))
        node.chmod(0o666)
        # A bare machine's own node is for root alone.
        keeper = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", f"mount --bind {node} /dev/fuse && echo ready && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert keeper.stdout is not None
            assert keeper.stdout.readline() == b"ready\n"
            user.__class__ = Lodger
            assert isinstance(user, Lodger)
            user.inside = keeper.pid
            yield user
            user.run("portunix", "plugin", "stop", "vdisk", check=0)
            assert [path for path in (user.home / "vdisk" / "run").rglob("*") if not path.is_dir()] == []
        finally:
            # Nothing in the namespace survives it, so a failed test leaves no mounts.
            keeper.communicate()


def tree_of(user: Lodger, folder: str | Path) -> str:
    """Names, kinds, modes and content of everything below a folder, as the person sees it."""
    script = (
        "cd \"$0\" && find . -not -name lost+found -printf '%p %y %m %l\\n' | sort && "
        "find . -type f -not -path './lost+found*' -print0 | sort -z | xargs -0 sha256sum"
    )
    return user.run("sh", "-c", script, folder, check=0).out


def check_clean(user: Lodger, name: str) -> None:
    """What the filesystem's own checker says about a disk that is not mounted: nothing."""
    disk = user.vdisk("info", name, "--json").result["disk"]
    image, raw = user.disk(name), user.folder / "raw"
    source = {"vhd": "vpc", "img": "raw", "loop": "raw"}.get(disk["type"], disk["type"])
    subprocess.run(["qemu-img", "convert", "-f", source, "-O", "raw", image, raw], check=True)
    place = disk["partition"]
    raw.write_bytes(raw.read_bytes()[place["start"] : place["start"] + place["length"]])
    checker = {"ext4": ["e2fsck", "-fn"], "fat32": ["fsck.vfat", "-n"]}[disk["file_system"]]
    done = subprocess.run([*checker, raw], check=False, capture_output=True, text=True)
    raw.unlink()
    assert done.returncode == 0, done.stdout


def fill(user: Lodger, *, plain: bool = False) -> None:
    (user.folder / "src" / "sub").mkdir(parents=True)
    for number in range(40):
        (user.folder / "src" / "sub" / f"file {number}").write_bytes(os.urandom(number * 997))
    if not plain:
        _not_for_windows(user)
    subprocess.run(["chown", "-hR", user.name, user.folder / "src"], check=True)


def _not_for_windows(user: Lodger) -> None:
    (user.folder / "src" / "program").write_text("#!/bin/sh\n")
    (user.folder / "src" / "program").chmod(0o755)
    (user.folder / "src" / "link").symlink_to("sub/file 3")
    (user.folder / "src" / "again").hardlink_to(user.folder / "src" / "program")


def refuse_root(user: Lodger, image: Path) -> None:
    """Root, who knows nothing of the person's notes, meets the lock."""
    words = ("attach", f"--image={image}", f"--type={image.suffix[1:]}", "--start=0", "--length=1048576")
    done = subprocess.run(
        [user.python.parent / "portunix-vdisk-attach", *words, "--owner=0:0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert "in use by another program" in done.stderr
    assert not (state.ROOT / state.key_of(image.stat())).exists()


def main_job(user: Lodger, type: str, fs: str, other: str) -> None:
    """A disk of one image type travels and becomes one of another; each is mounted without root."""
    point, name, copy = user.folder / "mnt", f"my-{type}-{fs}", f"my-{type}-{fs}-copy"
    user.vdisk("create", "--name", name, "--size", "64MB", "--type", type, "--fs", fs)
    # No root, no sudo: it happens by itself.
    said = user.vdisk("mount", name, "mnt")
    assert "mounted without root" in said.out + said.err
    disk = user.vdisk("info", name, "--json").result["disk"]
    assert (disk["mount_point"], disk["rootless"], disk["problem"]) == (str(point), True, "")
    assert not os.path.ismount(point), "the mount is the person's alone"
    user.vdisk("sync", "--source", "src", "--target", "mnt/in")
    if fs == "ext4":  # which keeps full seconds then
        user.run("sh", "-c", "echo changed > 'src/sub/file 7'", check=0)
        assert user.vdisk("sync", "--source", "src", "--target", "mnt/in").out.startswith("1 files copied")
    user.run("cp", "-r", user.folder / "src", point / "copy", check=0)
    before = tree_of(user, point)
    strange = user.run("find", point, "-not", "-name", "lost+found", "-not", "-user", user.name, check=0)
    assert strange.out == ""
    user.vdisk("export", "--disk", name, "--output", f"{name}.zip", check=4)
    user.vdisk("delete", name, "--yes", check=4)
    refuse_root(user, user.disk(name))
    user.vdisk("unmount")
    assert not point.exists()
    check_clean(user, name)
    user.vdisk("export", "--disk", name, "--output", f"{name}.zip")
    user.vdisk("import", f"{name}.zip", "--name", copy, "--type", other)
    user.vdisk("mount", copy, "mnt", "--rootless")
    assert "(without root)" in user.vdisk("list").out
    refuse_root(user, user.disk(copy))
    assert tree_of(user, point) == before
    user.vdisk("unmount", "mnt")
    check_clean(user, copy)


def test_the_main_job_without_root() -> None:
    with lodger() as user:
        fill(user)
        main_job(user, "vhd", "ext4", "img")
        uid = pwd.getpwnam(user.name).pw_uid
        assert [path for path in user.home.rglob("*") if path.lstat().st_uid != uid] == []


@pytest.mark.full
def test_the_main_job_without_root_with_other_image_types() -> None:
    with lodger() as user:
        fill(user)
        main_job(user, "img", "ext4", "vhd")
        main_job(user, "qcow2", "ext4", "vhdx")


@pytest.mark.full
def test_the_main_job_without_root_with_other_filesystems() -> None:
    with lodger() as user:
        fill(user, plain=True)
        for type, other in (("img", "vhd"), ("loop", "loop")):
            main_job(user, type, "fat32", other)
        for fs in ("exfat", "ntfs"):
            user.vdisk("create", "--name", fs, "--size", "64MB", "--fs", fs)
            refused = user.vdisk("mount", fs, "--rootless", check=4)
            assert f"{fs} cannot be mounted without root" in refused.err
            assert user.vdisk("info", fs, "--json").result["disk"]["device"] is None


@pytest.mark.full
def test_a_disk_of_another_user_without_root() -> None:
    """Its files can be used; whose the new ones are on the disk is said."""
    with lodger() as user:
        user.vdisk("create", "--name", "my-dev", "--size", "64MB", "--type", "loop")
        image = user.disk("my-dev")
        for name in ("/", "/lost+found"):
            for change in ("uid 54000", "gid 54000"):
                subprocess.run(["debugfs", "-w", "-R", f"sif {name} {change}", image], check=True, capture_output=True)
        image = image.rename(user.folder / "theirs.img")
        user.vdisk("import", image, "--in-place", "--name", "theirs")
        assert user.vdisk("info", "theirs", "--json").result["disk"]["owner"] == {"uid": 54000, "gid": 54000}
        uid = pwd.getpwnam(user.name).pw_uid
        assert f"new files get your number, {uid}, on the disk" in user.vdisk("mount", "theirs", "mnt").err
        user.run("sh", "-c", "echo hello > mnt/file", check=0)
        assert "needs root" in user.vdisk("mount", "theirs", "mnt", "--chown", check=4).err
        user.vdisk("unmount", "theirs")
        found = subprocess.run(["debugfs", "-R", "stat /file", image], check=True, capture_output=True, text=True)
        assert f"User: {uid:>5}" in found.stdout


@pytest.mark.full
def test_an_encrypted_disk_in_use_without_root() -> None:
    with lodger() as user:
        password = user.folder / "password"
        password.write_text("twelve large boxers")
        password.chmod(0o644)
        user.vdisk("create", "--name", "safe", "--size", "64MB", "--encrypted", "--password-file", "password")
        user.vdisk("mount", "safe", "mnt", "--rootless", "--password-file", "password")
        user.run("sh", "-c", "echo hello > mnt/file", check=0)
        busy = user.run("sh", "-c", 'exec 3< mnt/file; exec "$0" vdisk unmount safe', user.python.parent / "portunix")
        assert busy.code == 4
        assert "is in use by pid" in busy.err
        assert user.run("cat", "mnt/file").out == "hello\n"
        assert user.vdisk("mount", "safe", "mnt", "--live", check=4).err
        user.vdisk("unmount", "safe")
        user.vdisk("mount", "safe", "mnt", "--read-only", "--password-file", "password")
        assert user.run("cat", "mnt/file").out == "hello\n"
        assert user.run("touch", "mnt/file").code != 0
        user.vdisk("unmount", "safe")
        user.vdisk("mount", "safe", "mnt", "--rootless", "--live", "--password-file", "password", check=2)


@pytest.mark.full
def test_what_dies_is_noticed_and_repaired() -> None:
    with lodger() as user:
        fill(user)
        for type in ("img", "vhd"):
            name, point = f"my-{type}", user.folder / type
            user.vdisk("create", "--name", name, "--size", "64MB", "--type", type)
            user.vdisk("mount", name, type, "--rootless")
            user.run("cp", "-a", "src", point / "in", check=0)
            user.run("sync", "-f", point, check=0)
            for program in ("fuse2fs", *(["qemu-storage-daemon"] if type == "vhd" else [])):
                user.run("pkill", "-KILL", "-u", user.name, "-x", program[:15], check=0)
                disk = user.vdisk("info", name, "--json").result["disk"]
                assert "has died" in disk["problem"]
                user.vdisk("export", "--disk", name, "--output", f"{name}.zip", check=4)
                said = user.vdisk("mount", name, type, "--rootless")
                assert "found: the " in said.out + said.err
                assert user.vdisk("info", name, "--json").result["disk"]["problem"] == ""
                user.run("touch", point / program, check=0)
            # Somebody takes it away by hand: it is neither lost nor believed to be in order.
            user.run("fusermount3", "-u", point, check=0)
            assert user.vdisk("info", name, "--json").result["disk"]["problem"] != ""
            user.vdisk("unmount", name)
            check_clean(user, name)
