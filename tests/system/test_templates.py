"""Templates as a person meets them."""

from __future__ import annotations

from machine import Machine

OWN = """
templates:
  mine:
    extends: web_development
    name: Mine
    tools: [nodejs@18]
    packages: [pip:pandas@2.1]
    scripts: [{name: greet, run: "echo hello\\necho again", timeout: 5}]
    configuration: {NODE_ENV: development}
"""


def test_ours_and_the_persons_own(machine: Machine) -> None:
    own = machine.home / "vdisk-templates.yaml"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(OWN)
    listed = machine.vdisk("template", "list").out
    assert [line.split()[0] for line in listed.splitlines()[1:]] == [
        "empty",
        "web_development",
        "go_development",
        "python_datascience",
        "rust_development",
        "java_development",
        "mine",
    ]
    shown = machine.vdisk("template", "show", "mine").out
    assert "mine: Mine (Node.js with TypeScript" in shown and f"from:     {own}" in shown
    assert "nodejs@18, npm, yarn, git, vscode, chrome\n" in shown and "eslint, pip:pandas@2.1\n" in shown
    assert "script:   greet (at most 5 s)\n          | echo hello\n          | echo again\n" in shown
    assert machine.vdisk("template", "show", "mine", "--json").result["template"]["size_bytes"] == 19_074 << 20
    assert f"{own} is right: mine" in machine.vdisk("template", "validate", own).out
    missing = machine.vdisk("template", "show", "mne", check=2).err
    assert "there is no template 'mne'; did you mean mine?" in missing


def test_a_wrong_file_is_told_where(machine: Machine) -> None:
    own = machine.home / "vdisk-templates.yaml"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("templates:\n  a:\n    name: A\n    sise: 20GB\n")
    for words in (("list",), ("show", "empty"), ("validate", own)):
        told = machine.vdisk("template", *words, check=2).err
        assert f"{own}, line 4: templates.a.sise: this key is not known; did you mean size?" in told
    own.write_text("templates: {a: {name: A, size: 900TB}}")
    assert "templates.a.size: the size '900TB' is larger" in machine.vdisk("template", "validate", own, check=2).err
    assert "no such file" in machine.vdisk("template", "validate", "nothing.yaml", check=3).err
