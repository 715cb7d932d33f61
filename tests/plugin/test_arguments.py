from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.plugin import arguments
from portunix_vdisk.plugin import help as help_module
from portunix_vdisk.plugin.arguments import Command, Globals, parse
from portunix_vdisk.plugin.help import help_text
from portunix_vdisk.tasks import operations
from portunix_vdisk.tasks.operations import LATER_OPERATIONS, OPERATIONS, Kind, Operation, Parameter


def vdisk(text: str) -> Command:
    return parse(["vdisk", *shlex.split(text)], Globals())


def refusal(text: str) -> str:
    with pytest.raises(BadUsage) as caught:
        parse(shlex.split(text), Globals())
    assert "\n" not in caught.value.what
    return str(caught.value)


@pytest.mark.parametrize("example", [example for operation in OPERATIONS for example in operation.examples])
def test_every_example_of_the_help_is_understood(example: str) -> None:
    command = parse(shlex.split(example)[1:], Globals())
    assert command.kind == "operation"
    assert f"{command.name} " in f"{example.removeprefix('portunix vdisk ')} "


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("create --name my-dev --size 20GB", {"name": "my-dev", "size": "20GB"}),
        ("create --size=20GB --name=-x", {"name": "-x", "size": "20GB"}),
        ("mount my-dev --read-only /mnt/dev", {"disk": "my-dev", "mountpoint": "/mnt/dev", "read-only": "true"}),
        ("mount --read-only my-dev", {"disk": "my-dev", "read-only": "true"}),
        ("mount my-dev --mountpoint /mnt/dev", {"disk": "my-dev", "mountpoint": "/mnt/dev"}),
        ("archive mount a.zip /mnt/look", {"archive": "a.zip", "mountpoint": "/mnt/look"}),
        ("archive mount --mountpoint /mnt/look a.zip", {"archive": "a.zip", "mountpoint": "/mnt/look"}),
        ("unmount", {}),
        ("unmount -- -odd-", {"disk": "-odd-"}),
        ("export --disk d --output o", {"disk": "d", "output": "o"}),
        ("export d --output o", {"disk": "d", "output": "o"}),
        ("sync --source . --target /t --delete", {"source": ".", "target": "/t", "delete": "true"}),
        ("import a.zip --name b", {"archive": "a.zip", "name": "b"}),
        ("info --json d", {"disk": "d"}),
        ("install nodejs@18 --target /t react", {"names": "nodejs@18 react", "target": "/t"}),
        ("install --disk d -- -odd-", {"names": "-odd-", "disk": "d"}),
    ],
)
def test_options(text: str, options: dict[str, str]) -> None:
    assert vdisk(text).options == options


def test_global_options_stand_anywhere() -> None:
    for text in ("--json vdisk list", "vdisk --json list", "vdisk list --json"):
        common = Globals()
        assert parse(shlex.split(text), common) == Command("operation", "list")
        assert common == Globals(json=True)
    common = Globals()
    parse(shlex.split("vdisk delete --yes d --quiet --debug"), common)
    assert common == Globals(yes=True, quiet=True, debug=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "command is missing"),
        ("vdisk", "operation is missing"),
        ("vdsk list", "did you mean vdisk?"),
        ("vdisk exprt", "did you mean export?"),
        ("vdisk qqqq", "there is no operation 'qqqq'"),
        ("--jsn vdisk list", "did you mean --json?"),
        ("vdisk create --nmae x", "did you mean --name?"),
        ("vdisk list --sze=3", "has no option --sze"),
        ("vdisk list -x", "has no option -x"),
        ("vdisk list my-dev surplus", "one argument too many"),
        ("vdisk formats surplus", "one argument too many"),
        ("vdisk exec my-dev", "exec needs -- and COMMAND"),
        ("vdisk exec my-dev --", "exec needs -- and COMMAND"),
        ("vdisk exec my-dev npm test", "one argument too many"),
        ("vdisk exec --json my-dev -- npm", "exec has no --json"),
        ("vdisk shell my-dev --json", "shell has no --json"),
        ("vdisk shell my-dev -- npm", "one argument too many"),
        ("vdisk export a --disk b --output o", "one argument too many"),
        ("vdisk info", "needs DISK"),
        ("vdisk create --size 3GB", "needs --name NAME"),
        ("vdisk create --name", "expected one argument"),
        ("vdisk create --name -x", "--option=-value"),
        ("vdisk create --name x --nam y", "has no option --nam"),
        ("vdisk create --name a --abort=no", "ignored explicit argument"),
        ("plugin", "plugin command is missing"),
        ("plugin start vdisk", "no plugin command 'start'"),
        ("plugin stop", "needs the name of a plugin"),
        ("plugin stop vdisk --frce", "did you mean --force?"),
    ],
)
def test_bad_command_lines_get_their_own_answer(text: str, words: str) -> None:
    assert words in refusal(text)


