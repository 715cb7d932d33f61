"""Where passwords come from, and what is refused."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portunix_vdisk.platform.errors import BadUsage, ExitCode, NotFound, Refused, VdiskError
from portunix_vdisk.platform.home import Home
from portunix_vdisk.steps.step import Question, QuestionKind
from portunix_vdisk.tasks import engine, passwords
from portunix_vdisk.tasks.listening import Silent
from portunix_vdisk.tasks.operations import OPERATIONS
from portunix_vdisk.tasks.parameters import NEW_PASSWORD, PASSWORD, Operation
from portunix_vdisk.tasks.passwords import is_weak, take_secrets
from portunix_vdisk.tasks.session import Session

REKEY = Operation("rekey", "change the password", (*PASSWORD, *NEW_PASSWORD), ("portunix vdisk archive rekey",))
SUBJECT = "the archive client.zip"


@pytest.fixture(autouse=True)
def _dumpable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that runs the tests stays as it is; what really happens is tested in a process of its own."""
    monkeypatch.setattr(passwords, "keep_memory_private", lambda: None)
    monkeypatch.setattr("portunix_vdisk.tasks.session.keep_memory_private", lambda: None)


@contextmanager
def pipe(content: bytes) -> Iterator[int]:
    source, target = os.pipe()
    os.write(target, content)
    os.close(target)
    try:
        yield source
    finally:
        os.close(source)


LINES = [
    (b"secret", b"secret"),
    (b"secret\n", b"secret"),
    (b"secret\nmore\n", b"secret"),
    (b"  two words \t\n", b"  two words \t"),
    (b"carriage\r\n", b"carriage\r"),
    (b"\xff\x00\xfe\n", b"\xff\x00\xfe"),
    (b"x" * 4096 + b"\n", b"x" * 4096),
]


@pytest.mark.parametrize(("content", "password"), LINES, ids=lambda value: repr(value[:16]))
def test_the_first_line_counts_as_it_is(tmp_path: Path, content: bytes, password: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert take_secrets(REKEY, {"password-file": "file", "x": "y"}, tmp_path) == ({"x": "y"}, {"password": password})
    with pipe(content) as descriptor:
        given = {"password-fd": str(descriptor)}
        assert take_secrets(REKEY, given, tmp_path) == ({}, {"password": password})


def test_two_passwords_may_be_two_lines_of_one_descriptor(tmp_path: Path) -> None:
    with pipe(b"new\nold\nrest") as descriptor:
        both = {"password-fd": str(descriptor), "new-password-fd": str(descriptor)}
        _, found = take_secrets(REKEY, both, tmp_path)
        assert os.read(descriptor, 10) == b"rest"
    assert found == {"new-password": b"new", "password": b"old"}


def test_any_path_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    name = os.fsdecode(b"f\xff")
    (tmp_path / name).write_bytes(b"secret\n")
    for path in (name, f"~/{name}", str(tmp_path / name)):
        assert take_secrets(REKEY, {"password-file": path}, tmp_path)[1] == {"password": b"secret"}
    with pipe(b"secret\n") as descriptor:
        assert take_secrets(REKEY, {"password-file": f"/dev/fd/{descriptor}"}, tmp_path)[1] == {"password": b"secret"}


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"\n", "empty"), (b"\nsecret\n", "empty"), (b"S" * 4097, "longer"), (b"S" * 9999999, "longer")],
    ids=["nothing", "newline", "second line", "long", "very long"],
)
def test_no_password_in_a_file(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(BadUsage) as caught:
        take_secrets(REKEY, {"password-file": "file"}, tmp_path)
    assert words in caught.value.what and "SSS" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"password-file": "missing"}, NotFound),
        ({"password-file": "."}, Refused),
        ({"password-file": "a\0b"}, Refused),
        ({"password-file": "loop"}, Refused),
        ({"password-fd": "x"}, BadUsage),
        ({"password-fd": "-1"}, BadUsage),
        ({"password-fd": ""}, BadUsage),
        ({"password-fd": "٣"}, BadUsage),
        ({"password-fd": "99999999999999999999"}, BadUsage),
        ({"password": "hunter2"}, BadUsage),
        ({"new-password": "hunter2"}, BadUsage),
        ({"password": "true", "password-file": "good"}, BadUsage),
        ({"password": "true", "password-fd": "0"}, BadUsage),
        ({"password-file": "good", "password-fd": "0"}, BadUsage),
    ],
    ids=str,
)
def test_sources_that_cannot_be(tmp_path: Path, options: dict[str, str], kind: type[VdiskError]) -> None:
    (tmp_path / "good").write_bytes(b"secret\n")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(kind) as caught:
        take_secrets(REKEY, options, tmp_path)
    assert "hunter2" not in str(caught.value)


