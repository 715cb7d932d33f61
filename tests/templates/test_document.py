"""YAML that people wrote, and what they are told when it is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.templates.document import read_document

SCHEMA = {
    "size": {"type": "integer", "min": 1},
    "label": {"type": "string"},
    "things": {
        "type": "dict",
        "valuesrules": {"type": "dict", "schema": {"colour": {"type": "string", "required": True}}},
    },
}


def test_what_fits_is_read() -> None:
    text = b"\xef\xbb\xbfsize: 3\nlabel: 2020-01-01\nthings:\n  no: {colour: red}\n"
    expected = {"size": 3, "label": "2020-01-01", "things": {"no": {"colour": "red"}}}
    assert read_document(text, SCHEMA, "x.yaml") == expected
    assert read_document(b"", SCHEMA, "x.yaml") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("siez: 3", "x.yaml, line 1: siez: this key is not known; did you mean size?"),
        ("label: a\nqqqq: 3", "line 2: qqqq: this key is not known: size, label, things"),
        ("label: a\n\nsize: none", "line 3: size: must be of integer type"),
        ("size: 0", "line 1: size: min value is 1"),
        ("things:\n  a:\n    color: red", "line 3: things.a.color: this key is not known; did you mean colour?"),
        ("things:\n  a: {}", "line 2: things.a.colour: required field"),
        ("things:\n  a: {colour: red}\n  a: {colour: red}", "line 3: things.a: this is here twice, first in line 2"),
        ("label: &x a\nsize: *x", "line 2: aliases are not understood"),
        ("label: [", "line 1: "),
        ("label: a\n---\nlabel: b", "line 2: "),
        ("label: !!python/object/apply:os.system [echo]", "line 1: label: must be of string type"),
        ("label: !!python/name:os.system x", "could not determine a constructor"),
        ("label: !!int x", "line 1: label: "),
        ("[1, 2]", "a mapping is expected"),
        ("? [a]\n: b", "a key must be plain text"),
        ("label: \x00", "line 1"),
        ("[" * 2000, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(BadUsage) as caught:
        read_document(text.encode(), SCHEMA, "x.yaml")
    assert words in caught.value.what and caught.value.what.startswith("x.yaml, line ")


def test_other_encodings_and_large_files_are_refused() -> None:
    with pytest.raises(BadUsage, match="line 2: this is not UTF-8"):
        read_document(b"label: a\nsize: \xff", SCHEMA, "x.yaml")
    with pytest.raises(BadUsage, match="larger than 1 MiB"):
        read_document(b"#" * (1 << 20) + b"\n", SCHEMA, "x.yaml")


@given(st.one_of(st.binary(max_size=200), st.text("size:label {}[]&*!?|>-\n\t\"'#%@`", max_size=80).map(str.encode)))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    try:
        found = read_document(text, SCHEMA, "x.yaml")
    except BadUsage as error:
        assert error.what.startswith("x.yaml")
    else:
        assert found.keys() <= SCHEMA.keys()
