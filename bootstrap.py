"""Set everything up and run it, from nothing but Python, pip and (as root or with sudo) apt.

python3 bootstrap.py setup              make .venv and install what is missing
python3 bootstrap.py demo               set up, then show a disk that travels, from create to import
python3 bootstrap.py test [ARGS ...]    set up, then run pytest with these arguments

A second run installs nothing and needs no network.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

# The one file that an older Python may be started with; what is below must be readable to it.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        "Python 3.11 or newer is needed; this is %d.%d (%s).\n"  # noqa: UP031
        "Start it with a newer one, for example: python3.11 bootstrap.py" % (*sys.version_info[:2], sys.executable)
    )

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "installed-from"

VHD = "disks of type vhd cannot be created, exported or imported; img can"
VHD_MOUNTING = "disks of type vhd cannot be mounted; img can"
TESTS = "some tests fail"
PROGRAMS = (
    # program, Debian package, what is missing without it
    ("qemu-img", "qemu-utils", VHD),
    ("qemu-nbd", "qemu-utils", VHD),
    ("setpriv", "util-linux", VHD),
    ("qemu-storage-daemon", "qemu-system-common", VHD_MOUNTING),
    ("fusermount3", "fuse3", VHD_MOUNTING),
    ("losetup", "mount", "disks cannot be mounted"),
    ("mount", "mount", "disks cannot be mounted"),
    ("mke2fs", "e2fsprogs", "disks cannot be created"),
    ("cryptsetup", "cryptsetup-bin", "no encrypted disk can be created"),
    ("mkntfs", "ntfs-3g", "disks with ntfs cannot be created or mounted"),
    ("ntfs-3g", "ntfs-3g", "disks with ntfs cannot be created or mounted"),
    ("mkfs.vfat", "dosfstools", "disks with fat32 cannot be created"),
    ("fusefat", "fusefat", "disks with fat32 cannot be mounted, unless the kernel can"),
    ("mkfs.exfat", "exfatprogs", "disks with exfat cannot be created"),
    ("mount.exfat-fuse", "exfat-fuse", "disks with exfat cannot be mounted, unless the kernel can"),
    ("bwrap", "bubblewrap", "scripts of templates cannot be run"),
    ("fuse2fs", "fuse2fs", "disks with ext4 can only be mounted by root"),
    ("e2fsck", "e2fsprogs", "damaged disks cannot be repaired"),
    ("debugfs", "e2fsprogs", TESTS),
    ("sfdisk", "fdisk", TESTS),
    ("unzip", "unzip", TESTS),
    ("sudo", "sudo", "an ordinary user cannot mount; some tests fail"),
    ("useradd", "passwd", TESTS),
    ("zstd", "zstd", "nothing to compare with in demo and benchmark; some tests fail"),
)
"""Programs of the host. The program's own list, with more detail, is ``portunix vdisk doctor``."""
ONLY_FOR_TESTS = (
    ("7z", "p7zip-full", TESTS),
    ("dmg2img", "dmg2img", TESTS),
    ("mformat", "mtools", TESTS),
    ("nbdinfo", "libnbd-bin", TESTS),
    ("mkfs.btrfs", "btrfs-progs", TESTS),
    ("mkfs.xfs", "xfsprogs", TESTS),
    ("qemu-system-x86_64", "qemu-system-x86", TESTS),
    ("busybox", "busybox-static", TESTS),
    ("zsh", "zsh", TESTS),
    ("fish", "fish", TESTS),
)
"""What nobody but the tests wants; ``setup`` and ``demo`` don't install it."""


def run(command: "list[str]", failed: str) -> None:
    """Run a command; its output is shown only when it fails, and then this program ends with ``failed``."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, check=False
    )
    if done.returncode:
        sys.stderr.write(done.stdout.decode(errors="replace"))
        sys.exit(f"\n{failed} (command: {' '.join(command)})")


def say(text: str) -> None:
    """A line about what is going on, on standard error so that it never mixes with results."""
    print(text, file=sys.stderr, flush=True)


def find(program: str) -> "str | None":
    """Where a program is; the folders of root's programs count too, though an ordinary user's PATH lacks them."""
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))


def root_prefix() -> "list[str] | None":
    """What to put before a command that needs root; None if nothing helps."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo"):
        allowed = subprocess.run(["sudo", "-n", "true"], check=False, stdin=subprocess.DEVNULL, capture_output=True)
        if allowed.returncode == 0:
            return ["sudo", "-n"]
    return None


