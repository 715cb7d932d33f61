"""The part of the platform protocol that is about the machine itself and its filesystems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from portunix_vdisk.platform.base import HostTool
from portunix_vdisk.platform.commands import Commands
from portunix_vdisk.platform.linux import cloning, host, media, programs, sandbox
from portunix_vdisk.platform.linux.privilege import Privilege


class ThisHost:
    """Room, limits and tools; see :class:`Platform`."""

    def __init__(self, commands: Commands, ask: Callable[[str], str] | None) -> None:
        self._commands = commands
        self._privilege = Privilege(commands, ask)

    def share_blocks(self, image: Path, copy: Path) -> bool:
        """See :class:`Platform`."""
        return cloning.share_blocks(image, copy)

    def free_space(self, folder: Path) -> int:
        """See :class:`Platform`."""
        return host.free_space(folder)

    def largest_file(self, folder: Path) -> int | None:
        """See :class:`Platform`."""
        return media.largest_file(folder)

    def is_removable(self, folder: Path) -> bool:
        """See :class:`Platform`."""
        return media.is_removable(folder)

    def run_program(
        self,
        program: Path,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        told: Callable[[str], None],
    ) -> None:
        """See :class:`Platform`."""
        programs.run_program(self._commands, program, arguments, folder, environment, told)

    def sandboxed(
        self, command: Sequence[str], root: Path, environment: Mapping[str, str], *, network: bool
    ) -> Sequence[str] | None:
        """See :class:`Platform`."""
        if not sandbox.is_there(self._commands):
            return None
        return sandbox.sandboxed(self._commands, command, root=root, variables=environment, network=network)

    def host_tools(self) -> Sequence[HostTool]:
        """See :class:`Platform`."""
        return host.host_tools(self._commands)

    def install(self, tools: Sequence[HostTool]) -> list[str]:
        """See :class:`Platform`."""
        return host.install(self._privilege, tools)
