"""A password on its way through real processes: it arrives, and it is nowhere else."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from portunix_vdisk.plugin.core import Connection
from portunix_vdisk.plugin.rpc import vdisk_pb2 as rpc
from portunix_vdisk.tests.plugin import locked
from portunix_vdisk.tests.plugin.harness import Portunix, processes_of, wait_for
from portunix_vdisk.tests.plugin.test_terminal import Person

SECRET = "fJ7kQz93-zebra"  # long and odd enough to be found nowhere by chance


@pytest.fixture
def place(portunix: Portunix, tmp_path: Path) -> Path:
    """The caller's folder, in which ``go`` makes the operation end."""
    portunix.script = locked.ME
    portunix.environment["TERM"] = "xterm"
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def held(place: Path) -> dict[str, Any]:
    wait_for((place / "held").exists, 20)
    facts: dict[str, Any] = json.loads((place / "held").read_text())
    return facts


def digests(*passwords: bytes) -> list[str]:
    return [hashlib.sha256(one).hexdigest() for one in passwords]


def forms(secret: bytes) -> list[bytes]:
    """The secret as it is, and as a careless program would show it."""
    return [secret, secret.hex().encode(), repr(list(secret))[1:-1].encode()]


def processes_that_show(root: Path, *secrets: bytes) -> list[str]:
    """Which of our processes have a secret on their command line or in their environment."""
    found = []
    for pid in processes_of(root):
        for name in ("cmdline", "environ"):
            try:
                content = Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:
                continue
            found += [f"{pid}/{name}" for secret in secrets for form in forms(secret) if form in content]
    return found


