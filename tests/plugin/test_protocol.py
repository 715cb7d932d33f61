from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st

from portunix_vdisk.plugin import framing
from portunix_vdisk.plugin.rpc import vdisk_pb2
from portunix_vdisk.plugin.text import readable, readable_json
from portunix_vdisk.plugin.version import VERSION, build
from portunix_vdisk.tests.plugin import generate

ROOT = Path(__file__).resolve().parents[2]


def test_committed_modules_are_what_the_compiler_makes(tmp_path: Path) -> None:
    generate.generate(tmp_path)
    fresh = (tmp_path / "vdisk_pb2.py").read_text()
    committed = (generate.FOLDER / "vdisk_pb2.py").read_text()
    # The protocol itself must be the same whatever the compiler's version; its wrapping only for the same version.
    found = re.search(r"AddSerializedFile\((b'.*')\)", fresh)
    assert found and eval(found.group(1)) == vdisk_pb2.DESCRIPTOR.serialized_pb

    def made_by(text: str) -> list[str]:
        return re.findall(r"Protobuf Python Version: (.*)", text)

    if made_by(fresh) == made_by(committed):
        for name in generate.MODULES:
            assert (tmp_path / name).read_text() == (generate.FOLDER / name).read_text(), name


def test_the_service_has_its_three_methods() -> None:
    proto = descriptor_pb2.FileDescriptorProto.FromString(vdisk_pb2.DESCRIPTOR.serialized_pb)
    assert proto.package == "portunix.vdisk.v1"
    assert [method.name for method in proto.service[0].method] == ["Operate", "Status", "Stop"]


def test_dependencies_allow_the_generated_modules() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    made_by = re.search(r"Protobuf Python Version: (.*)", (generate.FOLDER / "vdisk_pb2.py").read_text())
    grpc_made_by = re.search(r"GRPC_GENERATED_VERSION = '(.*)'", (generate.FOLDER / "vdisk_pb2_grpc.py").read_text())
    assert made_by and f"protobuf>={made_by.group(1)}" in dependencies
    assert grpc_made_by and f"grpcio>={grpc_made_by.group(1)}" in dependencies


def test_version_is_the_project_s() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
    assert build().startswith(VERSION)


@given(st.lists(st.binary(max_size=3000), max_size=8))
def test_messages_come_out_as_they_went_in(messages: list[bytes]) -> None:
    source, target = os.pipe()
    try:
        for message in messages:
            framing.write_message(target, message)
        os.close(target)
        target = -1
        assert [framing.read_message(source) for _ in messages] == messages
        assert framing.read_message(source) is None
    finally:
        os.close(source)
        if target >= 0:
            os.close(target)


@pytest.mark.parametrize("torn", [b"\0", b"\0\0\0\5", b"\0\0\0\5abcd"])
def test_a_torn_message_is_the_end(torn: bytes) -> None:
    source, target = os.pipe()
    os.write(target, torn)
    os.close(target)
    assert framing.read_message(source) is None
    os.close(source)


def test_an_absurd_length_is_refused_before_anything_is_allocated() -> None:
    source, target = os.pipe()
    os.write(target, b"\xff\xff\xff\xff")
    with pytest.raises(ValueError, match="4294967295"):
        framing.read_message(source)
    os.close(source)
    os.close(target)


@given(st.text(st.characters()) | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_readable_text_is_utf_8(text: str) -> None:
    shown = readable(text)
    shown.encode()
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert shown == text


def test_bytes_that_are_no_text_are_shown_as_escapes() -> None:
    assert readable(os.fsdecode(b"a\xffb")) == "a\\xffb"
    assert readable("\ud800") == "\\ud800"
    assert readable_json({"\udcff": ["\udcfe", 1, None, {"x": "\udcfd"}]}) == {
        "\\xff": ["\\xfe", 1, None, {"x": "\\xfd"}]
    }
