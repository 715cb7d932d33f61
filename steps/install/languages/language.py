"""What every language has: a folder on the disk, and a program of the disk that installs its packages into it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from portunix_vdisk.platform.errors import Failed, ToolFailed
from portunix_vdisk.steps.step import Context

_SYSTEM: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Place:
    """Where packages are installed, and what may be used for that.

    Args:
        root: where the disk is mounted.
        cache: folder of what was fetched for any disk; the disk's own is for what is fetched by using it.
        offline: take everything from there.
        environment: what the language's program finds in its environment besides ``PATH``.
    """

    root: Path
    cache: Path
    offline: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(
        self,
        command: str,
        words: Sequence[str],
        folder: Path,
        ctx: Context,
        more: Mapping[str, str] | None = None,
        *,
        good: Sequence[int] = (0,),
    ) -> list[str]:
        """Run a command of the disk; the lines that it printed. Raises ``Failed`` in its words.

        ``good`` are the statuses with which it ends when all went well.
        """
        lines: list[str] = []

        def told(line: str) -> None:
            ctx.safe_point()
            if line:
                lines.append(line)
                ctx.update(len(lines), 0, "lines")

        environment = {
            **self.environment,
            "PATH": f"{self.root / 'bin'}:{_SYSTEM}",
            "NO_COLOR": "1",
            **(more or {}),
        }
        try:
            ctx.platform.run_program(
                self.root / "bin" / command, words, folder=folder, environment=environment, told=told
            )
        except ToolFailed as error:
            ctx.safe_point()
            if error.status in good:
                return lines
            raise Failed(
                f"{command} {words[0] if words[0] != 'pip' else words[1]} failed: {reason(error.output)}",
                state="what was installed before is still there",
                hint="run the same command to try it again; everything that was fetched is kept",
            ) from error
        return lines


class Language(Protocol):
    """How packages of one language are installed.

    ``folder`` is where they lie, ``program`` the command that installs them; ``lock`` are the files that say exactly
    what there is, with digests: by the name that they have for everybody, their place, both seen from the disk's root.
    """

    @property
    def folder(self) -> str: ...
    @property
    def program(self) -> str: ...
    @property
    def lock(self) -> Mapping[str, str]: ...

    def install(
        self, at: Place, asked: Mapping[str, str], names: frozenset[str], upgrade: bool, again: bool, ctx: Context
    ) -> None:
        """Have some packages; what is there already stays.

        Args:
            at: where.
            asked: version by name, with extras, of everything that was ever asked for; an empty one is any.
            names: those of it that are wanted now.
            upgrade: these shall become the newest of what was asked for.
            again: nobody knows what of all is whole.
            ctx: as in every step.

        Raises ``Failed``, ``OSError``.
        """

    def reproduce(self, at: Place, ctx: Context) -> None:
        """Have exactly what the files of ``lock`` say, which are there. Raises ``Failed``, ``OSError``."""

    def remove(self, at: Place, names: Sequence[str], kept: Mapping[str, str], ctx: Context) -> None:
        """Remove packages, and have the others as before. Raises ``Failed``, ``OSError``."""

    def versions(self, root: Path) -> dict[str, str]:
        """Version by name, as :meth:`plain` writes it, of everything that is there. Raises ``OSError``."""

    def newer(self, at: Place, names: Sequence[str], ctx: Context) -> dict[str, str]:
        """The newest version, by name, of those packages that have a newer one. Raises ``Failed``, ``OSError``."""

    def plain(self, name: str) -> str:
        """A package's name, without extras, as the language compares it."""


def bare(name: str) -> str:
    """A package's name without what else of it is wanted: ``pandas[excel]`` is ``pandas``."""
    return name.partition("[")[0]


_NOISE: Final = re.compile(r"^(npm (error|ERR!) ?)(code .*|A complete log.*|\s*/.*)?$|^npm (http|warn|notice) .*|^\s*$")


def reason(output: str) -> str:
    """Why a package manager failed, of the last lines that it printed; one line."""
    lines = [line for line in output.splitlines() if not _NOISE.match(line)]
    told = [re.sub(r"^npm (error|ERR!) (\d{3} )?|^error: |^go: |^[\s\u00d7╰─▶│]+", "", line).strip() for line in lines]
    started = next((at for at, line in enumerate(lines) if re.match(r"npm (error|ERR!)|error|\s*\u00d7", line)), None)
    chosen = [line for line in (told[started:] if started is not None else told[-1:]) if line]
    return " ".join(chosen)[:600] or "it did not say why"