def files_that_hold(folder: Path, *secrets: bytes) -> list[Path]:
    """Files, databases and their logs included, in which a secret is."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files for secret in secrets for form in forms(secret) if form in path.read_bytes()]


@pytest.fixture
def source(request: pytest.FixtureRequest, place: Path) -> Iterator[tuple[list[str], Mapping[str, Any]]]:
    """Arguments, and options of starting the process, that give the password in one of the ways."""
    file = place.parent / "password"
    file.write_bytes(SECRET.encode() + b"\nmore\n")
    if request.param == "file":
        yield ["--password-file", os.path.relpath(file, place)], {}
    elif request.param == "fd":
        with file.open("rb") as opened:
            yield ["--password-fd", str(opened.fileno())], {"pass_fds": [opened.fileno()]}
    else:
        with file.open("rb") as opened:
            yield ["--password-fd", "0"], {"stdin": opened}


@pytest.mark.parametrize(
    ("source", "word", "code"),
    [("file", "ask", 0), ("fd", "ask", 0), ("stdin", "ask", 0), ("file", "crash", 1), ("fd", "wrong", 5)],
    indirect=["source"],
)
def test_a_password_is_seen_nowhere(
    portunix: Portunix, place: Path, source: tuple[list[str], Mapping[str, Any]], word: str, code: int
) -> None:
    arguments, options = source
    client = portunix.start("vdisk", "import", word, *arguments, "--json", "--debug", cwd=place, **options)
    facts = held(place)
    assert facts["digests"] == digests(SECRET.encode())
    assert (facts["dumpable"], facts["core"]) in ((0, [0, 0]), (0, [1, 1]))
    root = portunix.home.root
    for pid in (client.pid, portunix.server_pid(), facts["pid"]):
        (limit,) = (line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core file" in line)
        assert limit.split()[4:6] in (["0", "0"], ["1", "1"]), pid
    assert len(processes_of(root)) >= 3, "client, plugin, worker"
    assert processes_that_show(root, str(root).encode()), "looking works"
    assert processes_that_show(root, SECRET.encode()) == []
    assert files_that_hold(root, SECRET.encode()) == []
    (place / "go").touch()
    out, err = client.communicate(timeout=30)
    assert client.returncode == code, err
    assert SECRET.encode() not in out + err
    assert code == 0 or b"Traceback" in err
    assert files_that_hold(root, b"import"), "looking works"
    assert code != 0 or (root / "vdisk" / "journal.db").exists()
    assert files_that_hold(root, SECRET.encode()) == []
    assert processes_that_show(root, SECRET.encode()) == []


def answers(connection: Connection, request: rpc.Request, text: str) -> list[rpc.ServerMessage]:
    """Everything that the plugin says, while every question is answered with ``text``."""
    outbox: queue.SimpleQueue[rpc.ClientMessage | None] = queue.SimpleQueue()
    outbox.put(rpc.ClientMessage(request=request))
    messages = []
    for message in connection.stub.Operate(iter(outbox.get, None), timeout=30):
        messages.append(message)
        if message.HasField("question"):
            outbox.put(rpc.ClientMessage(answer=rpc.Answer(question_id=message.question.id, text=text)))
    outbox.put(None)
    return messages


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("word", ["new", "crash"])
def test_no_event_has_the_password(portunix: Portunix, place: Path, word: str, given: bool) -> None:
    assert portunix.run("vdisk", "list").returncode == 0
    (place / "go").touch()
    request = rpc.Request(
        operation="import",
        options={"archive": word.encode()},
        folder=os.fsencode(place),
        interactive=True,
        debug=True,
        secrets={"password": SECRET.encode()} if given else {},
    )
    with Connection(portunix.socket) as connection:
        messages = answers(connection, request, SECRET)
    assert held(place)["digests"] == digests(SECRET.encode())
    questions = [one.question for one in messages if one.HasField("question")]
    assert len(questions) == (0 if given else 2 if word == "new" else 1)
    assert all(one.kind == rpc.QUESTION_KIND_SECRET and "--password-file" in one.option for one in questions)
    assert {"log", "progress", "result", "task_started"} <= {one.WhichOneof("kind") for one in messages}
    stream = b"".join(one.SerializeToString() for one in messages)
    assert locked.SUBJECT.encode() in stream or given
    assert not any(form in stream for form in forms(SECRET.encode()))
    assert files_that_hold(portunix.home.root, SECRET.encode()) == []


def test_a_typed_password_is_not_echoed(portunix: Portunix, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    person = Person(portunix, "vdisk", "import", "new", "--password", "--debug")
    person.sees(f"new password for {locked.SUBJECT}: ")
    person.types("something else\n")
    person.sees(f"new password for {locked.SUBJECT}, again: ")
    person.types(SECRET + "\n")
    person.sees("the two passwords are not the same")
    person.sees(f"new password for {locked.SUBJECT}: ")
    for _ in range(2):
        asked = person.seen.count("password for")
        person.types(SECRET + "\n")
        wait_for(lambda before=asked: person.seen.count("password for") > before or (place / "held").exists())
    assert held(place)["digests"] == digests(SECRET.encode())
    assert processes_that_show(portunix.home.root, SECRET.encode()) == []
    (place / "go").touch()
    assert person.leaves() == 0
    assert SECRET not in person.seen and "something else" not in person.seen
    assert files_that_hold(portunix.home.root, SECRET.encode()) == []


def test_each_password_is_asked_for_by_what_it_opens(
    portunix: Portunix, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    (place / "go").touch()
    person = Person(portunix, "vdisk", "import", "both")
    person.sees(f"password for {locked.SUBJECT}: ")
    person.types("archive's\n")
    person.sees("password for the disk my-dev: ")
    person.types("disk's\n")
    assert person.leaves() == 0
    assert held(place)["digests"] == digests(b"archive's", b"disk's")


def test_ctrl_c_at_the_prompt(portunix: Portunix, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    person = Person(portunix, "vdisk", "import", "ask")
    person.sees(f"password for {locked.SUBJECT}: ")
    person.types("\x03")
    assert person.leaves() == 130
    assert not (place / "held").exists()


@pytest.mark.parametrize("more", [(), ("--quiet",), ("--yes",), ("--password",)])
def test_nobody_can_be_asked(portunix: Portunix, place: Path, more: tuple[str, ...]) -> None:
    done = portunix.run("vdisk", "import", "ask", *more, cwd=place)
    assert done.returncode == 4
    assert "--password-file" in done.stderr and locked.SUBJECT in done.stderr
    assert not (place / "held").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--password-file", "missing"], 3, "no password file"),
        (["--password-file", "."], 4, "cannot be read"),
        (["--password-fd", "77"], 4, "descriptor 77"),
        (["--password-fd", "x"], 2, "number of an open file descriptor"),
        (["--password-file", "/dev/null"], 2, "empty"),
        (["--password-file", "/dev/null", "--password-fd", "0"], 2, "only one"),
        (["--password", "--password-fd", "0"], 2, "only one"),
        (["--password=hunter2"], 2, "takes no value"),
        (["--password", "hunter2"], 2, "takes no value"),
    ],
)
def test_refusals(portunix: Portunix, place: Path, arguments: list[str], code: int, words: str) -> None:
    done = portunix.run("vdisk", "import", "ask", *arguments, cwd=place)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_password_that_was_not_needed_is_mentioned(portunix: Portunix, place: Path) -> None:
    (place / "go").touch()
    (place / "file").write_text(SECRET)
    done = portunix.run("vdisk", "import", "unused", "--password-file", "file", cwd=place)
    assert done.returncode == 0
    assert "nothing was encrypted or decrypted" in done.stderr
    done = portunix.run("vdisk", "import", "twice", "--password-file", "file", cwd=place)
    assert "nothing was encrypted or decrypted" not in done.stderr


@pytest.mark.parametrize(("name", "secret"), [("secret", b"x"), ("password", b""), ("password", b"x" * 4097)])
def test_strange_secrets_in_a_request(portunix: Portunix, place: Path, name: str, secret: bytes) -> None:
    assert portunix.run("vdisk", "list").returncode == 0
    request = rpc.Request(operation="import", options={"archive": b"ask"}, folder=b"/", secrets={name: secret})
    with Connection(portunix.socket) as connection:
        (message,) = answers(connection, request, "")
    assert message.result.exit_code == 2


def doit(portunix: Portunix, place: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, locked.ME, "doit", *arguments],
        cwd=place,
        env=portunix.environment,
        text=True,
        start_new_session=True,
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options},
    )


@pytest.mark.parametrize("source", ["file", "fd", "stdin"], indirect=True)
def test_plain_doit_takes_it_from_variables(
    portunix: Portunix, place: Path, source: tuple[list[str], Mapping[str, Any]]
) -> None:
    (option, text), options = source
    variable = f"{option.removeprefix('--')}={text}"
    process = doit(portunix, place, "import:one", "import:two", "archive=ask", variable, **options)
    facts = held(place)
    assert facts["digests"] == digests(SECRET.encode())
    assert (facts["dumpable"], facts["core"]) in ((0, [0, 0]), (0, [1, 1]))
    assert processes_that_show(portunix.home.root, SECRET.encode()) == []
    (place / "go").touch()
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, out
    assert SECRET not in out and "nothing was encrypted" not in out
    assert (portunix.home.root / "vdisk" / "journal.db").exists()
    assert files_that_hold(portunix.home.root, SECRET.encode()) == []


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("password-file=missing", "no password file"),
        ("password=hunter2", "takes no value"),
        ("x=y", "--password-file"),
    ],
)
def test_plain_doit_refuses_in_a_sentence(portunix: Portunix, place: Path, variable: str, words: str) -> None:
    process = doit(portunix, place, "import:one", "archive=ask", variable)
    out, _ = process.communicate(timeout=30)
    assert process.returncode in (1, 2)
    assert words in out and "Traceback" not in out
    assert "hunter2" not in out


def test_plain_doit_mentions_a_password_that_was_not_needed(portunix: Portunix, place: Path) -> None:
    (place / "go").touch()
    (place / "file").write_text(SECRET)
    out, _ = doit(portunix, place, "import:one", "archive=unused", "password-file=file").communicate(timeout=30)
    assert "nothing was encrypted or decrypted" in out
