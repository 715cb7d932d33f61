"""What a command line of ``portunix`` means. Made from the table of operations; imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NoReturn

from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.plugin.help import GLOBAL_FLAGS, shown, usage
from portunix_vdisk.tasks.operations import GROUPS, LATER_OPERATIONS, OPERATIONS, Kind, Operation, operation
from portunix_vdisk.tasks.passwords import on_the_command_line, secret_names
from portunix_vdisk.tasks.use_operations import IN_THE_FOREGROUND

_OTHER = ("doit",)


@dataclass(slots=True)
class Globals:
    """Options that every command has."""

    json: bool = False
    quiet: bool = False
    yes: bool = False
    debug: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """What is to be done.

    Args:
        kind: ``help``, ``version``, ``operation``, ``doit``, ``plugin status`` or ``plugin stop``.
        name: the operation (``mount``, ``archive mount``); the subject of help.
        options: the operation's parameters that were given.
        rest: the arguments of doit; what stands behind ``--`` where the operation wants something there.
    """

    kind: str
    name: str = ""
    options: dict[str, str] = field(default_factory=dict)
    rest: tuple[str, ...] = ()


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises ``BadUsage`` instead of ending the program."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False, prefix_chars="-")

    def error(self, message: str) -> NoReturn:
        raise BadUsage(message)


def parse(arguments: Sequence[str], common: Globals) -> Command:
    """Understand a command line (without the program's name).

    Global options are set in ``common`` as soon as they are seen, so that they hold for errors too.
    Raises ``BadUsage``.
    """
    words = list(arguments)
    stop = _leading(words, common)
    if stop:
        return Command(stop)
    if not words:
        raise BadUsage("a command is missing", hint="portunix --help")
    group = words.pop(0)
    if group not in ("vdisk", "plugin"):
        raise BadUsage(
            f"there is no command {group!r}{_did_you_mean(group, ('vdisk', 'plugin'))}", hint="portunix --help"
        )
    stop = _leading(words, common)
    if stop:
        return Command(stop, group)
    if group == "plugin":
        return _parse_plugin(words, common)
    if not words:
        raise BadUsage("an operation is missing", hint="portunix vdisk --help")
    return _parse_vdisk(words.pop(0), words, common)


def _parse_vdisk(name: str, words: list[str], common: Globals) -> Command:
    if name == "doit":
        return Command("doit", rest=tuple(words))
    if name == "help":
        subjects = (" ".join(words[:2]), words[0] if words else "")
        return Command("help", next((one for one in subjects if operation(one) or one in GROUPS), "vdisk"))
    if name in GROUPS:
        stop = _leading(words, common)
        if stop:
            return Command(stop, name)
        if not words:
            raise BadUsage(f"{name}: an operation is missing", hint=f"portunix vdisk {name} --help")
        name = f"{name} {words.pop(0)}"
    known = operation(name)
    if known is None:
        raise _no_operation(name)
    if any(word in ("--help", "-h") for word in before_dashes(words)):
        return Command("help", name)
    rest: Sequence[str] = ()
    if known.rest:
        mine = before_dashes(words)
        words, rest = list(mine), words[len(mine) + 1 :]
    options = _parse_operation(known, words, common)
    if known.rest and not rest:
        raise BadUsage(f"{name} needs -- and {known.rest} behind it", hint=f"for example: {known.examples[0]}")
    if common.json and name in IN_THE_FOREGROUND:
        raise BadUsage(
            f"{name} has no --json: its output is that of the program that it runs", hint="portunix vdisk env --json"
        )
    return Command("operation", name, options, tuple(rest))


def _no_operation(name: str) -> BadUsage:
    if name in LATER_OPERATIONS:
        return BadUsage(f"not yet: {name} comes with {LATER_OPERATIONS[name]}")
    group, _, verb = name.partition(" ")
    if verb:
        near = _did_you_mean(verb, [one.verb for one in OPERATIONS if one.group == group])
        return BadUsage(f"{group} has no operation {verb!r}{near}", hint=f"portunix vdisk {group} --help")
    names = [*(one.name for one in OPERATIONS if not one.group), *GROUPS, *_OTHER]
    return BadUsage(f"there is no operation {name!r}{_did_you_mean(name, names)}", hint="portunix vdisk --help")


def _parse_plugin(words: list[str], common: Globals) -> Command:
    parser = _Parser()
    _add_global_flags(parser)
    parser.add_argument("--force", action="store_true")
    found, rest = parser.parse_known_args(words)
    _take_globals(found, common)
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        raise _unknown_option("plugin", unknown[0], [*GLOBAL_FLAGS, "--force"])
    if not rest or rest[0] not in ("status", "stop"):
        wrong = f"there is no plugin command {rest[0]!r}" if rest else "a plugin command is missing"
        raise BadUsage(wrong, hint="portunix plugin status vdisk, or: portunix plugin stop vdisk")
    if rest[1:] != ["vdisk"]:
        raise BadUsage(f"plugin {rest[0]} needs the name of a plugin", hint=f"portunix plugin {rest[0]} vdisk")
    return Command(f"plugin {rest[0]}", "vdisk", {"force": "true"} if found.force else {})


def _parse_operation(known: Operation, words: Sequence[str], common: Globals) -> dict[str, str]:
    parser = _Parser()
    _add_global_flags(parser)
    named = [parameter for parameter in known.parameters if not parameter.positional or parameter.also_option]
    for parameter in named:
        if parameter.kind is Kind.FLAG:
            parser.add_argument(f"--{parameter.name}", dest=parameter.name, action="store_const", const="true")
        else:
            parser.add_argument(f"--{parameter.name}", dest=parameter.name)
    options = before_dashes(words)
    secret = {f"--{name}" for name in secret_names(known)}
    for word in options:
        if word.split("=")[0] in secret and "=" in word:
            raise on_the_command_line(word.split("=")[0].removeprefix("--"))
    try:
        found, rest = parser.parse_known_args(options)
    except BadUsage as error:
        raise BadUsage(f"{known.name}: {error.what}", hint=_hint(known, error.what)) from None
    _take_globals(found, common)
    values = {name: value for name, value in vars(found).items() if isinstance(value, str)}
    unknown = [word for word in rest if word.startswith("-") and word != "-"]
    if unknown:
        raise _unknown_option(known.name, unknown[0], [f"--{one.name}" for one in named] + list(GLOBAL_FLAGS))
    free_standing = [one for one in known.parameters if one.positional or one.kind is Kind.DISK]
    places = [one for one in free_standing if one.name not in values]
    free = [*rest, *words[len(options) + 1 :]]
    many = next((number for number, one in enumerate(places) if one.many), None)
    if many is not None and free[many:]:
        free[many:] = [" ".join(free[many:])]
    if len(free) > len(places):
        for word, following in pairwise(options):
            if word in secret and following == free[len(places)]:
                raise on_the_command_line(word.removeprefix("--"))
        raise BadUsage(f"{known.name}: {free[len(places)]!r} is one argument too many", hint=usage(known))
    values |= {parameter.name: word for parameter, word in zip(places, free, strict=False)}
    for parameter in known.parameters:
        if parameter.required and not values.get(parameter.name):
            raise BadUsage(f"{known.name} needs {shown(parameter)}", hint=f"for example: {known.examples[0]}")
    return values


def _leading(words: list[str], common: Globals) -> str:
    """Take global options off the front; ``help`` or ``version`` if that is what was asked for."""
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word in ("--help", "-h"):
            return "help"
        if word == "--version":
            return "version"
        if word not in GLOBAL_FLAGS:
            raise _unknown_option("portunix", word, [*GLOBAL_FLAGS, "--help", "--version"])
        setattr(common, word.removeprefix("--"), True)
    return ""


def _add_global_flags(parser: argparse.ArgumentParser) -> None:
    for flag in GLOBAL_FLAGS:
        parser.add_argument(flag, dest=f"global {flag}", action="store_true")


def _take_globals(found: argparse.Namespace, common: Globals) -> None:
    for flag in GLOBAL_FLAGS:
        if getattr(found, f"global {flag}"):
            setattr(common, flag.removeprefix("--"), True)


def before_dashes(words: Sequence[str]) -> Sequence[str]:
    """The words in which options are looked for; after ``--`` there are none."""
    return words[: words.index("--")] if "--" in words else words


def _unknown_option(where: str, word: str, names: Iterable[str]) -> BadUsage:
    option = word.split("=")[0]
    hint = f"portunix vdisk {where} --help" if operation(where) else "portunix --help"
    return BadUsage(f"{where} has no option {option}{_did_you_mean(option, names)}", hint=hint)


def _did_you_mean(word: str, names: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _hint(known: Operation, message: str) -> str:
    if "expected one argument" in message:
        return "a value that begins with a dash is written with an equals sign: --option=-value"
    return f"portunix vdisk {known.name} --help"
