"""Start another kernel with some drives and a job, and hear what it says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from portunix_vdisk.tests.guest.cpio import Entry, Link, archive
from portunix_vdisk.tests.guest.kernel import kernel

_INIT = Path(__file__).with_name("init.sh")
_PROGRAMS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
_MACHINE = ("-accel", "tcg", "-cpu", "max", "-m", "512", "-nodefaults", "-no-user-config", "-display", "none")
"""TCG, since machines of tests seldom let a guest have KVM."""
_DISKS = ("virtio_pci", "virtio_blk")


@dataclass(frozen=True, slots=True)
class Drive:
    """An image as QEMU presents it to the guest. ``format`` is QEMU's name of the driver."""

    name: str
    """Serial number that the guest finds it by; at most 20 characters."""
    image: Path
    format: str
    read_only: bool = False
    options: str = ""
    """More for ``-blockdev``, as ``encrypt.format=luks,encrypt.key-secret=key``."""


def boot(
    folder: Path,
    drives: Iterable[Drive],
    job: str,
    *,
    modules: Sequence[str] = (),
    programs: Sequence[str] = (),
    files: Mapping[str, bytes] | None = None,
    secrets: Mapping[str, Path] | None = None,
    timeout: float = 120,
) -> dict[str, list[bytes]]:
    """Run ``job``, in the shell of init.sh, and return the lines it printed, by the ``== NAME`` above them.

    ``programs`` of this machine and their libraries, and ``files``, are there too. ``folder`` is for what is needed
    while it runs, and keeps the kernel's log.
    """
    initrd, report, log = folder / "initrd", folder / "report", folder / "console"
    initrd.write_bytes(_root([*_DISKS, *modules], programs, {"job": job.encode(), **(files or {})}))
    words = ["qemu-system-x86_64", *_MACHINE, "-no-reboot", "-kernel", str(kernel().image), "-initrd", str(initrd)]
    words += ["-append", "console=ttyS0 loglevel=4 panic=-1"]
    words += ["-serial", f"file:{log}", "-serial", f"file:{report}"]
    for name, file in (secrets or {}).items():
        words += ["-object", f"secret,id={name},file={file}"]
    for number, drive in enumerate(drives):
        words += ["-blockdev", _block_device(number, drive)]
        words += ["-device", f"virtio-blk-pci,drive=drive{number},serial={drive.name}"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    said = report.read_bytes() if report.exists() else b""
    if done.returncode or not said.endswith(b"== END\n"):
        last = log.read_bytes()[-3000:].decode(errors="replace") if log.exists() else ""
        raise AssertionError(f"the guest did not finish: {done.stderr.decode()}\n{last}\n{said[-1000:].decode()}")
    return _sections(said)


def _block_device(number: int, drive: Drive) -> str:
    writes = "on" if drive.read_only else "off"
    file = f"file.driver=file,file.filename={str(drive.image).replace(',', ',,')}"
    words = [f"driver={drive.format}", f"node-name=drive{number}", f"read-only={writes}", file]
    return ",".join([*words, *filter(None, [drive.options])])


def _sections(said: bytes) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    lines: list[bytes] = []
    for line in said.split(b"\n"):
        if line.startswith(b"== "):
            lines = found.setdefault(line[3:].decode(), [])
        elif line:
            lines.append(line)
    return found


def _root(modules: Sequence[str], programs: Sequence[str], files: Mapping[str, bytes]) -> bytes:
    busybox = _find("busybox")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    entries: dict[str, Entry] = {f"bin/{applet}": Link("busybox") for applet in applets}
    entries |= {"init": _INIT.read_bytes(), "mnt/.keep": b"", "tmp/.keep": b""}
    entries |= {"proc/.keep": b"", "sys/.keep": b"", "dev/.keep": b"", "run/.keep": b""}
    loaded = kernel().with_needed(modules)
    entries |= {f"modules/{file.name}": file.read_bytes() for file in loaded}
    entries["modules/order"] = "\n".join(file.name for file in loaded).encode()
    for program in (busybox, *map(_find, programs)):
        entries[f"bin/{program.name}"] = program.read_bytes()
        entries |= {str(library).lstrip("/"): library.read_bytes() for library in _libraries(program)}
    return archive(entries | files)


def _find(name: str) -> Path:
    for folder in _PROGRAMS:
        if (path := Path(folder, name)).exists():
            return path
    raise AssertionError(f"{name} is missing on this machine; python3 bootstrap.py test installs it")


def _libraries(program: Path) -> list[Path]:
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", done.stdout)]
