"""Reading YAML that a person wrote: checked against a Cerberus schema, with messages that name file, line and key."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from cerberus import Validator

from portunix_vdisk.platform.errors import BadUsage

Schema = Mapping[str, Any]
Place = tuple[str | int, ...]

_LARGEST = 1 << 20
_STATE = "nothing was done"
_UNKNOWN = "unknown field"
"""Cerberus's words."""


def read_document(text: bytes, schema: Schema, name: str, without: Sequence[Place] = ()) -> dict[str, Any]:
    """The content of a YAML document that fits the schema.

    Keys are text, each once. Anchors and tags are not understood: what one needs them for is worth a plain file.

    Args:
        text: the file's bytes.
        schema: a Cerberus schema of a mapping.
        name: what messages call the file.
        without: places that are somebody else's business, as if they were not in the file.

    Raises:
        BadUsage: it is no such document; says in which line and, where a key is misspelt, what was probably meant.
    """
    content, lines = parse_document(text, name)
    for place in without:
        inner: Any = content
        for key in place[:-1]:
            inner = inner[key]
        del inner[place[-1]]
    validator = Validator(schema)
    if validator.validate(content):
        return dict(validator.document)
    # A misspelt key explains the missing one.
    place, message = min(_problems(validator.errors), key=lambda one: (one[1] != _UNKNOWN, _line(one[0], lines)))
    known = _keys_at(schema, place[:-1]) if message == _UNKNOWN else ()
    raise refusal(name, _line(place, lines), place, _in_words(message, place, known))


def parse_document(text: bytes, name: str) -> tuple[dict[str, Any], dict[Place, int]]:
    """The content of a YAML document that is a mapping, and the line of each place in it. Raises ``BadUsage``."""
    if len(text) > _LARGEST:
        raise BadUsage(f"{name} is larger than {_LARGEST >> 20} MiB", state=_STATE)
    lines: dict[Place, int] = {}
    try:
        loader = _Loader(text.decode("utf-8-sig"))
        node = loader.get_single_node()
        found = {} if node is None else _value(loader, node, (), lines, name)
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1
        raise refusal(name, line, (), "this is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise refusal(name, mark.line + 1 if mark else 1, (), error.problem or "this is no YAML") from None
    except yaml.YAMLError as error:
        raise refusal(name, 1, (), str(error).splitlines()[0]) from None
    except RecursionError:
        raise refusal(name, 1, (), "this is nested too deeply") from None
    if not isinstance(found, dict):
        raise refusal(name, 1, (), "a mapping is expected here, of keys and values")
    return found, lines


def refusal(name: str, line: int, place: Place, why: str) -> BadUsage:
    """What is wrong with a file, and where."""
    where = ".".join(map(str, place))
    return BadUsage(f"{name}, line {line}: {where + ': ' if where else ''}{why}", state=_STATE, hint=f"correct {name}")


class _Loader(yaml.SafeLoader):
    """Composes nodes without anchors."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not understood", event.start_mark)
        return super().compose_node(parent, index)


def _value(loader: _Loader, node: yaml.Node, place: Place, lines: dict[Place, int], name: str) -> Any:
    lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise refusal(name, line, place, "a key must be plain text")
            key = key_node.value
            inner = (*place, key)
            if key in made:
                raise refusal(name, line, inner, f"this is here twice, first in line {lines[inner]}")
            made[key] = _value(loader, value_node, inner, lines, name)
            lines[inner] = line
        return made
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, inner, (*place, number), lines, name) for number, inner in enumerate(node.value)]
    if node.tag == "tag:yaml.org,2002:timestamp":
        return node.value
    try:
        return loader.construct_object(node)
    except ValueError as error:
        raise refusal(name, lines[place], place, str(error)) from None


def _problems(errors: Mapping[Any, Sequence[Any]], place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Cerberus's tree of messages, flat."""
    for key, found in errors.items():
        for one in found:
            if isinstance(one, Mapping):
                yield from _problems(one, (*place, key))
            else:
                yield (*place, key), str(one)


def _line(place: Place, lines: Mapping[Place, int]) -> int:
    """The line of a place, or of the innermost one around it that is in the file."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)


def _keys_at(schema: Any, place: Place) -> Sequence[str]:
    """The keys that may be at a place."""
    for key in place:
        inner = schema.get(key, schema) if isinstance(schema, Mapping) else {}
        schema = inner.get("schema") or inner.get("valuesrules", {}) or inner
        if "valuesrules" in schema:
            schema = schema["valuesrules"]
    if "schema" in schema:
        schema = schema["schema"]
    return list(schema)


def _in_words(message: str, place: Place, known: Sequence[str]) -> str:
    if message != _UNKNOWN:
        return message
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    return f"this key is not known; did you mean {near[0]}?" if near else f"this key is not known: {', '.join(known)}"


def document_text(content: Mapping[str, Any]) -> str:
    """The same as a file, keys in the order in which they are given."""
    return str(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True))
