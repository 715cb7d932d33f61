"""What a person means by the names of things to install: tools by their recipes, or packages of a language."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from portunix_vdisk.platform.errors import BadUsage, Refused
from portunix_vdisk.steps.install.languages.language import bare
from portunix_vdisk.steps.install.record import Installed, InstalledPackage, is_name
from portunix_vdisk.steps.install.tool import Source, Wanted, fits
from portunix_vdisk.steps.install.versions import meets
from portunix_vdisk.templates.packages import language_of
from portunix_vdisk.templates.recipe import Recipe, built_in_recipes, find_recipe
from portunix_vdisk.templates.template import Package, Tool, read_package

TOOLS_OF = {"npm": ("nodejs", "npm"), "pip": ("python", "uv"), "go": ("go",)}
"""What has to be on a disk to install a language's packages."""
_TOO_CLOSE = 0.8


@dataclass(frozen=True, slots=True)
class ToolWish:
    """A tool, and its version if that was asked for."""

    recipe: Recipe
    version: str = ""

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.recipe.name

    @property
    def wanted(self) -> Wanted:
        """The same for the steps."""
        one = self.recipe
        sources = tuple(Source(**asdict(source)) for source in one.sources)
        return Wanted(one.name, self.version or one.default, sources, one.commands, one.environment, one.files)

    def is_met(self, installed: Installed, others: Sequence[ToolWish]) -> bool:
        """Whether the disk has it, as the version that commands mean, once all other wishes are met."""
        found = installed.active(self.name)
        if found is not None:
            return fits(found.version, self.version)
        leaving = {one.name for one in others if one is not self and not one.is_met(installed, ())}
        staying = [one.commands for one in installed.tools if one.active and one.name not in leaving]
        return not self.version and comes_along(self.name, staying)


@dataclass(frozen=True, slots=True)
class PackageWish:
    """A package of a language, and its version if that was asked for."""

    language: str
    name: str
    version: str = ""

    def is_met(self, installed: Installed) -> bool:
        """Whether the disk has it."""
        return any(self.is_that(one) and meets(self.language, one.version, self.version) for one in installed.packages)

    def is_that(self, package: InstalledPackage) -> bool:
        """Whether a package that is there is the wanted one, in some version."""
        return package.language == self.language and package.name == bare(self.name)


def met(tools: Sequence[ToolWish], packages: Sequence[PackageWish], installed: Installed) -> dict[str, bool]:
    """Of each wish, by its name as a person writes it, whether a disk with this has it."""
    found = {one.name: one.is_met(installed, tools) for one in tools}
    return found | {f"{one.language}:{one.name}": one.is_met(installed) for one in packages}


def comes_along(name: str, commands: Iterable[Iterable[str]]) -> bool:
    """Whether one of other tools brings the command of this name: npm is part of nodejs."""
    return any(name in one for one in commands)


def wishes_of(texts: Sequence[str], installed: Installed) -> tuple[list[ToolWish], list[PackageWish]]:
    """What texts such as ``nodejs@18``, ``react`` and ``pip:pandas`` mean on a disk, with what these need.

    Raises ``BadUsage``: a text means nothing; ``Refused``: it could mean several things.
    """
    read = [read_package(text) for text in texts]
    tools = [Tool(one.name, one.version) for one in read if not one.language and one.name in built_in_recipes()]
    packages = [one for one in read if one.language or one.name not in built_in_recipes()]
    return wishes(tools, packages, installed)


def wishes(
    tools: Sequence[Tool], packages: Sequence[Package], installed: Installed
) -> tuple[list[ToolWish], list[PackageWish]]:
    """The same of what a template names. Raises ``BadUsage``, ``Refused``."""
    wanted: dict[str, ToolWish] = {}
    of_languages: dict[tuple[str, str], PackageWish] = {}

    def add(name: str, version: str) -> None:
        recipe = find_recipe(name)
        first = recipe.sources[0]
        if first.kind == "package":
            of_languages[first.language, first.package] = PackageWish(first.language, first.package, version)
            return
        if recipe.name in wanted and version and wanted[recipe.name].version not in ("", version):
            raise BadUsage(
                f"{recipe.name} is named with two versions; a disk's commands mean one", state="nothing was done"
            )
        if version or recipe.name not in wanted:
            wanted[recipe.name] = ToolWish(recipe, version)
        for need in recipe.needs:
            if need not in wanted:
                add(need, "")

    for tool in tools:
        add(tool.name, tool.version)
    named = list(wanted)
    for one in packages:
        if not is_name(bare(one.name)):
            raise BadUsage(f"{one.name!r} is no name of a package", state="nothing was done")
        known = {there.language for there in installed.packages if there.name == one.name}
        tools_there = [named, [tool.name for tool in installed.tools]]
        language = one.language or (known.pop() if len(known) == 1 else _language_of(one.name, tools_there))
        if one.version or (language, one.name) not in of_languages:
            of_languages[language, one.name] = PackageWish(language, one.name, one.version)
    for language, _ in list(of_languages):
        if language not in TOOLS_OF:
            raise Refused(f"packages of {language} cannot be installed yet", state="nothing was done")
        for need in TOOLS_OF[language]:
            if need not in wanted:
                add(need, "")
    # A tool that is called like its command may come along with another one, which is looked at first.
    ordered = sorted(wanted.values(), key=lambda one: one.name in one.recipe.commands)
    return ordered, list(of_languages.values())


def _language_of(name: str, tools: Sequence[Sequence[str]]) -> str:
    """The language of a package that does not say so: of the tools named with it, else of those on the disk."""
    if name.startswith("@"):
        return "npm"
    if (known := language_of(name)) is not None:
        return known
    if "/" in name and "." in name.partition("/")[0]:
        return "go"
    near = difflib.get_close_matches(name, built_in_recipes(), n=1, cutoff=_TOO_CLOSE)
    if near:
        raise BadUsage(
            f"there is no tool {name!r}; did you mean {near[0]}?",
            state="nothing was done",
            hint=f"if you mean a package of that name, say so: npm:{name} or pip:{name}",
        )
    # A package of Go always has the address of a server in its name.
    found = ([one for one in ("npm", "pip") if TOOLS_OF[one][0] in some] for some in tools)
    languages = next(filter(None, found), [])
    if len(languages) == 1:
        return languages[0]
    if languages:
        raise Refused(
            f"{name} is no tool, and a package of that name could be meant in {' and in '.join(languages)}",
            state="nothing was done",
            hint=f"say which: {' or '.join(f'{language}:{name}' for language in languages)}",
        )
    raise Refused(
        f"{name} is no tool, and no language is on the disk that it could be a package of",
        state="nothing was done",
        hint=f"say which one: npm:{name} or pip:{name}; tools: {', '.join(sorted(built_in_recipes()))}",
    )
