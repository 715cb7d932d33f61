"""What a person means by the names of things to install."""

from __future__ import annotations

import pytest

from portunix_vdisk.platform.errors import BadUsage, Refused
from portunix_vdisk.steps.install.record import Installed, InstalledPackage, InstalledTool
from portunix_vdisk.steps.install.tool import fits
from portunix_vdisk.tasks.wishes import wishes_of

NOTHING = Installed()


def disk(*tools: str, packages: tuple[InstalledPackage, ...] = ()) -> Installed:
    made = [InstalledTool(name, version or "1", "pypi", f"tools/{name}/1") for name, _, version in map(split, tools)]
    return Installed(tuple(made), packages)


def split(text: str) -> tuple[str, str, str]:
    return text.partition("@")


def meant(text: str, there: Installed = NOTHING) -> str:
    tools, packages = wishes_of(text.split(), there)
    named = [f"{one.name}@{one.version}" if one.version else one.name for one in tools]
    return " ".join([*named, *(f"{one.language}:{one.name}" for one in packages)])


@pytest.mark.parametrize(
    ("text", "there", "meaning"),
    [
        ("go", disk(), "go"),
        ("node@18", disk(), "nodejs@18 npm"),
        ("npm", disk(), "nodejs npm"),
        ("npm nodejs@18", disk(), "nodejs@18 npm"),
        ("yarn", disk("nodejs", "npm"), "nodejs yarn npm"),
        ("nodejs typescript react", disk(), "nodejs npm npm:typescript npm:react"),
        ("nodejs react", disk("python", "uv"), "nodejs npm npm:react"),
        ("react", disk("nodejs", "npm"), "nodejs npm npm:react"),
        ("pandas", disk("python", "uv"), "python uv pip:pandas"),
        ("pip:pandas", disk(), "python uv pip:pandas"),
        ("jupyter", disk(), "python uv pip:jupyterlab"),
        ("@types/node", disk("python"), "nodejs npm npm:@types/node"),
        ("github.com/gorilla/mux@v1.8.1", disk("nodejs"), "go go:github.com/gorilla/mux"),
        ("nodejs nodejs@20", disk("npm"), "nodejs@20 npm"),
    ],
)
def test_meanings(text: str, there: Installed, meaning: str) -> None:
    assert meant(text, there) == meaning


def test_a_package_that_is_there_is_meant_again() -> None:
    both = ("nodejs", "npm", "python", "uv")
    known = (InstalledPackage("pip", "cowsay", "1"),)
    assert meant("cowsay", disk(*both, packages=known)) == "python uv pip:cowsay"
    with pytest.raises(Refused, match="npm and in pip"):
        meant("cowsay", disk(*both))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("left-pad", Refused, "no language is on the disk"),
        ("nodjs", BadUsage, "did you mean nodejs"),
        ("nodejs@18 nodejs@20", BadUsage, "two versions"),
        ("cargo:serde", Refused, "packages of cargo cannot be installed yet"),
    ],
)
def test_what_means_nothing(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        meant(text)


@pytest.mark.parametrize(
    ("version", "wanted", "fitting"),
    [
        ("20.1.0", "20", True),
        ("20.1.0", "20.1", True),
        ("20.1.0", "2", False),
        ("20.11.0", "20.1", False),
        ("2.39.5-0+deb12u3", "2.39.5", True),
        ("1.0", "latest", True),
        ("1.0", "", True),
        ("1.0", "1.0.0", False),
    ],
)
def test_versions_fit_at_their_borders(version: str, wanted: str, fitting: bool) -> None:
    assert fits(version, wanted) is fitting


def test_npm_is_there_with_a_nodejs_that_stays() -> None:
    commands = {"node": "bin/node", "npm": "npm.js"}
    there = Installed((InstalledTool("nodejs", "20.1.0", "pypi", "tools/nodejs/20.1.0", commands),))
    tools, _ = wishes_of(["nodejs", "npm"], there)
    assert [one.is_met(there, tools) for one in tools] == [True, True]
    tools, _ = wishes_of(["nodejs@18", "npm"], there)
    assert [one.is_met(there, tools) for one in tools] == [False, False], "that of 18 may have none"
    tools, _ = wishes_of(["npm@10"], there)
    assert [one.is_met(there, tools) for one in tools if one.name == "npm"] == [False]
