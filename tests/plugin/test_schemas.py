from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

from portunix_vdisk.tasks.operations import OPERATIONS, slug
from portunix_vdisk.tests.plugin.harness import Portunix, wait_for
from portunix_vdisk.tests.plugin.results import INSTALLED, RESULTS
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


def test_what_is_installed_is_listed_by_itself() -> None:
    validate("list", INSTALLED)
    for wrong in (INSTALLED | {"disks": [DISK]}, INSTALLED | {"tools": [INSTALLED["tools"][0] | {"active": "yes"}]}):  # type: ignore[index, operator]
        with pytest.raises(ValidationError):
            validate("list", wrong)


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
