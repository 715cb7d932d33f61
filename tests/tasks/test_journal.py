import json
import shutil
import tempfile
from pathlib import Path

import pytest
from doit.dependency import Dependency, JSONCodec, JsonDB
from doit.task import Task
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from portunix_vdisk.tasks.journal import Journal
from portunix_vdisk.tests.support.journals import journal, succeed


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "vdisk" / "journal.db"


def test_a_success_is_there_for_others_at_once(path):
    one, other = journal(path), journal(path)
    assert other.get("export:my-dev:scan", "_values_:") is None
    succeed(one, "export:my-dev:scan", {"root": "ab", "n": 1.5})
    assert other.get("export:my-dev:scan", "_values_:") == {"root": "ab", "n": 1.5}
    assert other.get("export:my-dev:scan", "deps:") == []
    assert other.in_("export:my-dev:scan")
    succeed(other, "export:my-dev:scan", {"root": "cd"})
    assert one.get("export:my-dev:scan", "_values_:") == {"root": "cd"}, "what was written here hides nothing either"
    other.remove("export:my-dev:scan")
    assert not one.in_("export:my-dev:scan")
    one.dump()
    other.dump()


def test_a_record_without_its_end_is_seen_only_here_and_never_kept(path):
    one = journal(path)
    succeed(one, "a", {"old": 1})
    one.set("a", "_values_:", {"new": 2})
    one.set("b", "_values_:", {"new": 2})
    assert one.get("a", "_values_:") == {"new": 2}
    assert one.get("a", "deps:") == []
    assert one.in_("b")
    other = journal(path)
    assert other.get("a", "_values_:") == {"old": 1}
    assert not other.in_("b")
    one.dump()
    again = journal(path)
    assert again.get("a", "_values_:") == {"old": 1}
    assert not again.in_("b")


def test_ignore_is_a_record_of_its_own(path):
    one = journal(path)
    one.set("a", "ignore:", "1")
    assert journal(path).get("a", "ignore:") == "1"


def test_failed_task_loses_only_itself(path):
    one = journal(path)
    succeed(one, "a")
    succeed(one, "b")
    one.set("b", "_values_:", {"half": 1})
    one.remove("b")
    other = journal(path)
    assert other.in_("a")
    assert not other.in_("b")
    one.remove("never-there")


def test_remove_all(path):
    one, other = journal(path), journal(path)
    succeed(one, "a")
    one.set("b", "_values_:", {})
    one.remove_all()
    assert not other.in_("a")
    assert not one.in_("b")
    one.remove_all()
    succeed(one, "c")
    assert other.in_("c")


STRANGE = ["caf\udce9", "\udcff\n", "nul\0", "開発", "", "x" * 10_000, "\ud800", "'; DROP TABLE facts"]


@pytest.mark.parametrize("text", STRANGE)
def test_any_text_is_kept_as_it_is(path, text):
    one = journal(path)
    one.set(text, text, {text: [text]})
    one.set(text, "deps:", (text,))
    one.dump()
    other = journal(path)
    assert other.in_(text)
    assert other.get(text, text) == {text: [text]}
    assert other.get(text, "deps:") == [text]


def test_a_codec_that_writes_what_it_likes(path):
    class Plain:
        def encode(self, data):
            return data

        def decode(self, data):
            return data

    one = Journal(str(path), Plain())
    one.set("a", "x", "caf\udce9 開発")
    one.set("a", "deps:", "end")
    assert Journal(str(path), Plain()).get("a", "x") == "caf\udce9 開発"


def test_a_value_that_cannot_be_written_changes_nothing(path):
    one = journal(path)
    succeed(one, "a", {"old": 1})
    one.set("a", "_values_:", {"bad": object()})
    with pytest.raises(TypeError):
        one.set("a", "deps:", ())
    assert journal(path).get("a", "_values_:") == {"old": 1}
    one.remove("a")
    assert not one.in_("a")


def test_with_doits_own_dependency_manager(path, tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("1")
    task = Task("t", None, file_dep=[str(source)])
    task.values = {"x": 1}
    task.result = "done"
    first = Dependency(Journal, str(path))
    assert first.get_status(task, {}).status == "run"
    first.save_success(task)
    second = Dependency(Journal, str(path))  # the first one was never closed
    assert second.get_status(task, {}).status == "up-to-date"
    assert second.get_values("t") == {"x": 1}
    assert second.get_result("t") == first.get_result("t")
    source.write_text("22")
    assert second.get_status(task, {}).status == "run"
    second.ignore(task)
    assert first.status_is_ignore(task)
    second.remove_success(task)
    assert first.get_values("t") == {}
    for manager in (first, second):
        manager.close()
        manager.close()


# a model -------------------------------------------------------------------------------------------------

TASKS = st.sampled_from(["a", "b:1", "caf\udce9"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = ["_values_:", "result:", "checker:", "deps:", "ignore:", "/some/file"]


@given(JSON)
@settings(deadline=None, max_examples=50, derandomize=True)
def test_values_are_what_json_makes_of_them(value):
    with tempfile.TemporaryDirectory() as folder:
        one, other = (journal(Path(folder) / "j.db") for _ in range(2))
        one.set("t", "deps:", value)
        assert other.get("t", "deps:") == json.loads(json.dumps(value))
        one.dump()
        other.dump()


class JournalModel(RuleBasedStateMachine):
    """Doit's JSON backend is the model; the journal must agree with it, and survive kills that the model does not."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="journal-model-"))
        self.path = self.folder / "journal.db"
        self.journal = journal(self.path)
        self.others = []
        self.model = JsonDB(str(self.folder / "never"), JSONCodec())

    def teardown(self):
        for opened in (self.journal, *self.others):
            opened.dump()
        shutil.rmtree(self.folder)

    @rule(task=TASKS, values=st.dictionaries(st.text(max_size=3), JSON, max_size=2), dep=st.booleans())
    def success(self, task, values, dep):
        for db in (self.journal, self.model):
            db.set(task, "_values_:", values)
            db.set(task, "checker:", "MD5Checker")
            if dep:
                db.set(task, "/some/file", (1.5, 2, "md5"))
            db.set(task, "deps:", ("/some/file",) if dep else ())

    @rule(task=TASKS)
    def ignore(self, task):
        self.journal.set(task, "ignore:", "1")
        self.model.set(task, "ignore:", "1")

    @rule(task=TASKS)
    def fail(self, task):
        self.journal.remove(task)
        self.model.remove(task)

    @rule(task=TASKS, kill=st.booleans())
    def fail_while_saving(self, task, kill):
        self.journal.set(task, "_values_:", {"half": 1})
        if kill:
            self.killed()
        else:
            self.journal.remove(task)
            self.model.remove(task)

    @rule()
    def forget_all(self):
        self.journal.remove_all()
        self.model.remove_all()

    @rule()
    def killed(self):
        self.others.append(self.journal)  # neither dumped nor collected
        self.journal = journal(self.path)

    @rule()
    def closed(self):
        self.journal.dump()
        self.journal = journal(self.path)

    @invariant()
    def agree(self):
        for task in ("a", "b:1", "caf\udce9"):
            assert self.journal.in_(task) == self.model.in_(task)
            for key in KEYS:
                expected = json.loads(json.dumps(self.model.get(task, key)))
                assert self.journal.get(task, key) == expected
                for other in self.others:
                    if task not in other._pending:
                        assert other.get(task, key) == expected


TestJournalModel = JournalModel.TestCase
TestJournalModel.settings = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
