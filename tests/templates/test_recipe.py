"""Recipes: ours, and what is said about wrong ones."""

from __future__ import annotations

from importlib.resources import files

import pytest

from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.templates.recipe import built_in_recipes, find_recipe, read_recipe
from portunix_vdisk.templates.template import read_package

GOOD = "name: tool\nabout: a tool\nsources:\n  - {kind: pypi, package: tool}\n"


def test_ours_are_there_and_each_lies_in_a_file_of_its_name() -> None:
    known = built_in_recipes()
    wanted = {"nodejs", "npm", "yarn", "go", "python", "pip", "uv", "git", "docker", "jupyter", "chrome", "vscode"}
    assert wanted <= known.keys()
    assert known["node"] is known["nodejs"]
    names = {entry.name for entry in (files("portunix_vdisk.templates") / "recipes").iterdir()}
    assert {f"{one.name}.yaml" for one in known.values()} == names
    for recipe in known.values():
        assert all(need in known for need in recipe.needs)
        assert recipe.commands or recipe.sources[0].kind == "package"


def test_packages_that_only_look_right_are_not_taken() -> None:
    traps = {"pypi": {"golang", "bun", "chromium", "pnpm", "nodejs", "go"}, "npm": {"golang", "go-bin", "chromium"}}
    named = [(source.kind, source.package) for one in built_in_recipes().values() for source in one.sources]
    assert [(kind, package) for kind, package in named if package in traps.get(kind, ())] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("kind: pypi", "kind: pipy"), "line 4: sources.0.kind: unallowed value pipy"),
        (GOOD.replace("about", "abuot"), "line 2: abuot: this key is not known; did you mean about?"),
        (
            GOOD.replace("package: tool", "pakage: tool"),
            "line 4: sources.0.pakage: this key is not known; did you mean",
        ),
        (GOOD.replace(", package: tool", ""), "line 4: sources.0.package: required by a source of kind pypi"),
        (GOOD + "commands: {x: ../../bin/sh}\n", "'../../bin/sh' is no place in the tool's folder"),
        (GOOD + "commands: {x: /bin/sh}\n", "is no place"),
        (GOOD + "files: {../x: y}\n", "is no place"),
        (GOOD + "commands: {'a/b': x}\n", "commands.a/b: value does not match"),
        (GOOD + "environment: {'A B': x}\n", "environment.A B"),
        ("name: tool\nabout: x\nsources: []\n", "line 3: sources: min length is 1"),
        ("name: tool\nabout: x\nsources: [{kind: archive, address: http://x/}]\n", "sources.0.address"),
        ("name: T\nabout: x\nsources: [{kind: npm, package: x}]\n", "line 1: name"),
    ],
)
def test_wrong_ones_say_where_and_why(text: str, message: str) -> None:
    read_recipe(GOOD.encode(), "tool.yaml")
    with pytest.raises(BadUsage) as caught:
        read_recipe(text.encode(), "tool.yaml")
    assert caught.value.what.startswith("tool.yaml, line ") and message in caught.value.what, caught.value.what


def test_a_misspelt_tool_has_a_near_one() -> None:
    with pytest.raises(BadUsage, match="did you mean python"):
        find_recipe("pyton")


def test_what_is_written_on_a_command_line() -> None:
    one = read_package("npm:@types/node@20")
    assert (one.language, one.name, one.version) == ("npm", "@types/node", "20")
    for wrong in ("", "-x", "npm:", "a b", "x@", "pip:../x@;rm", "perl:x", "a" * 300, "x@-1"):
        with pytest.raises(BadUsage):
            read_package(wrong)
