"""Larger tools, killed installations, and what needs a server of its own."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import ssl
import subprocess
import threading
import time
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from machine import BIN, Machine

from portunix_vdisk.steps.install.record import STATE
from portunix_vdisk.tests.system.test_install import elsewhere, mounted, said
from portunix_vdisk.tests.system.test_kill import kill_at

__all__ = ["mounted"]


def environment(machine: Machine, **variables: str) -> None:
    """Variables for what is done from here on: what serves the machine has the ones that it was started with."""
    machine.environment |= variables
    machine.run(BIN / "portunix", "plugin", "stop", "vdisk", check=0)


def certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 that signs itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(text + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_git_clones_by_https(mounted: Machine) -> None:
    mounted.vdisk("install", "git")
    root = elsewhere(mounted)
    folder = mounted.folder
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    home = {"HOME": str(folder), **who}
    said(root, "bin/git", "init", "-q", "--bare", str(folder / "origin.git"), **home)
    said(root, "bin/git", "init", "-q", str(folder / "source"), **home)
    (folder / "source/file").write_text("content\n")
    for words in (("add", "file"), ("commit", "-qm", "x"), ("push", "-q", str(folder / "origin.git"), "HEAD:master")):
        said(root, "bin/git", "-C", str(folder / "source"), *words, **home)
    said(root, "bin/git", "-C", str(folder / "origin.git"), "update-server-info", **home)
    pem = certificate(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"https://127.0.0.1:{server.server_address[1]}/origin.git"
        said(root, "bin/git", "clone", "-q", address, str(folder / "copy"), **home, GIT_SSL_CAINFO=str(pem))
        untrusted = subprocess.run(
            [root / "bin/git", "clone", address, folder / "no"], env=home, capture_output=True, check=False
        )
        assert untrusted.returncode and b"certificate" in untrusted.stderr
    finally:
        server.shutdown()
        server.server_close()
    assert (folder / "copy/file").read_text() == "content\n"


def module_proxy(folder: Path) -> Path:
    """A proxy of Go modules with one module; see https://go.dev/ref/mod#goproxy-protocol."""
    place = folder / "proxy/example.com/hello/@v"
    place.mkdir(parents=True)
    (place / "list").write_text("v1.2.0\n")
    (place / "v1.2.0.info").write_text('{"Version":"v1.2.0","Time":"2024-01-02T03:04:05Z"}')
    (place / "v1.2.0.mod").write_text("module example.com/hello\n\ngo 1.21\n")
    with zipfile.ZipFile(place / "v1.2.0.zip", "w") as made:
        made.writestr("example.com/hello@v1.2.0/go.mod", "module example.com/hello\n\ngo 1.21\n")
        made.writestr("example.com/hello@v1.2.0/hello.go", 'package hello\n\nfunc Hello() string { return "moved" }\n')
    return folder / "proxy"


@pytest.mark.full
def test_go_builds_with_the_disks_modules(mounted: Machine) -> None:
    environment(mounted, GOPROXY=f"file://{module_proxy(mounted.folder)}", GOSUMDB="off")
    result = mounted.vdisk("install", "go", "example.com/hello", "--json").result
    assert result["packages"] == [{"language": "go", "name": "example.com/hello", "version": "v1.2.0"}]
    again = mounted.vdisk("install", "go", "example.com/hello", "--json")
    assert again.json["tasks"]["run"] == 0
    root = elsewhere(mounted)
    project = root / "projects/app"
    project.mkdir(parents=True)
    (project / "main.go").write_text(
        'package main\n\nimport "example.com/hello"\n\nfunc main() { println(hello.Hello()) }\n'
    )
    none = {"HOME": str(mounted.folder), "GOPROXY": "off", "GONOSUMDB": "*", "GONOSUMCHECK": "1", "GOSUMDB": "off"}
    (project / "go.mod").write_text("module app\n\ngo 1.21\n\nrequire example.com/hello v1.2.0\n")
    go = [root / "bin/go", "build", "-mod=mod", "-o", "app", "."]
    done = subprocess.run(go, cwd=project, env=none, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert subprocess.run([project / "app"], capture_output=True, text=True, check=True).stderr == "moved\n"


def test_what_cannot_be_reached_is_said(mounted: Machine) -> None:
    environment(mounted, https_proxy="http://127.0.0.1:9")
    error = mounted.vdisk("install", "vscode", "chrome", check=1).err
    assert (
        "vscode cannot be had: debian: packages.microsoft.com cannot be reached by the proxy http://127.0.0.1:9: "
        in error
    )
    assert "nothing of it was installed" in error
    answer = mounted.vdisk("install", "vscode", "chrome", "--allow-missing", "--json").result
    assert [one["name"] for one in answer["missing"]] == ["vscode", "chrome"] and answer["tools"] == []
    assert "refused" in answer["missing"][1]["why"]


def tree(root: Path) -> dict[str, tuple[int, str | bytes]]:
    """Everything on a disk but caches: modes, and contents or targets."""
    found: dict[str, tuple[int, str | bytes]] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if name.startswith("cache") or "__pycache__" in name or name == "lost+found":
            continue
        inner = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[name] = (path.lstat().st_mode, inner)
    return found


@pytest.mark.full
def test_killed_again_and_again_it_ends_with_the_same(mounted: Machine) -> None:
    words = ("install", "nodejs@20", "python", "npm:typescript@5.4.5", "pip:cowsay")
    root, kills = mounted.folder / "mnt", 0
    for number in range(20):
        if not any((root / STATE / name).exists() for name in ("staging", "unfinished-npm", "unfinished-pip")):
            for path in root.iterdir():  # the last run came to its end, or not far
                shutil.rmtree(path)
        end = time.monotonic() + 0.5 + 0.25 * number
        kills += kill_at(mounted, (*words, "--json"), lambda end=end: int(time.monotonic() > end), 1) > 0
        for tool in root.glob("tools/*/*"):
            assert any((tool / inner).exists() for inner in ("bin/node", "usr/bin/python3.11", "bin/uv")), tool
    assert kills > 8
    result = mounted.vdisk(*words, "--json").result
    assert len(result["tools"]) == 3
    mounted.vdisk("create", "--name", "calm", "--size", "4GB", "--type", "img")
    mounted.vdisk("mount", "calm", "calm")
    mounted.vdisk(*words, "--disk", "calm")
    one, other = tree(mounted.folder / "mnt"), tree(mounted.folder / "calm")
    assert {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)} == set()
    mounted.vdisk("unmount", "calm")
