from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Served, serving
from silent import Silent

from portunix_vdisk.platform.errors import Corrupt, Interrupted
from portunix_vdisk.platform.linux.machine import LinuxPlatform
from portunix_vdisk.steps.install.downloads import fetch_all
from portunix_vdisk.steps.install.tool import Artifact, Form, Unreachable
from portunix_vdisk.steps.install.web import _AGAIN, Web
from portunix_vdisk.steps.step import Context

DATA = os.urandom(3_000_000)


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as made:
        made.files["/a.whl"] = DATA
        yield made


def web(folder: Path, *, offline: bool = False) -> Web:
    return Web(folder / "cache", lambda: None, offline=offline)


def artifact(served: Served, name: str = "a.whl", data: bytes = DATA, algorithm: str = "sha256") -> Artifact:
    digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    return Artifact(f"{served.address}/{name}", digest, Form.WHEEL, len(data))


def quiet(done: int) -> None:
    pass


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_file_is_fetched_once(served: Served, tmp_path: Path, algorithm: str) -> None:
    one = artifact(served, algorithm=algorithm)
    told: list[int] = []
    path = web(tmp_path).fetch(one, told.append)
    assert path.read_bytes() == DATA and told[-1] == len(DATA) and told == sorted(told)
    assert web(tmp_path, offline=True).fetch(one, quiet) == path
    assert len(served.asked) == 1 and list(path.parent.iterdir()) == [path]


def test_what_was_cut_off_goes_on_where_it_stopped(served: Served, tmp_path: Path) -> None:
    served.cuts = [1_000_000, 500_000]
    assert web(tmp_path).fetch(artifact(served), quiet).read_bytes() == DATA
    assert served.asked == [("/a.whl", ""), ("/a.whl", "bytes=1000000-"), ("/a.whl", "bytes=1500000-")]


def test_what_a_killed_run_left_is_used(served: Served, tmp_path: Path) -> None:
    one = artifact(served)
    place = web(tmp_path).place(one)
    place.parent.mkdir(parents=True)
    place.with_name(f"{place.name}.partial").write_bytes(DATA[:2_000_000])
    assert web(tmp_path).fetch(one, quiet).read_bytes() == DATA
    assert served.asked == [("/a.whl", "bytes=2000000-")]


@pytest.mark.parametrize("size", [len(DATA), 0])
def test_a_whole_file_without_its_name_is_not_fetched_again(served: Served, tmp_path: Path, size: int) -> None:
    one = Artifact(artifact(served).address, artifact(served).digest, Form.WHEEL, size)
    place = web(tmp_path).place(one)
    place.parent.mkdir(parents=True)
    place.with_name(f"{place.name}.partial").write_bytes(DATA)
    assert web(tmp_path).fetch(one, quiet).read_bytes() == DATA
    assert served.asked == ([] if size else [("/a.whl", f"bytes={len(DATA)}-")])


def test_a_server_without_ranges_sends_it_anew(served: Served, tmp_path: Path) -> None:
    served.ranges = False
    served.cuts = [1_000_000]
    assert web(tmp_path).fetch(artifact(served), quiet).read_bytes() == DATA
    assert [wanted for _, wanted in served.asked] == ["", "bytes=1000000-"]


def test_the_wrong_file_is_thrown_away(served: Served, tmp_path: Path) -> None:
    one = artifact(served)
    served.files["/a.whl"] = DATA[:-1] + bytes([DATA[-1] ^ 1])
    with pytest.raises(Corrupt, match="another file than was announced"):
        web(tmp_path).fetch(one, quiet)
    assert list((tmp_path / "cache" / "files").iterdir()) == []
    served.files["/a.whl"] = DATA
    web(tmp_path).fetch(one, quiet)


@pytest.mark.parametrize("found", [DATA[:-5] + b"wrong", DATA + b"more", b"less"])
def test_a_wrong_beginning_is_thrown_away_too(served: Served, tmp_path: Path, found: bytes) -> None:
    one = artifact(served)
    place = web(tmp_path).place(one)
    place.parent.mkdir(parents=True)
    place.with_name(f"{place.name}.partial").write_bytes(found)
    with pytest.raises(Corrupt):
        web(tmp_path).fetch(one, quiet)
    assert web(tmp_path).fetch(one, quiet).read_bytes() == DATA


