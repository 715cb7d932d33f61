from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

from portunix_vdisk.tasks.operations import OPERATIONS, slug
from portunix_vdisk.tests.plugin.harness import Portunix, wait_for
from portunix_vdisk.tests.plugin.results_of_tools import RESULTS_OF_TOOLS
from portunix_vdisk.tests.plugin.stand_in import DISK, sync_result, told

FOLDER = resources.files("portunix_vdisk.plugin.schemas")
SCHEMAS: dict[str, Any] = {
    entry.name.removesuffix(".json"): json.loads(entry.read_text())
    for entry in FOLDER.iterdir()
    if entry.name.endswith(".json")
}
REGISTRY: Registry[Any] = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values()
)

UUID = "12345678-1234-1234-1234-123456789abc"
EXPORT = {"output": "/x.zip", "finished_at": "2025-01-01T00:00:00+00:00", "root": "ab" * 32}
_NO = ("compression", "encryption", "fixed", "trim", "snapshots", "links", "modes", "rootless")
RESULTS: dict[str, Any] = {
    "list": {"disks": [DISK]},
    "info": {
        "disk": DISK | {"encrypted": True},
        "encryption": {
            "format": "LUKS1",
            "cipher": "aes-xts-plain64",
            "key_bits": 512,
            "hash": "sha256",
            "uuid": UUID,
            "slots": [0, 2],
        },
        "exports": [EXPORT],
    },
    "formats": {
        "formats": [
            {
                "type": "vhd",
                "max_size": "2.2 TB",
                "compatible": ["linux", "wsl2"],
                "file_system": "ext4",
                **dict.fromkeys(_NO, False),
                **dict.fromkeys(("max_size_bytes", "min_size_bytes"), 7),
                **dict.fromkeys(("max_file_bytes", "not_encrypted_because", "not_rootless_because", "refused")),
            }
        ]
    },
    "create": {"disk": DISK, "changed": True},
    "repair": {"disk": DISK, "changed": True},
    "mount": {"disk": DISK | {"mount_point": "/mnt/dev", "device": "/dev/loop0"}, "changed": True},
    "unmount": {"disk": DISK, "changed": False},
    "sync": sync_result(),
    **RESULTS_OF_TOOLS,
    "compact": {
        "disk": DISK,
        "skipped": None,
        "changed": True,
        **dict.fromkeys(("before_bytes", "after_bytes", "saved_bytes", "trimmed_bytes"), 7),
    },
    "clone": {"disk": DISK, "source": "my-dev", "shared": False, "changed": True},
    "check": {"disk": DISK, "problems": [{"part": "image", "what": "w"}], "repaired": ["r"]},
    "convert": {
        "disk": DISK,
        "former_path": "/d/my-dev.img",
        "copy": {"path": "/d/my-dev.dmg", "bytes": 7000},
        "changed": True,
    },
    "resize": {"disk": DISK, "former_size_bytes": 1 << 30, "changed": True},
    "export": {
        "disk": "my-dev",
        "output": "/x.zip",
        "archive_uuid": UUID,
        "root": "ab" * 32,
        "changed": True,
        "generation": 3,
        "generations": [2, 3],
        "encrypted": True,
        "base": "monday.zip",
        **dict.fromkeys(("archive_bytes", "disk_bytes", "data_bytes", "written_bytes", "reused_bytes"), 7),
        **dict.fromkeys(("added_bytes", "saved_bytes"), 7),
        "waited_seconds": 0.05,
        "excluded": {"files": 3, "bytes": 7, "stayed": 0, "rules": [{"rule": "cargo", "files": 3, "bytes": 7}]},
    },
    "verify": {
        "archive": "/x.zip",
        "archive_uuid": UUID,
        "disk": "my-dev",
        "generations": [2, 3],
        "root": "ab" * 32,
        "archive_bytes": 7,
        "checked_bytes": 7,
        "quick": False,
        "cut_off_bytes": 7,
    },
    "archive list": {
        "archive": "/x.zip",
        "archive_uuid": UUID,
        "disk": "my-dev",
        "disk_uuid": UUID,
        "type": "vhd",
        "encrypted": True,
        "base": "monday.zip",
        "volumes": 3,
        **dict.fromkeys(("size_bytes", "archive_bytes", "dead_bytes", "cut_off_bytes"), 7),
        "generations": [
            {
                "generation": 3,
                "finished_at": "2025-01-02T03:04:05+00:00",
                "root": "ab" * 32,
                "data_bytes": 7,
                "added_bytes": 7,
                "without_caches": True,
            }
        ],
    },
    "archive prune": {
        "archive": "/x.zip",
        "archive_bytes": 7,
        "saved_bytes": 7,
        "generations": [3],
        "dropped": [1, 2],
    },
    "archive merge": {
        "archive": "/d.zip",
        "output": "/x.zip",
        "merged": ["/d.zip", "/b.zip"],
        "archive_uuid": UUID,
        "disk": "my-dev",
        "root": "ab" * 32,
        "encrypted": False,
        "changed": True,
        **dict.fromkeys(("archive_bytes", "data_bytes", "written_bytes", "reused_bytes"), 7),
    },
    "archive repair": {
        "archive": "/x.zip",
        "archive_uuid": UUID,
        "lost": [{"member": "chunks/1-000000000000.zst", "offset": 0, "length": 7, "generations": [1], "problem": "p"}],
        "whole_generations": [2],
        "damaged_generations": [1],
        "mended_documents": ["directory"],
        "damaged_documents": ["session-1.json"],
        **dict.fromkeys(("checked_bytes", "damaged_chunks", "mended_in_place", "appended_chunks"), 7),
        **dict.fromkeys(("lost_chunks", "written_bytes"), 7),
    },
    "passwd": {"disk": "my-dev", "change": "add", "slots": [0, 1]},
    "luks-backup": {"disk": "my-dev", "output": "/h.luks", "bytes": 2 << 20},
    "archive rekey": {"archive": "/x.zip", "archive_uuid": UUID},
    "import": {
        "disk": DISK,
        "archive": "/x.zip",
        "root": "ab" * 32,
        "changed": True,
        "written_bytes": 1,
        "reused_bytes": 0,
        "damage": {
            "damaged_bytes": 7,
            "files": ["/a"],
            "file_count": 1,
            "structures": ["journal"],
            "unknown": None,
        },
    },
    "archive mount": {
        "archive": "/x.zip",
        "generation": 2,
        "disk": "my-dev",
        "uuid": UUID,
        "size": "20.0 GB",
        "size_bytes": 20_000_000_000,
        "file_system": "ext4",
        "mount_point": "/mnt/look",
        "device": "/dev/loop0",
        "server_pid": 12,
        "changed": True,
    },
    "archive unmount": {"archive": "/x.zip", "mount_point": "/mnt/look", "changed": True},
    "delete": {"name": "my-dev", "path": "/d/my-dev.vhd", "deleted": True},
    "doctor": {
        "tools": [{"name": "qemu-img", "purpose": "p", "without": "w", "found": None, "install": "apt-get install"}],
        "ok": False,
        "fixed": [],
    },
}