@pytest.fixture
def two_words(monkeypatch: pytest.MonkeyPatch) -> Operation:
    """An operation of two words, whatever the table has."""
    place = Parameter("place", Kind.PATH, "where", positional=True, also_option=True, metavar="PLACE")
    made = Operation("archive polish", "polish an archive", (place,), ("portunix vdisk archive polish a.zip",))
    for module in (operations, arguments, help_module):
        monkeypatch.setattr(module, "OPERATIONS", (*OPERATIONS, made))
    return made


def test_a_group_without_operations_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(help_module, "OPERATIONS", tuple(one for one in OPERATIONS if not one.group))
    assert "archive …" not in help_text("vdisk")
    assert help_text("archive").startswith("usage: portunix vdisk archive")


def test_operations_of_two_words(two_words: Operation) -> None:
    assert (two_words.group, two_words.verb) == ("archive", "polish")
    wanted = Command("operation", "archive polish", {"place": "x"})
    for text in ("polish x", "polish --place x", "polish --place=x", "--quiet polish x", "polish x --json"):
        assert vdisk(f"archive {text}") == wanted
    for text in ("archive polish --help", "help archive polish", "archive polish x -h"):
        assert vdisk(text) == Command("help", "archive polish")
    for text in ("archive --help", "help archive", "archive -h polish"):
        assert vdisk(text) == Command("help", "archive")
    group = help_text("archive")
    assert "polish" in group and "polish an archive" in group and two_words.examples[0] in group
    assert "archive …" in help_text("vdisk")
    assert "polish" not in help_text("vdisk")
    assert "portunix vdisk archive polish [PLACE]" in help_text("archive polish")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("vdisk archive", "archive: an operation is missing"),
        ("vdisk archive polsh", "archive has no operation 'polsh'; did you mean polish?"),
        ("vdisk archve polish", "did you mean archive?"),
        ("vdisk polish", "there is no operation 'polish'"),
        ("vdisk archive polish x y", "one argument too many"),
        ("vdisk archive polish --place x y", "one argument too many"),
        ("vdisk archive polish --plce x", "archive polish has no option --plce; did you mean --place?"),
        ("vdisk archive --plce", "has no option --plce"),
    ],
)
def test_bad_command_lines_of_two_words(two_words: Operation, text: str, words: str) -> None:
    assert words in refusal(text)


@pytest.mark.parametrize("name", sorted(LATER_OPERATIONS))
def test_later_operations_say_so(name: str) -> None:
    assert refusal(f"vdisk {name} --whatever x") == f"not yet: {name} comes with {LATER_OPERATIONS[name]}"


def test_what_stands_behind_the_dashes_is_the_commands() -> None:
    common = Globals()
    words = ["vdisk", "exec", "--quiet", "my-dev", "--", "npm", "ls", "--json", "--", "-x", "", "a b"]
    command = parse(words, common)
    assert (command.options, command.rest) == ({"disk": "my-dev"}, tuple(words[5:]))
    assert common == Globals(quiet=True)
    assert vdisk("exec -- --help") == Command("operation", "exec", {}, ("--help",))
    assert vdisk("exec --help -- x") == Command("help", "exec")
    assert "portunix vdisk exec [DISK]" in help_text("exec") and "-- COMMAND [ARGUMENT …]\n" in help_text("exec")


def test_help_shows_examples_and_hides_what_is_not_built() -> None:
    for operation in OPERATIONS:
        assert vdisk(f"{operation.name} --help") == Command("help", operation.name)
        text = help_text(operation.name)
        assert all(example in text for example in operation.examples)
        assert "not yet" not in text
    assert all(operation.verb in help_text(operation.group or "vdisk") for operation in OPERATIONS)
    assert parse(["--help"], Globals()).kind == "help"
    assert parse(["vdisk", "--version"], Globals()).kind == "version"
    assert help_text("plugin").startswith("usage: portunix plugin")


def test_doit_gets_its_arguments_untouched() -> None:
    assert vdisk("doit list --all --json x=y").rest == ("list", "--all", "--json", "x=y")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from portunix_vdisk.plugin.cli import main; main(['vdisk', 'create', '--help']);"
        "heavy = {'grpc', 'doit', 'tqdm', 'google.protobuf', 'zstandard', 'cryptography', 'subprocess', 'logging'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
