"""What recipes set and what a disk may set fit together."""

from __future__ import annotations

import pytest

from portunix_vdisk.steps.install.environment import make_plan
from portunix_vdisk.steps.install.record import Installed, InstalledTool
from portunix_vdisk.templates.recipe import built_in_recipes

RECIPES = {recipe.name: recipe for recipe in built_in_recipes().values()}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_no_recipe_of_ours_sets_what_a_disk_may_not(name: str) -> None:
    recipe = RECIPES[name]
    tool = InstalledTool(name, "1", "pypi", f"tools/{name}/1", {}, recipe.environment)
    assert make_plan(Installed((tool,))).refused == ()


def test_one_that_leads_elsewhere_is_refused_by_name() -> None:
    tool = InstalledTool("pip", "1", "pypi", "tools/pip/1", {}, {"PIP_INDEX_URL": "https://example.org"})
    assert "pip wants to set PIP_INDEX_URL" in make_plan(Installed((tool,))).refused[0]
