from __future__ import annotations

import os
from pathlib import Path

import pytest

from portunix_vdisk.platform.commands import Commands, Output
from portunix_vdisk.platform.errors import ToolFailed
from portunix_vdisk.platform.linux import host
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.platform.linux.privilege import Privilege


def test_every_tool_says_what_it_is_for(platform: LinuxPlatform) -> None:
    tools = {tool.name: tool for tool in platform.host_tools()}
    for name in ("qemu-img", "qemu-nbd", "qemu-storage-daemon", "mke2fs", "e2fsck", "/dev/fuse", "/dev/loop-control"):
        assert tools[name].found, name
    assert all(tool.purpose and tool.without and tool.install for tool in tools.values())


def test_missing_tools_are_reported(tmp_path: Path) -> None:
    tools = {tool.name: tool for tool in host.host_tools(Commands([str(tmp_path)]))}
    assert tools["qemu-img"].found is None
    assert tools["qemu-storage-daemon"].install == ("apt-get", "install", "-y", "qemu-system-common")


def test_packages_are_installed_in_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    status = 0

    def run(self: Privilege, command: list[str], purpose: str) -> Output:
        ran.append(command)
        return Output(100 if command[-1] == "update" else status, b"", b"no such package")

    monkeypatch.setattr(Privilege, "run", run)
    privilege = Privilege(Commands(), None)
    tools = [tool for tool in host.host_tools(Commands([str(tmp_path)])) if tool.found is None]
    assert "qemu-nbd" in host.install(privilege, tools)
    installs = [command for command in ran if "install" in command]
    assert len(installs) == 1
    assert {"qemu-utils", "qemu-system-common", "e2fsprogs"} <= set(installs[0])
    assert host.install(privilege, []) == []
    status = 100
    with pytest.raises(ToolFailed, match="no such package"):
        host.install(privilege, tools)


def test_free_space_of_a_folder_that_does_not_exist_yet(platform: LinuxPlatform, tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    assert abs(platform.free_space(tmp_path / "not/yet") - found.f_bavail * found.f_frsize) < 1 << 30
