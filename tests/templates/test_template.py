"""Templates: ours, the person's, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.steps.sizes import parse_size
from portunix_vdisk.templates.template import (
    BUILT_IN,
    Package,
    Script,
    Template,
    Tool,
    all_templates,
    built_in_templates,
    find_template,
    read_templates,
)


def read(text: str) -> dict[str, Template]:
    return read_templates(text.encode(), "my.yaml", built_in_templates())


def test_the_templates_of_the_specification_are_there() -> None:
    ours = built_in_templates()
    assert list(ours) == [
        "empty",
        "web_development",
        "go_development",
        "python_datascience",
        "rust_development",
        "java_development",
    ]
    web = ours["web_development"]
    assert (web.name, web.size, web.origin) == ("Web Development Stack", "20GB", BUILT_IN)
    assert [tool.name for tool in web.tools] == ["nodejs", "npm", "yarn", "git", "vscode", "chrome"]
    assert [one.name for one in web.packages] == ["react", "typescript", "webpack", "webpack-cli", "eslint"]
    assert [one.name for one in ours["go_development"].packages] == ["github.com/gorilla/mux", "gorm.io/gorm"]
    data = ours["python_datascience"]
    assert [one.name for one in data.packages] == ["pandas", "numpy", "matplotlib", "scikit-learn"]
    assert all(parse_size(one.size) for one in ours.values())


def test_every_way_to_write_tools_and_packages() -> None:
    found = read(
        """
templates:
  mine:
    name: Mine
    description: all of it
    size: 1.5TiB
    tools: [git, nodejs@18, {name: go, version: "1.22", source: pypi}]
    preinstalled_packages: [react@18.2.0, "@types/node@20", npm:left-pad, github.com/gorilla/mux@v1.8.1]
    packages: [{name: pandas, language: pip}]
    scripts:
      - {name: greet, run: "echo hello", network: true, timeout: 5}
      - {name: plain, run: "true"}
    configuration: {NODE_ENV: development}
"""
    )["mine"]
    assert found == Template(
        "mine",
        "Mine",
        "all of it",
        "1.5TiB",
        "my.yaml",
        (Tool("git"), Tool("nodejs", "18"), Tool("go", "1.22", "pypi")),
        (
            Package("react", "18.2.0"),
            Package("@types/node", "20"),
            Package("left-pad", "", "npm"),
            Package("github.com/gorilla/mux", "v1.8.1"),
            Package("pandas", "", "pip"),
        ),
        (Script("greet", "echo hello", network=True, timeout=5), Script("plain", "true")),
        {"NODE_ENV": "development"},
    )


def test_what_is_extended_comes_first_and_is_replaced_by_name() -> None:
    found = read(
        """
templates:
  later: {extends: base, tools: [nodejs@22], configuration: {B: "2", C: "3"}}
  base:
    extends: web_development
    size: 30GB
    tools: [nodejs@20, go]
    packages: [react@17]
    scripts: [{name: one, run: "true"}]
    configuration: {A: "1", B: "1"}
  web_development: {extends: web_development, description: ours and more, tools: [rust]}