def test_a_descriptor_that_is_not_open(tmp_path: Path) -> None:
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    with pytest.raises(Refused):
        take_secrets(REKEY, {"password-fd": str(free)}, tmp_path)


def test_a_terminal_is_not_read_as_a_file(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    try:
        for options in ({"password-fd": str(slave)}, {"password-file": os.ttyname(slave)}):
            with pytest.raises(BadUsage) as caught:
                take_secrets(REKEY, options, tmp_path)
            assert "terminal" in caught.value.what
    finally:
        os.close(master)
        os.close(slave)


def test_operations_without_passwords_read_nothing(tmp_path: Path) -> None:
    known = next(one for one in OPERATIONS if one.name == "list")
    assert take_secrets(known, {"password-file": "missing"}, tmp_path) == ({"password-file": "missing"}, {})


class Person(Silent):
    """Types what the test says, and sees what it is told."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.questions: list[Question] = []
        self.lines: list[str] = []

    def ask(self, question: Question) -> str:
        self.questions.append(question)
        return self.answers.pop(0)

    def log(self, level: str, text: str) -> None:
        self.lines.append(text)


def session(tmp_path: Path, person: Person, **secrets: bytes) -> Session:
    made = Session(Home(tmp_path), person, tmp_path)
    made.give_secrets({name.replace("_", "-"): secret for name, secret in secrets.items()})
    return made


def test_a_given_password_is_not_asked_for(tmp_path: Path) -> None:
    person = Person()
    with session(tmp_path, person, password=b"secret", new_password=b"another") as made:
        assert made.password(SUBJECT) == b"secret"
        assert made.password(SUBJECT, new=True, name="new-password") == b"another"


def test_a_password_is_asked_for_once(tmp_path: Path) -> None:
    person = Person("pässword", "other")
    with session(tmp_path, person) as made:
        made.assume_yes = True
        assert made.password(SUBJECT) == made.password(SUBJECT) == "pässword".encode()
        assert made.password("the disk my-dev") == b"other"
    first, second = person.questions
    assert first.kind is QuestionKind.SECRET and not first.default
    assert (first.text, second.text) == (f"password for {SUBJECT}", "password for the disk my-dev")
    assert "--password-file" in first.option and "--password-fd" in first.option


def test_a_new_password_is_asked_for_twice(tmp_path: Path) -> None:
    strong = "correct horse battery staple"
    person = Person(strong, strong)
    with session(tmp_path, person) as made:
        assert made.password(SUBJECT, new=True) == strong.encode()
    assert [one.text for one in person.questions] == [
        f"new password for {SUBJECT}",
        f"new password for {SUBJECT}, again",
    ]
    assert person.lines == []


def test_a_typing_mistake_costs_a_try(tmp_path: Path) -> None:
    person = Person("one", "two", "", "three", "three")
    with session(tmp_path, person) as made:
        assert made.password(SUBJECT, new=True) == b"three"
    assert person.lines[:2] == ["the two passwords are not the same", "the password is empty"]
    person = Person("one", "two", "", "three", "four", "five", "five")
    with session(tmp_path, person) as made, pytest.raises(BadUsage):
        made.password(SUBJECT, new=True)
    assert len(person.questions) == 5
    with session(tmp_path, Person("", "", "", "late")) as made, pytest.raises(BadUsage):
        made.password(SUBJECT)


def test_nobody_can_be_asked(tmp_path: Path) -> None:
    with Session(Home(tmp_path), Silent(), tmp_path) as made, pytest.raises(Refused) as caught:
        made.password(SUBJECT)
    assert caught.value.code is ExitCode.REFUSED
    assert "--password-file" in caught.value.hint and SUBJECT in caught.value.what


@pytest.mark.parametrize("bad", [b"", b"x" * 4097])
def test_passwords_that_cannot_be(tmp_path: Path, bad: bytes) -> None:
    with session(tmp_path, Person(), password=bad) as made, pytest.raises(BadUsage):
        made.password(SUBJECT)


def test_what_deserves_a_remark(tmp_path: Path) -> None:
    person = Person()
    with session(tmp_path, person, password=b"password1\r") as made:
        made.password(SUBJECT, new=True)
        made.password(SUBJECT, new=True)
    weak, carriage = person.lines
    assert "easy to guess" in weak and "carriage return" in carriage
    assert not any("password1" in line for line in person.lines)


def test_a_weak_old_password_is_not_scolded(tmp_path: Path) -> None:
    person = Person()
    with session(tmp_path, person, password=b"1234") as made:
        made.password(SUBJECT)
    assert person.lines == []


def test_a_closed_session_forgets(tmp_path: Path) -> None:
    person = Person("typed")
    made = session(tmp_path, person, new_password=b"given")
    made.password(SUBJECT)
    made.close()
    assert not made._secrets and not made._passwords


@pytest.mark.parametrize(
    ("password", "weak"),
    [
        ("1", True),
        ("password1", True),
        ("hunter2", True),
        ("a" * 4000, True),
        ("12345678901234567", True),
        ("Tr0ub4dor&3", False),
        ("correct horse battery staple", False),
        ("kX9#mQ2$vL7!", False),
        ("d41d8cd98f00b204e980", False),
        ("äöüß漢字", True),
        ("\udcff\udcfe", True),
    ],
)
def test_strength(password: str, weak: bool) -> None:
    assert is_weak(password.encode("utf-8", "surrogateescape")) is weak


def test_a_request_does_not_show_its_secrets(tmp_path: Path) -> None:
    request = engine.Request("import", {"archive": "x"}, tmp_path, secrets={"password": b"hunter2"})
    assert "hunter2" not in repr(request) and "hunter2" not in f"{request}"


def test_the_engine_takes_no_files_and_no_strange_secrets(tmp_path: Path) -> None:
    for options, secrets in (
        ({"archive": "x", "password-file": "y"}, {}),
        ({"archive": "x", "password-fd": "0"}, {}),
        ({"archive": "x"}, {"new-password": b"y"}),
        ({"archive": "x"}, {"password": b""}),
    ):
        with pytest.raises(BadUsage):
            engine.run(engine.Request("import", options, tmp_path, secrets=secrets), Home(tmp_path / "home"), Silent())


@pytest.mark.parametrize(
    "code",
    [
        "take_secrets(known, {'password-file': sys.argv[1]}, Path('/'))",
        "check_secrets(known, {'password': b'x'})",
        "ask_password(lambda question: 'x', print, 'x', 'password', new=False)",
        "Session(Home(Path('/nonexistent')), None, Path('/')).give_secrets({'password': b'x'})",
    ],
)
def test_who_holds_a_secret_leaves_no_core_dump(tmp_path: Path, code: str) -> None:
    (tmp_path / "file").write_bytes(b"secret\n")
    head = (
        "import ctypes, resource, sys\nfrom pathlib import Path\n"
        "from portunix_vdisk.platform.home import Home\n"
        "from portunix_vdisk.tasks.operations import operation\n"
        "from portunix_vdisk.tasks.passwords import *\nfrom portunix_vdisk.tasks.session import Session\n"
        "known = operation('import')\ndumpable = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"
        "assert dumpable() == 1\n"
    )
    tail = "\nprint(dumpable(), *resource.getrlimit(resource.RLIMIT_CORE))"
    done = subprocess.run(
        [sys.executable, "-c", head + code + tail, tmp_path / "file"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() in (["0", "0", "0"], ["0", "1", "1"])
