"""The rules of smart export, ours and the person's."""

from __future__ import annotations

from pathlib import Path

import pytest

from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.templates.excludes import ExcludeRule, read_excludes


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "vdisk-excludes.yaml"


def test_without_a_file_ours_count(own: Path) -> None:
    found = read_excludes(own)
    names = [rule.name for rule in found.rules]
    assert {"python-bytecode", "node-cache", "cargo", "maven", "gradle", "tox"} <= set(names) and found.keep == ()
    assert names == sorted(names) and all(rule.about and rule.patterns for rule in found.rules)


def test_names_that_may_be_anybodys_want_company(own: Path) -> None:
    ambiguous = {"target/", "build/", "out/", "obj/", "_build/", "build-*/", ".build/"}
    for rule in read_excludes(own).rules:
        if ambiguous & set(rule.patterns):
            assert rule.beside or rule.holds, rule.name


def test_own_rules_extend_replace_and_switch_off(own: Path) -> None:
    own.write_text(
        "rules:\n  cargo: off\n  maven:\n    patterns: [out/]\n    beside: [pom.xml]\n"
        "  mine:\n    about: my cache\n    patterns: ['**/.mine/cache/', '*.o']\n    holds: [TAG]\n    lacks: [nope]\n"
        "keep: [/projects/important/]\n"
    )
    found = read_excludes(own)
    rules = {rule.name: rule for rule in found.rules}
    assert "cargo" not in rules and len(rules) == len(read_excludes(own.with_name("none")).rules)
    assert rules["maven"] == ExcludeRule("maven", "", ("out/",), ("pom.xml",))
    assert rules["mine"] == ExcludeRule("mine", "my cache", ("**/.mine/cache/", "*.o"), (), ("TAG",), ("nope",))
    assert found.keep == ("/projects/important/",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rules:\n  cargoo: off", "line 2: rules.cargoo: there is no such rule to switch off; did you mean cargo?"),
        ("rules:\n  a:\n    paterns: [x]", "line 3: rules.a.paterns: this key is not known; did you mean patterns?"),
        ("rules:\n  a: {}", "rules.a.patterns: required"),
        ("rules:\n  a: {patterns: []}", "min length"),
        ("rules:\n  a: {patterns: ['*']}", "would match everything"),
        ("rules:\n  a: {patterns: ['**/']}", "would match everything"),
        ("rules:\n  a: {patterns: ['/']}", "would match everything"),
        ("rules:\n  a: {patterns: ['a/../b']}", "would match everything, or nothing"),
        ("rules:\n  a: {patterns: ['x/**/']}", "name the folder that goes"),
        ("rules:\n  a: {patterns: ['!x']}", "listed under keep"),
        ("rules:\n  a: {patterns: ['x ']}", "blanks"),
        ('rules:\n  a: {patterns: ["x\\ny"]}', "control characters"),
        ("rules:\n  a: {patterns: [x], beside: [a/b]}", "is no name of a file"),
        ("rules:\n  'A b': {patterns: [x]}", "line 2: rules.A b: "),
        ("rules: off", "line 1: rules: must be of dict type"),
        ("keep: x", "line 1: keep: must be of list type"),
    ],
)
def test_mistakes_are_named(own: Path, text: str, words: str) -> None:
    own.write_text(text)
    with pytest.raises(BadUsage) as caught:
        read_excludes(own)
    assert words in caught.value.what and str(own) in caught.value.what


def test_a_file_that_cannot_be_read_is_no_file_without_rules(own: Path) -> None:
    own.mkdir()
    with pytest.raises(BadUsage, match="cannot read"):
        read_excludes(own)
