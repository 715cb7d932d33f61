"""How a program of ours tells the one that started it why it failed: one line of JSON on its error output."""

from __future__ import annotations

import json

from portunix_vdisk.platform import errors
from portunix_vdisk.platform.errors import Failed, VdiskError


def report_of(error: VdiskError) -> str:
    """The line that tells of a failure."""
    failure = {
        "kind": type(error).__name__,
        "code": int(error.code),
        "what": error.what,
        "state": error.state,
        "hint": error.hint,
    }
    return json.dumps({"error": failure}) + "\n"


def error_in(output: bytes | str) -> VdiskError | None:
    """The failure that the last line of an error output tells of; None if it tells of none."""
    try:
        found = json.loads(output.splitlines()[-1])["error"]
        kind = getattr(errors, str(found["kind"]), None)
        what, state, hint = (str(found.get(name, "")) for name in ("what", "state", "hint"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    if isinstance(kind, type) and issubclass(kind, VdiskError) and kind is not errors.ToolFailed:
        return kind(what, state, hint)
    return Failed(what, state, hint)