"""
    )
    later = found["later"]
    assert (later.name, later.size) == ("Web Development Stack", "30GB")
    assert later.tools[0] == Tool("nodejs", "22") and later.tools[-1] == Tool("go")
    assert Package("react", "17") in later.packages and len(later.packages) == 5
    assert later.scripts == (Script("one", "true"),) and later.configuration == {"A": "1", "B": "2", "C": "3"}
    again = found["web_development"]
    assert again.description == "ours and more" and again.tools[-1] == Tool("rust") and len(again.tools) == 7


def test_the_persons_file_replaces_ours_by_key(tmp_path: Path) -> None:
    own = tmp_path / "vdisk-templates.yaml"
    assert all_templates(own) == built_in_templates()
    own.write_text("templates:\n  go_development: {name: Mine, size: 1GB}\n  other: {name: Other, size: 2GB}\n")
    found = all_templates(own)
    assert found["go_development"] == Template("go_development", "Mine", "", "1GB", str(own))
    assert list(found)[-1] == "other" and found["empty"].origin == BUILT_IN


WITH = "templates:\n  a: {{name: A, size: 1GB, {}}}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: templates: required field"),
        ("- a", "line 1: a mapping is expected"),
        ("template: {}", "line 1: template: this key is not known; did you mean templates?"),
        ("templates: []", "templates: must be of dict type"),
        ("templates:\n  a: 5", "line 2: templates.a: must be of dict type"),
        ("templates:\n  A b: {name: A, size: 1GB}", "'A b' is no key of a template"),
        ("templates:\n  a: {nam: x, size: 1GB}", "line 2: templates.a.nam: this key is not known; did you mean name?"),
        ("templates:\n  a:\n    size: 1GB", "line 2: templates.a.name: required"),
        ("templates:\n  a:\n    name: A", "line 2: templates.a.size: required"),
        ("templates:\n  a: {name: '', size: 1GB}", "templates.a.name: a line of 1 to 200"),
        ('templates:\n  a: {name: "x\\ny", size: 1GB}', "templates.a.name: a line of 1 to 200"),
        ("templates:\n  a:\n    name: A\n    size: 20 apples", "line 4: templates.a.size: '20 apples' is no size"),
        ("templates:\n  a: {name: A, size: 20}", "templates.a.size: must be of string type"),
        ("templates:\n  a: {name: A, size: 1GB}\n  a: {}", "line 3: templates.a: this is here twice, first in line 2"),
        (WITH.format("extends: webdevelopment"), "no template 'webdevelopment'; did you mean web_development?"),
        (WITH.format("extends: a"), "a -> a is a circle"),
        (WITH.format("extends: b") + "\n  b: {extends: c}\n  c: {extends: a}", "a -> b -> c -> a is a circle"),
        (WITH.format("tools: nodejs"), "templates.a.tools: must be of list type"),
        (WITH.format("tools: [5]"), "templates.a.tools.0: must be of dict type"),
        (WITH.format("tools: [Node]"), "'Node' is no name of a tool"),
        (WITH.format("tools: [git, nodejs@]"), "templates.a.tools.1.version: '' is no version"),
        (WITH.format("tools: [{name: x, verson: 1}]"), "tools.0.verson: this key is not known; did you mean version?"),
        (WITH.format("tools: [{name: x, version: 18}]"), "templates.a.tools.0.version: must be of string type"),
        (WITH.format("tools: [{name: x, source: 'http://x'}]"), "'http://x' is no source"),
        (WITH.format("tools: [node, node@18]"), "tools.1: node is here twice"),
        (WITH.format("packages: [perl:x]"), "packages.0.language: unallowed value perl"),
        (WITH.format("packages: ['a b']"), "'a b' is no name of a package"),
        (WITH.format("preinstalled_packages: ['../x']"), "'../x' is no name of a package"),
        (WITH.format("scripts: [{name: x}]"), "scripts.0.run: required field"),
        (WITH.format("scripts: [{name: x, run: ' '}]"), "commands of a shell are expected"),
        (WITH.format("scripts: [{name: x, run: y, timeout: 0}]"), "scripts.0.timeout: min value is 1"),
        (WITH.format("scripts: [{name: x, run: y, network: 1}]"), "scripts.0.network: must be of boolean type"),
        (WITH.format("configuration: {PATH: x}"), "configuration.PATH: PATH is set by activation itself"),
        (WITH.format("configuration: {ld_preload: x}"), "ld_preload is set by activation itself"),
        (WITH.format("configuration: {a-b: x}"), "'a-b' is no name of a variable"),
        (WITH.format("configuration: {X: 5}"), "configuration.X: must be of string type"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(BadUsage) as caught:
        read(text)
    assert caught.value.what.startswith("my.yaml, line ") and words in caught.value.what
    assert caught.value.hint == "correct my.yaml"


def test_a_misspelt_key_of_a_template_is_told_its_neighbour() -> None:
    with pytest.raises(BadUsage, match="'web_devel'; did you mean web_development"):
        find_template(built_in_templates(), "web_devel")
    with pytest.raises(BadUsage, match="there is no template 'zzz'"):
        find_template(built_in_templates(), "zzz")
