"""Questions about templates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from portunix_vdisk.platform.errors import BadUsage, NotFound
from portunix_vdisk.steps.sizes import parse_size
from portunix_vdisk.steps.step import Json
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.tasks.which_template import template_named
from portunix_vdisk.templates.template import (
    FILE_NAME,
    Template,
    all_templates,
    built_in_templates,
    read_templates,
)


def list_templates(session: Session, options: Mapping[str, str]) -> Json:
    """Every template. Raises ``BadUsage``: the person's own file is not right."""
    return {"templates": [_json(one) for one in all_templates(session.home.root / FILE_NAME).values()]}


def show_template(session: Session, options: Mapping[str, str]) -> Json:
    """One template. Raises ``BadUsage``: there is none of that key."""
    return {"template": _json(template_named(session, options["template"])[0])}


def validate_templates(session: Session, options: Mapping[str, str]) -> Json:
    """What is in a file of templates. Raises ``BadUsage`` that says what is wrong, ``NotFound``."""
    path = session.absolute(options["file"])
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"{show_path(path)}: no such file") from None
    except OSError as error:
        raise BadUsage(f"cannot read {show_path(path)}: {error.strerror}") from error
    found = read_templates(text, show_path(path), built_in_templates())
    return {"file": show_path(path), "templates": [_json(one) for one in found.values()]}


def _json(template: Template) -> Json:
    """The specification's keys first, then ours. Raises ``BadUsage``: its size means nothing."""
    try:
        size = parse_size(template.size)
    except BadUsage as error:
        raise BadUsage(f"{template.origin}: templates.{template.key}.size: {error.what}", hint=error.hint) from error
    return {
        "name": template.name,
        "description": template.description,
        "size": template.size,
        "tools": [asdict(tool) for tool in template.tools],
        "packages": [asdict(package) for package in template.packages],
        "scripts": [asdict(script) for script in template.scripts],
        "configuration": dict(template.configuration),
        "key": template.key,
        "size_bytes": size,
        "origin": template.origin,
    }
