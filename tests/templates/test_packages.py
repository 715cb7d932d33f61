"""Which language a bare name means."""

from __future__ import annotations

from importlib.resources import files

import yaml

from portunix_vdisk.steps.install.record import Installed, InstalledTool
from portunix_vdisk.tasks.wishes import wishes_of
from portunix_vdisk.templates.packages import language_of
from portunix_vdisk.templates.recipe import built_in_recipes

PYTHON = InstalledTool("python", "3.11", "debian", "tools/python/3.11")


def test_well_known_names_mean_their_own_language() -> None:
    assert (language_of("react"), language_of("pandas"), language_of("left-pad")) == ("npm", "pip", None)


def test_each_name_is_there_once_in_order_and_is_no_tool() -> None:
    found = yaml.safe_load((files("portunix_vdisk.templates") / "packages.yaml").read_text())
    names = [name for some in found.values() for name in some]
    assert len(names) == len(set(names))
    assert all(some == sorted(some) for some in found.values())
    assert not set(names) & set(built_in_recipes())


def test_react_is_never_what_pypi_has_under_that_name() -> None:
    _, packages = wishes_of(["react", "pandas", "cowsay"], Installed((PYTHON,)))
    assert [(one.language, one.name) for one in packages] == [("npm", "react"), ("pip", "pandas"), ("pip", "cowsay")]


def test_both_languages_by_bare_names_in_one_command() -> None:
    tools, packages = wishes_of(["nodejs@18", "python", "typescript", "numpy"], Installed())
    assert {one.name for one in tools} >= {"nodejs", "python"}
    assert [(one.language, one.name) for one in packages] == [("npm", "typescript"), ("pip", "numpy")]
