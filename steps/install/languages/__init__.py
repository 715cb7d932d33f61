"""Languages whose packages can be on a disk."""

from __future__ import annotations

from typing import Final

from portunix_vdisk.steps.install.languages.go import Go
from portunix_vdisk.steps.install.languages.language import Language
from portunix_vdisk.steps.install.languages.node import Node
from portunix_vdisk.steps.install.languages.python import Python

LANGUAGES: Final[dict[str, Language]] = {"npm": Node(), "pip": Python(), "go": Go()}
