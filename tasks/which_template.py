"""The template that a person means, and where its lock lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from portunix_vdisk.platform.errors import BadUsage, NotFound
from portunix_vdisk.steps.install.lock import Lock, read_lock
from portunix_vdisk.tasks.describe import show_path
from portunix_vdisk.tasks.session import Session
from portunix_vdisk.templates.template import FILE_NAME, Template, all_templates, find_template, read_templates


def template_named(session: Session, text: str) -> tuple[Template, Path]:
    """A template by its key, or the only one of a file (``./web.yaml``), and the place of its lock.

    The lock lies beside the template: in the folder of its file, or in that of the person's own templates.
    Raises ``BadUsage``, ``NotFound``.
    """
    known = all_templates(session.home.root / FILE_NAME)
    if "/" not in text and not text.endswith((".yaml", ".yml")):
        template = find_template(known, text)
        return template, session.home.root / f"{template.key}.vdisk.lock"
    path = session.absolute(text)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"{show_path(path)}: no such file", state="nothing was done") from None
    except OSError as error:
        raise BadUsage(f"cannot read {show_path(path)}: {error.strerror}", state="nothing was done") from error
    found = list(read_templates(content, show_path(path), known).values())
    if len(found) != 1:
        keys = ", ".join(one.key for one in found) or "none"
        raise BadUsage(
            f"{show_path(path)} has several templates ({keys})" if found else f"{show_path(path)} has no template",
            state="nothing was done",
            hint=f"put them into {show_path(session.home.root / FILE_NAME)}, then name one by its key",
        )
    return replace(found[0], origin=show_path(path)), path.with_name(f"{found[0].key}.vdisk.lock")


def lock_of_template(template: Template, place: Path) -> Lock:
    """What is beside a template. Raises ``NotFound``, ``Corrupt``, ``Refused``."""
    try:
        return read_lock(place)
    except NotFound:
        raise NotFound(
            f"there is no lock of {template.key}: {show_path(place)}",
            state="nothing was created",
            hint=f"portunix vdisk template lock {template.key} makes one",
        ) from None
