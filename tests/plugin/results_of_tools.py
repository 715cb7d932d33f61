"""A result of each operation about templates and tools, with everything that can be in it."""

from __future__ import annotations

from typing import Any

TEMPLATE = {
    "key": "mine",
    "name": "Mine",
    "description": "",
    "size": "20GB",
    "size_bytes": 20_000_000_000,
    "origin": "built-in",
    "tools": [{"name": "nodejs", "version": "18", "source": ""}],
    "packages": [{"name": "react", "version": "", "language": "npm"}],
    "scripts": [{"name": "s", "run": "true", "network": False, "timeout": 600}],
    "configuration": {"NODE_ENV": "development"},
}
RESULTS_OF_TOOLS: dict[str, Any] = {
    "template list": {"templates": [TEMPLATE]},
    "template show": {"template": TEMPLATE},
    "template validate": {"file": "/t.yaml", "templates": [TEMPLATE]},
    "install": {
        "disk": "my-dev",
        "mount_point": "/mnt/dev",
        "tools": [{"name": "nodejs", "version": "20.18.0", "source": "pypi"}],
        "packages": [{"language": "npm", "name": "react", "version": "18.3.1"}],
        "missing": [{"name": "chrome", "why": "w"}],
        "changed": True,
    },
}
