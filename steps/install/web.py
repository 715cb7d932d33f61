"""Reading from servers by way of a folder that keeps what was read: the cache that all disks share.

cache/index/…   what registries said, with the mark by which a server tells whether that is still so
cache/files/…   files, each under its digest; one that is not whole yet ends in ``.partial``
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import urllib3

from portunix_vdisk.platform.errors import Corrupt
from portunix_vdisk.steps.durable import fsync_folder, has_inode, partial_of
from portunix_vdisk.steps.install.tool import Artifact, Unreachable

_LARGEST_INDEX: Final = 256 << 20
_BLOCK: Final = 256 << 10
_POLL_SECONDS: Final = 0.1
_TIMEOUT: Final = urllib3.Timeout(connect=10, read=20)
_AGAIN: Final = urllib3.Retry(
    total=6, connect=1, read=2, backoff_factor=0.2, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False
)


class Web:
    """Servers, and what is known of them.

    Args:
        cache: the folder that keeps what was read; made if missing.
        stop: raises where the person wants to stop; called often, from several threads.
        offline: ask nobody, and be content with the cache.
        proxy_of: the proxy of an address; empty if there is none.
    """

    def __init__(
        self,
        cache: Path,
        stop: Callable[[], None],
        *,
        offline: bool = False,
        proxy_of: Callable[[str], str] = lambda address: "",
    ) -> None:
        self.offline = offline
        self.stop = stop
        self._index, self._files = cache / "index", cache / "files"
        self._proxy_of = proxy_of
        self._pools: dict[str, urllib3.PoolManager] = {}

    def index(self, address: str, accept: str = "*/*") -> bytes:
        """What a registry says at an address, newly if it changed. Raises ``Unreachable``."""
        key = hashlib.sha256(f"{address} {accept}".encode()).hexdigest()
        kept = self._index / key
        known = _kept(kept)
        if self.offline:
            if known is None:
                raise Unreachable(f"{_host(address)} was never asked for this, and --offline forbids it now")
            return known[1]
        headers = {"Accept": accept}
        if known is not None:
            headers |= {
                name: known[0][mark]
                for name, mark in (("If-None-Match", "etag"), ("If-Modified-Since", "last-modified"))
                if known[0].get(mark)
            }
        response = self._request(address, headers)
        try:
            if response.status == 304 and known is not None:
                return known[1]
            _must_be_good(response, address)
            text = b""
            for block in response.stream(_BLOCK):
                self.stop()
                text += block
                if len(text) > _LARGEST_INDEX:
                    raise Unreachable(f"{address} says too much: more than {_LARGEST_INDEX >> 20} MiB")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(f"{_host(address)} cannot be reached: {_why(error)}") from error
        finally:
            response.release_conn()
        marks = {mark: response.headers[mark] for mark in ("etag", "last-modified") if mark in response.headers}
        self._index.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f"{kept.name}.{os.getpid()}.partial")  # others may ask the same at this moment
        partial.write_bytes(json.dumps(marks).encode() + b"\n" + text)
        partial.replace(kept)
        return text

    def place(self, artifact: Artifact) -> Path:
        """Where the cache keeps a file."""
        return self._files / f"{artifact.digest.partition(':')[2][:40]}-{artifact.name}"

    def fetch(self, artifact: Artifact, told: Callable[[int], None]) -> Path:
        """A file, whole and right, in the cache; what an earlier run has of it is not fetched again.

        Args:
            artifact: which one.
            told: hears how many bytes of it are there.

        Raises:
            Unreachable: its server cannot be asked, or has it no more.
            Corrupt: it is not the file that was expected; nothing of it is kept.
        """
        final = self.place(artifact)
        if final.exists():
            told(final.stat().st_size)
            return final
        if self.offline:
            raise Unreachable(f"{artifact.name} is not in the cache, and --offline forbids fetching it")
        self._files.mkdir(parents=True, exist_ok=True)
        partial = partial_of(final)
        with self._alone(partial):
            if not final.exists():  # somebody else may have fetched it while we waited
                self._fetch(artifact, partial, told)
                partial.replace(final)
                fsync_folder(final.parent)
        told(final.stat().st_size)
        return final

    @contextmanager
    def _alone(self, partial: Path) -> Iterator[None]:
        """While the context lasts, no other process and no other thread writes to this file."""
        with ExitStack() as held:
            while True:
                descriptor = held.enter_context(partial.open("ab")).fileno()
                while not _locked(descriptor):
                    self.stop()
                    time.sleep(_POLL_SECONDS)
                stat = os.fstat(descriptor)
                if has_inode(partial, (stat.st_dev, stat.st_ino)):
                    break  # else it got its final name, or was thrown away, while we waited
            try:
                yield
            finally:
                if _length(partial) == 0:
                    partial.unlink(missing_ok=True)

    def _fetch(self, artifact: Artifact, partial: Path, told: Callable[[int], None]) -> None:
        failures, known = 0, -1
        while not self._go_on(artifact, partial, told):
            there = _length(partial)
            failures = 0 if there > known else failures + 1
            known = max(known, there)
            if failures > 4:
                raise Unreachable(
                    f"{_host(artifact.address)} stops sending {artifact.name} again and again",
                    state=f"{there} bytes of it are kept",
                    hint="run the same command to continue",
                )
        found = digest_of(partial, artifact.digest.partition(":")[0], self.stop)
        if found != artifact.digest:
            partial.unlink()
            raise Corrupt(
                f"{artifact.name} from {_host(artifact.address)} is another file than was announced: "
                f"{found} instead of {artifact.digest}",
                state="it was thrown away; nothing of it is on the disk",
                hint="run the same command again; if it stays so, do not trust that server",
            )

    def _go_on(self, artifact: Artifact, partial: Path, told: Callable[[int], None]) -> bool:
        """Fetch what is missing; False if the connection broke before the end."""
        with partial.open("ab") as file:
            start = file.tell()
            if artifact.size and start >= artifact.size:
                return True
            headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
            response = self._request(artifact.address, headers)
            try:
                if response.status == 416:  # there is nothing behind what we have: it is whole, or another file
                    file.truncate(start if _total(response.headers) == start else 0)
                    return _total(response.headers) == start
                _must_be_good(response, artifact.address)
                if start and not (response.status == 206 and _first(response.headers) == start):
                    file.truncate(0)
                    start = 0
                    if response.status == 206:
                        return False
                told(start)
                for block in response.stream(_BLOCK, decode_content=False):
                    self.stop()
                    file.write(block)
                    start += len(block)
                    if artifact.size and start > artifact.size:
                        break  # the digest will tell
                    told(start)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None and error.filename is None:
                    raise
                return False
            finally:
                response.close()
                file.flush()
                os.fsync(file.fileno())
        return True

    def _request(self, address: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        self.stop()
        proxy = self._proxy_of(address)
        try:
            if proxy not in self._pools:
                self._pools[proxy] = _pool(proxy)
            return self._pools[proxy].request(
                "GET",
                address,
                headers={"User-Agent": "portunix-vdisk", **headers},
                preload_content=False,
                retries=_AGAIN,
                timeout=_TIMEOUT,
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            by = f" by the proxy {proxy.rpartition('@')[2]}" if proxy else ""
            raise Unreachable(f"{_host(address)} cannot be reached{by}: {_why(error)}") from error


def _pool(proxy: str) -> urllib3.PoolManager:
    """Connections, by a proxy if there is one. Raises ``HTTPError``, ``ValueError``: it is none that we can use."""
    if not proxy:
        return urllib3.PoolManager(maxsize=8)
    credentials = urllib3.util.parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=unquote(credentials)) if credentials else None
    return urllib3.ProxyManager(proxy, maxsize=8, proxy_headers=headers)


def digest_of(path: Path, algorithm: str, stop: Callable[[], None]) -> str:
    """Digest of a file, with its algorithm in front. Raises ``OSError``."""
    found = hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            stop()
            found.update(block)
    return f"{algorithm}:{found.hexdigest()}"


def _locked(descriptor: int) -> bool:
    """Take the lock of an open file if nobody has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _kept(path: Path) -> tuple[dict[str, str], bytes] | None:
    try:
        first, _, text = path.read_bytes().partition(b"\n")
        return dict(json.loads(first)), text
    except (OSError, ValueError, TypeError):
        return None


def _must_be_good(response: urllib3.BaseHTTPResponse, address: str) -> None:
    if response.status not in (200, 206):
        raise Unreachable(
            f"{_host(address)} answers {response.status} {response.reason or ''}".rstrip() + f": {address}"
        )


def _first(headers: Mapping[str, str]) -> int:
    """First byte of what is sent, by ``Content-Range: bytes 5-9/10``; -1 if that is not said."""
    with suppress(ValueError):
        return int(headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0])
    return -1


def _total(headers: Mapping[str, str]) -> int:
    with suppress(ValueError):
        return int(headers.get("Content-Range", "").rpartition("/")[2])
    return -1


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _host(address: str) -> str:
    return urlsplit(address).netloc or address


def _why(error: BaseException) -> str:
    """The innermost reason, without the names of Python's objects."""
    inner: object = error
    while isinstance(inner, BaseException) and (deeper := getattr(inner, "reason", None) or inner.__cause__):
        inner = deeper
    text = str(inner)
    return text.rpartition("object at 0x")[2].partition(">: ")[2] or text
