"""What comes together in some years: more projects, so that the environment has about 300,000 files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from portunix_vdisk.tests.bench.packages import Installer, python_project

NODE_PROJECTS: Mapping[str, Mapping[str, str]] = {
    "mobile": {"react-native": "^0.73", "expo": "^50", "@react-navigation/native": "^6", "typescript": "^5"},
    "portal": {
        "@angular/cli": "^17",
        "@angular/core": "^17",
        "@angular/material": "^17",
        "@angular/compiler-cli": "^17",
        "@angular-devkit/build-angular": "^17",
        "nx": "^17",
        "rxjs": "^7",
        "zone.js": "^0.14",
        "typescript": "~5.3",
    },
    "cloud": {
        "aws-sdk": "^2",
        "@aws-sdk/client-s3": "^3",
        "googleapis": "^130",
        "serverless": "^3",
        "@types/node": "^20",
    },
    "intranet": {"nuxt": "^3", "vuetify": "^3", "@nestjs/core": "^10", "@nestjs/cli": "^10", "@tabler/icons": "^2"},
    "archive-2019": {"react-scripts": "^4", "react": "^16", "react-dom": "^16", "moment": "^2", "bootstrap": "^4"},
}
PYTHON_PROJECTS: Mapping[str, tuple[str, ...]] = {
    "forecasts": ("polars==1.*", "pyarrow==17.*", "statsmodels==0.14.*", "xgboost-cpu==2.*", "bokeh==3.*"),
    "vision": ("opencv-python-headless==4.*", "scikit-image==0.*", "numpy==2.*", "scipy==1.*", "matplotlib==3.*"),
    "robots": ("ansible==9.*", "boto3==1.*", "kubernetes==30.*", "azure-mgmt-network==26.*", "twisted==24.*"),
}


def parts() -> dict[str, Callable[[Path, Installer], None]]:
    """Folder in the tree and what fills it."""
    node = {f"projects/{name}": partial(_node, needs) for name, needs in NODE_PROJECTS.items()}
    python = {f"projects/{name}": partial(_python, needs) for name, needs in PYTHON_PROJECTS.items()}
    return node | python


def _node(needs: Mapping[str, str], project: Path, installer: Installer) -> None:
    installer.npm(project, needs, "--legacy-peer-deps")


def _python(needs: tuple[str, ...], project: Path, installer: Installer) -> None:
    python_project(project, installer, needs)
