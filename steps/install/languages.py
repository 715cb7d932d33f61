"""Packages of languages, installed by the language's own program from the disk itself.

env/node     npm: package.json, node_modules
env/python   pip: what ``--target`` holds
env/go       go: GOPATH, with a module in ``modules`` that requires what was asked for
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

from portunix_vdisk.platform.errors import Failed, ToolFailed
from portunix_vdisk.steps.durable import replace_text
from portunix_vdisk.steps.install.record import STATE, read_installed
from portunix_vdisk.steps.install.relocate import amend_records, rewrite_scripts
from portunix_vdisk.steps.install.remember import remember
from portunix_vdisk.steps.step import Context

ENVIRONMENTS: Final = {"npm": "env/node", "pip": "env/python", "go": "env/go"}
_PROGRAMS: Final = {"npm": "npm", "pip": "uv", "go": "go"}
_SYSTEM: Final = "/usr/local/bin:/usr/bin:/bin"
_MODULE: Final = "modules"


@dataclass(frozen=True, slots=True)
class InstallPackages:
    """Packages of one language. What is there already stays; what a killed run left is made anew.

    Args:
        root: where the disk is mounted.
        language: ``npm``, ``pip`` or ``go``.
        packages: version by name; an empty one is the newest.
        cache: folder of what was fetched for any disk; the disk's own is for what is fetched by using it.
        offline: take everything from there.
        environment: what the language's program finds in its environment besides ``PATH``.
    """

    root: Path
    language: str
    packages: Mapping[str, str]
    cache: Path
    offline: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, ctx: Context) -> dict[str, str]:
        """The version of each, by name. Raises ``Failed``, ``ToolFailed``, ``OSError``."""
        folder = self.root / ENVIRONMENTS[self.language]
        folder.mkdir(parents=True, exist_ok=True)
        state = self.root / STATE
        state.mkdir(exist_ok=True)
        unfinished = state / f"unfinished-{self.language}"
        installed = read_installed(self.root)
        wanted = dict(self.packages)
        again = unfinished.exists()
        if again:  # nobody knows what of the others is whole, either
            recorded = {one.name: one.version for one in installed.packages if one.language == self.language}
            wanted = {**recorded, **wanted}
        replace_text(unfinished, "")
        whole = replace(self, packages=wanted)
        {"npm": whole._npm, "pip": whole._pip, "go": whole._go}[self.language](folder, again, ctx)
        versions = {"npm": node_versions, "pip": python_versions, "go": go_versions}[self.language](folder)
        missing = [name for name in wanted if plain(self.language, name) not in versions]
        if missing:
            raise Failed(f"{self.language} said that it installed {missing[0]}, but it is not there")
        found = {bare(name): versions[plain(self.language, name)] for name in wanted}
        kept = {
            one.name: versions.get(plain(self.language, one.name), one.version)
            for one in installed.packages
            if one.language == self.language
        }
        remember(self.root, installed.with_packages(self.language, kept | found))
        unfinished.unlink()
        return found

    def remove(self, folder: Path, ctx: Context) -> None:
        """Remove the packages instead."""
        names = list(self.packages)
        if self.language == "npm":
            words = ["uninstall", "--prefix", str(folder), "--no-fund", "--no-audit", "--", *names]
            self._program("npm", words, folder, ctx)
        elif self.language == "pip":
            words = ["pip", "uninstall", "--python", str(self._python()), "--target", str(folder), "--", *names]
            self._program("uv", words, folder, ctx)
        else:
            self._program("go", ["get", *(f"{name}@none" for name in names)], folder / _MODULE, ctx)

    def _npm(self, folder: Path, again: bool, ctx: Context) -> None:
        if again:  # npm knows what should be there by package-lock.json, and its cache has it
            shutil.rmtree(folder / "node_modules", ignore_errors=True)
        wanted = [f"{name}@{version}" if version else name for name, version in self.packages.items()]
        words = ["install", "--prefix", str(folder), "--no-fund", "--no-audit", "--loglevel=http"]
        words += ["--cache", str(self.cache / "npm")]
        self._program("npm", [*words, *(["--offline"] if self.offline else []), "--", *wanted], folder, ctx)

    def _pip(self, folder: Path, again: bool, ctx: Context) -> None:
        program = self._python()
        wanted = [_requirement(name, version) for name, version in self.packages.items()]
        # What a killed run left is not told from what is whole: all is made anew beside it, from the cache.
        beside = self.root / STATE / "staging" / "python"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        target = beside / "new" if again else folder
        words = ["pip", "install", "--python", str(program), "--target", str(target)]
        words += ["--cache-dir", str(self.cache / "uv"), "--link-mode", "copy"]
        self._program("uv", [*words, *(["--offline"] if self.offline else []), "--", *wanted], folder, ctx)
        if again:
            folder.rename(beside / "former")
            target.rename(folder)
        shutil.rmtree(beside.parent)
        amend_records(folder, rewrite_scripts(folder / "bin", "../../../", program))

    def _python(self) -> Path:
        python = read_installed(self.root).active("python")
        if python is None:
            raise Failed("there is no Python on the disk", hint="portunix vdisk install python")
        return self.root / python.folder / python.commands["python3"]

    def _go(self, folder: Path, again: bool, ctx: Context) -> None:
        module = folder / _MODULE
        module.mkdir(exist_ok=True)
        more = {"GOFLAGS": "-modcacherw"} | ({"GOPROXY": "off"} if self.offline else {})
        if not (module / "go.mod").exists():
            self._program("go", ["mod", "init", _MODULE], module, ctx, more)
        wanted = [f"{name}@{version or 'latest'}" for name, version in self.packages.items()]
        if self.offline:  # "latest" is a question to a server
            wanted = [one.removesuffix("@latest") for one in wanted]
        self._program("go", ["get", *wanted], module, ctx, more)
        self._program("go", ["mod", "download", "all"], module, ctx, more)

    def _program(
        self, command: str, words: Sequence[str], folder: Path, ctx: Context, more: Mapping[str, str] | None = None
    ) -> None:
        """Run a command of the disk. Raises ``Failed`` in its words."""
        lines = 0

        def told(line: str) -> None:
            nonlocal lines
            ctx.safe_point()
            if line:
                lines += 1
                ctx.update(lines, 0, "lines")

        environment = {
            **self.environment,
            "PATH": f"{self.root / 'bin'}:{_SYSTEM}",
            "UV_PYTHON_DOWNLOADS": "never",
            "NO_COLOR": "1",
            **(more or {}),
        }
        try:
            ctx.platform.run_program(
                self.root / "bin" / command, words, folder=folder, environment=environment, told=told
            )
        except ToolFailed as error:
            ctx.safe_point()
            raise Failed(
                f"{command} {words[0] if words[0] != 'pip' else words[1]} failed: {reason(error.output)}",
                state="what was installed before is still there",
                hint="run the same command to try it again; everything that was fetched is kept",
            ) from error


@dataclass(frozen=True, slots=True)
class RemovePackages:
    """Packages of one language go.

    Of Python, only themselves: nobody knows who else needs what they needed. Of Go, from what ``modules`` requires.

    Args:
        root: where the disk is mounted.
        language: ``npm``, ``pip`` or ``go``.
        packages: their names.
        cache: as of :class:`InstallPackages`.
        environment: as of :class:`InstallPackages`.
    """

    root: Path
    language: str
    packages: tuple[str, ...]
    cache: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, ctx: Context) -> dict[str, str]:
        """Nothing. Raises ``Failed``, ``OSError``."""
        folder = self.root / ENVIRONMENTS[self.language]
        installed = read_installed(self.root)
        kept = {one.name: one.version for one in installed.packages if one.language == self.language}
        for name in self.packages:
            kept.pop(name, None)
        unfinished = self.root / STATE / f"unfinished-{self.language}"
        replace_text(unfinished, "")
        if kept or (self.root / "bin" / _PROGRAMS[self.language]).exists():
            packages = dict.fromkeys(self.packages, "")
            program = InstallPackages(self.root, self.language, packages, self.cache, False, self.environment)
            program.remove(folder, ctx)
        else:  # all of them, and there is nobody left who could
            shutil.rmtree(folder)
        remember(self.root, installed.with_packages(self.language, kept))
        unfinished.unlink()
        return {}


def is_whole(root: Path, language: str) -> bool:
    """Whether no installation of a language's packages was interrupted."""
    return (root / ENVIRONMENTS[language]).is_dir() and not (root / STATE / f"unfinished-{language}").exists()