def install_packages(packages: "list[str]") -> bool:
    """Install Debian packages; False, with nothing done, where that is not possible without asking somebody."""
    prefix = root_prefix()
    if prefix is None or not shutil.which("apt-get"):
        return False
    say(f"Installing with apt: {' '.join(packages)}")
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
    run([*apt, "update"], "apt-get could not read the package lists")
    run([*apt, "install", "--no-install-recommends", *packages], "apt-get could not install the packages")
    return True


def system_programs(command: str) -> None:
    """Install the programs of the host that ``command`` lacks, or say what will not work."""
    wanted = PROGRAMS + (ONLY_FOR_TESTS if command == "test" else ())
    missing = [(program, package, use) for program, package, use in wanted if find(program) is None]
    if not missing:
        return
    packages = sorted({package for _, package, _ in missing})
    if install_packages(packages):
        return
    say("Some programs of this machine are missing, and there is neither root nor passwordless sudo with apt:")
    for program, _, use in missing:
        say(f"  {program}: {use}")
    say(f"Everything else works. To install them: sudo apt-get install {' '.join(packages)}")


def base_python() -> str:
    """The interpreter to make the environment from, also when this program is started with the one inside it."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def usable(python: Path) -> bool:
    """Whether .venv works, was made in this place and is of the Python that runs this program."""
    question = "import sys, pip; print(sys.prefix, *sys.version_info[:2], sep='\\n')"
    try:
        done = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False)
    except OSError:
        return False
    wanted = [str(VENV), str(sys.version_info[0]), str(sys.version_info[1])]
    moved = STAMP.exists() and STAMP.read_text(encoding="utf-8").splitlines()[:1] != [str(ROOT)]
    return done.returncode == 0 and done.stdout.splitlines() == wanted and not moved


def virtual_environment() -> Path:
    """Make .venv if it is missing or broken, install the package into it if pyproject.toml changed."""
    python = VENV / "bin/python"
    if not usable(python):
        # Debian takes ensurepip out of Python and puts it into a package of its own.
        if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
            package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
            if not install_packages([package]):
                sys.exit(f"Python's venv module is incomplete here. To install it: sudo apt-get install {package}")
        say(f"Making {VENV} with Python {sys.version_info[0]}.{sys.version_info[1]}")
        run([base_python(), "-m", "venv", "--clear", str(VENV)], "The virtual environment could not be made")
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    stamp = f"{ROOT}\n{project}\n"
    if not STAMP.exists() or STAMP.read_text(encoding="utf-8") != stamp:
        say("Installing portunix-vdisk and what it needs into .venv (about a minute)")
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        run([*pip, "--editable", f"{ROOT}[dev]"], "pip could not install the package")
        STAMP.write_text(stamp, encoding="utf-8")
    return python


def set_up(command: str) -> Path:
    """Everything that ``command`` needs; returns the interpreter to go on with."""
    if not sys.platform.startswith("linux"):
        sys.exit("For now this works on Linux only; Windows and macOS come later.")
    import fcntl  # not on Windows, which gets the line above

    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # two of us at once would build one .venv
        system_programs(command)
        return virtual_environment()
    finally:
        os.close(folder)


def main(arguments: "list[str]") -> int:
    """Do what the first argument says."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command not in ("setup", "demo", "test") or (command == "setup" and rest):
        print(__doc__, end="")
        return 0 if command in ("-h", "--help", "help") else 2
    python = set_up(command)
    if command == "setup":
        say(f"Ready. The programs are in {VENV / 'bin'}: try {VENV / 'bin/portunix'} vdisk doctor")
        return 0
    sys.stderr.flush()
    # Tests and demo start hundreds of interpreters: without compiled files each would compile everything again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if command == "test":
        os.chdir(ROOT)
        # As many at once as there are processors: much of the time goes by waiting.
        script = ["-m", "pytest", "-n", "auto", "--dist", "worksteal"]
    else:
        script = [str(ROOT / "tests/bench/demo.py")]
    # exec: Ctrl-C, exit status and the terminal belong to the program itself.
    return os.execv(python, [str(python), *script, *rest])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; the same command continues.")