def validate(name: str, value: object) -> None:
    Draft202012Validator(SCHEMAS[slug(name)], registry=REGISTRY).validate(value)


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_schema_is_a_valid_and_strict_one(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if "properties" in node and node.get("type") == "object":
                assert node["additionalProperties"] is False
                assert set(node["properties"]) - set(node["required"]) <= {"planned", "planned_count", "failed"}
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(SCHEMAS[name])


@pytest.mark.parametrize("name", [operation.name for operation in OPERATIONS])
def test_every_operation_has_a_schema_that_knows_right_from_wrong(name: str) -> None:
    validate(name, RESULTS[name])
    with pytest.raises(ValidationError):
        validate(name, RESULTS[name] | {"surprise": 1})
    for key in RESULTS[name]:
        with pytest.raises(ValidationError):
            validate(name, {other: value for other, value in RESULTS[name].items() if other != key})


def test_an_import_of_an_image_has_a_result_of_its_own() -> None:
    result = {"disk": DISK, "image": "/x.img", "in_place": True, "changed": True}
    validate("import", result)
    with pytest.raises(ValidationError):
        validate("import", {**result, "root": "ab" * 32})


def test_a_mounted_image_that_is_only_read_has_a_result_of_its_own() -> None:
    result = {"image": "/x.vmdk", "kind": "vmdk", "file_system": "ext4", "partition": 1, "mount_point": "/mnt/x"}
    validate("mount", {**result, "device": "/dev/loop0", "changed": True})
    with pytest.raises(ValidationError):
        validate("mount", {**result, "disk": DISK, "changed": True})


@pytest.mark.parametrize("name", ["create", "import", "clone"])
def test_an_abort_has_no_disk(name: str) -> None:
    validate(name, {"disk": None, "changed": True})
    with pytest.raises(ValidationError):
        validate(name, RESULTS[name] | {"disk": None, "surprise": 1})


def test_only_a_dry_run_has_a_plan() -> None:
    validate("sync", told("x"))
    for wrong in (told("x") | {"dry_run": False}, sync_result(dry_run=True)):
        with pytest.raises(ValidationError):
            validate("sync", wrong)


def test_disks_in_results_are_checked_too() -> None:
    with pytest.raises(ValidationError):
        validate("list", {"disks": [DISK | {"state": "strange"}]})


def test_output_of_real_commands(portunix: Portunix) -> None:
    def run(*arguments: str) -> dict[str, Any]:
        done = portunix.run(*arguments, "--json")
        assert done.stdout.count("\n") == 1, done
        envelope: dict[str, Any] = json.loads(done.stdout)
        validate("envelope", envelope)
        assert envelope["exit_code"] == done.returncode, done
        return envelope

    status = run("plugin", "status", "vdisk")
    validate("plugin-status", status["result"])
    assert not status["result"]["running"]
    validate("list", run("vdisk", "list")["result"])
    refused = run("vdisk", "sync", "--source", "refuse", "--target", "t")
    assert refused["error"] == {
        "what": "it is mounted",
        "state": "nothing was done",
        "hint": "portunix vdisk unmount my-dev",
    }
    assert refused["exit_code"] == 4
    assert run("vdisk", "nonsense")["exit_code"] == 2
    assert run("vdisk", "create", "--fs", "x")["exit_code"] == 2
    events = run("vdisk", "sync", "--source", "events", "--target", "t")
    validate("sync", events["result"])
    assert events["tasks"] == {"run": 1, "up_to_date": 1}

    mark = portunix.home.root / "mark"
    waiting = portunix.start("vdisk", "sync", "--source", f"wait {mark}", "--target", "t", "--json")
    wait_for(mark.exists)
    status = run("plugin", "status", "vdisk")
    validate("plugin-status", status["result"])
    assert [one["operation"] for one in status["result"]["operations"]] == ["sync"]
    assert run("plugin", "stop", "vdisk")["exit_code"] == 4
    stopped = run("plugin", "stop", "vdisk", "--force")
    validate("plugin-stop", stopped["result"])
    out, _ = waiting.communicate(timeout=10)
    envelope = json.loads(out)
    validate("envelope", envelope)
    assert waiting.returncode == envelope["exit_code"] == 130


def test_only_what_is_done_or_damaged_has_a_result() -> None:
    problem = {"what": "w", "state": "", "hint": ""}
    told = {"operation": "archive repair", "tasks": {"run": 1, "up_to_date": 0}, "error": problem, "result": {}}
    validate("envelope", told | {"exit_code": 5})
    validate("envelope", told | {"exit_code": 5, "result": None})
    for wrong in ({"exit_code": 1}, {"exit_code": 0}, {"exit_code": 5, "error": None}):
        with pytest.raises(ValidationError):
            validate("envelope", told | wrong)