def bare(name: str) -> str:
    """A package's name without what else of it is wanted: ``pandas[excel]`` is ``pandas``."""
    return name.partition("[")[0]


def plain(language: str, name: str) -> str:
    """A package's name as its language compares it: PyPI's ``Foo_Bar`` is ``foo-bar``."""
    return re.sub(r"[-_.]+", "-", bare(name)).lower() if language == "pip" else name


def node_versions(folder: Path) -> dict[str, str]:
    """Version by name of what lies in ``node_modules``."""
    found = {}
    modules = folder / "node_modules"
    for path in (*modules.glob("*/package.json"), *modules.glob("@*/*/package.json")):
        try:
            found[str(path.parent.relative_to(modules))] = str(json.loads(path.read_bytes())["version"])
        except (ValueError, KeyError, TypeError):
            continue
    return found


def python_versions(folder: Path) -> dict[str, str]:
    """Version by name of what ``pip --target`` put into a folder."""
    return {plain("pip", one.metadata["Name"] or ""): one.version for one in distributions(path=[str(folder)])}


def go_versions(folder: Path) -> dict[str, str]:
    """Version by module of what ``go.mod`` requires; see https://go.dev/ref/mod#go-mod-file."""
    text = (folder / _MODULE / "go.mod").read_text(encoding="utf-8")
    return dict(re.findall(r"^(?:require)?\s+([^\s()]+)\s+(v[^\s]+)", text, re.MULTILINE))


def _requirement(name: str, version: str) -> str:
    if not version or version[0] in "<>=~!":
        return f"{name}{version}"
    return f"{name}=={version}" if version.count(".") > 1 else f"{name}=={version}.*"


_NOISE: Final = re.compile(r"^(npm (error|ERR!) ?)(code .*|A complete log.*|\s*/.*)?$|^npm (http|warn|notice) .*|^\s*$")


def reason(output: str) -> str:
    """Why a package manager failed, of the last lines that it printed; one line."""
    lines = [line for line in output.splitlines() if not _NOISE.match(line)]
    told = [re.sub(r"^npm (error|ERR!) (\d{3} )?|^error: |^go: |^[\s\u00d7╰─▶│]+", "", line).strip() for line in lines]
    started = next((at for at, line in enumerate(lines) if re.match(r"npm (error|ERR!)|error|\s*\u00d7", line)), None)
    chosen = [line for line in (told[started:] if started is not None else told[-1:]) if line]
    return " ".join(chosen)[:600] or "it did not say why"