def test_a_server_that_never_gets_there_is_given_up(served: Served, tmp_path: Path) -> None:
    served.cuts = [1000] + [0] * 20
    with pytest.raises(Unreachable, match=r"stops sending a\.whl again and again") as caught:
        web(tmp_path).fetch(artifact(served), quiet)
    assert "1000 bytes of it are kept" in caught.value.state and "continue" in caught.value.hint


def test_a_server_that_is_busy_is_asked_again(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portunix_vdisk.steps.install.web._AGAIN", _AGAIN.new(backoff_factor=0.001))
    served.statuses["/a.whl"] = [503, 502]
    assert web(tmp_path).fetch(artifact(served), quiet).read_bytes() == DATA
    served.statuses["/b.whl"] = [503] * 20
    with pytest.raises(Unreachable, match="answers 503"):
        web(tmp_path).fetch(artifact(served, "b.whl"), quiet)


def test_what_is_not_there_says_so(served: Served, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:\d+ answers 404 Not Found: http://.*/b\.whl"):
        web(tmp_path).fetch(artifact(served, "b.whl"), quiet)
    with pytest.raises(Unreachable, match="not in the cache, and --offline"):
        web(tmp_path, offline=True).fetch(artifact(served), quiet)
    nobody = Artifact("http://127.0.0.1:9/x.whl", f"sha256:{'0' * 64}", Form.WHEEL)
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9 cannot be reached: .*refused"):
        web(tmp_path).fetch(nobody, quiet)


def test_an_index_is_kept_until_it_changes(served: Served, tmp_path: Path) -> None:
    served.marked = True
    served.files["/index"] = b"one"
    address = f"{served.address}/index"
    with pytest.raises(Unreachable, match="never asked"):
        web(tmp_path, offline=True).index(address)
    served.statuses["/index"] = [503, 429]
    assert web(tmp_path).index(address) == b"one" and len(served.asked) == 3
    assert web(tmp_path).index(address) == b"one"
    assert web(tmp_path, offline=True).index(address) == b"one"
    served.files["/index"] = b"two"
    assert web(tmp_path).index(address) == b"two"
    kept = next((tmp_path / "cache" / "index").iterdir())
    kept.write_bytes(b"nonsense")
    assert web(tmp_path).index(address) == b"two"


def test_several_are_fetched_at_a_time(served: Served, tmp_path: Path) -> None:
    names = [f"{number}.whl" for number in range(8)]
    for name in names:
        served.files[f"/{name}"] = name.encode() * 100_000
    ones = [artifact(served, name, served.files[f"/{name}"]) for name in names]
    ctx = Context(LinuxPlatform(), Silent())
    assert fetch_all(ones, web(tmp_path), ctx) == sum(one.size for one in ones)
    assert fetch_all([], web(tmp_path), ctx) == 0
    missing = artifact(served, "missing.whl")
    with pytest.raises(Unreachable, match="404"):
        fetch_all([artifact(served), missing], web(tmp_path), ctx)


def test_two_disks_may_want_the_same_at_the_same_time(served: Served, tmp_path: Path) -> None:
    one = artifact(served)
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = int(web(tmp_path).fetch(one, quiet).read_bytes() != DATA)
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    assert len(served.asked) == 1
    assert [path.name for path in (tmp_path / "cache/files").iterdir()] == [web(tmp_path).place(one).name]


def test_a_person_can_stop_it(served: Served, tmp_path: Path) -> None:
    person = Silent(patience=3, kill=False)
    ctx = Context(LinuxPlatform(), person)
    with pytest.raises(Interrupted):
        fetch_all([artifact(served)], Web(tmp_path / "cache", ctx.safe_point), ctx)
    assert web(tmp_path).fetch(artifact(served), quiet).read_bytes() == DATA


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "proxy:3128", "http://me:secret@127.0.0.1:9", "http://["])
def test_a_proxy_that_is_none_is_named_without_its_password(tmp_path: Path, proxy: str) -> None:
    by_proxy = Web(tmp_path, quiet_stop, proxy_of=lambda address: proxy)
    with pytest.raises(Unreachable, match="cannot be reached by the proxy") as caught:
        by_proxy.index("http://127.0.0.1:9/index")
    assert "secret" not in str(caught.value)


def quiet_stop() -> None:
    """Nobody wants to stop."""
