"""The planner alone, on trees that exist in memory only: same input, same plan, and nothing is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from portunix_vdisk.steps.sync.plan import Op, Options, Plan, Record, signature
from portunix_vdisk.steps.sync.planner import make_plan
from portunix_vdisk.steps.sync.scan import FILE, FOLDER, SYMLINK, Entry, Listing

DEVICE = 7
TOP = Entry(FOLDER | 0o755, 0, 5, 0, 0, DEVICE, 1, 2, "")


def file(size: int, mtime_ns: int = 5, *, inode: int = 10, links: int = 1, mode: int = 0o644) -> Entry:
    return Entry(FILE | mode, size, mtime_ns, 0, 0, DEVICE, inode, links, "")


def folder(device: int = DEVICE) -> Entry:
    return TOP._replace(device=device)


def record(size: int, mtime_ns: int = 5, *, kind: int = FILE, confirmed: bool = True) -> Record:
    return Record(kind, size, mtime_ns, "", confirmed)


@dataclass
class Trees:
    """Both trees as nested mappings; ``equal`` are the paths with equal content."""

    here: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict)
    there: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict)
    known: Mapping[str, Mapping[str, Sequence[Record]]] = field(default_factory=dict)
    equal: tuple[str, ...] = ()

    def source(self, path: str) -> Listing:
        return Listing(self.here.get(path, {}))

    def target(self, path: str) -> Listing:
        return Listing(self.there.get(path, {}))

    def records(self, path: str) -> Mapping[str, Sequence[Record]]:
        return self.known.get(path, {})

    def same_content(self, path: str) -> bool:
        return path in self.equal


def plan(trees: Trees, *, delete: bool = False, force: bool = False, uid: int = 0) -> Plan:
    return make_plan(trees, TOP, TOP, Options(delete, force, DEVICE, uid, uid))


def actions(made: Plan) -> list[tuple[str, Op, str]]:
    return [(work.path, action.op, action.name) for work in made.works for action in work]


CASES = {
    "new": (file(1), None, [], [Op.COPY], False),
    "same, known": (file(1), file(1), [record(1)], [], False),
    "same, unknown": (file(1), file(1), [], [Op.ADOPT], False),
    "same, known from a killed run only": (file(1), file(1), [record(1, confirmed=False)], [Op.ADOPT], False),
    "mode": (file(1, mode=0o600), file(1), [record(1)], [Op.METADATA], False),
    "source changed": (file(2), file(1), [record(1)], [Op.COPY], False),
    "source changed, target as a killed run meant it": (
        file(3),
        file(2),
        [record(1), record(2, confirmed=False)],
        [Op.COPY],
        False,
    ),
    "target changed": (file(1), file(2), [record(1)], [], True),
    "target changed in time only": (file(2), file(1, 6), [record(1)], [], True),
    "unknown and different": (file(1), file(2), [], [], True),
    "a record of another kind": (file(2), file(1), [record(1, kind=SYMLINK)], [], True),
    "gone on both sides": (None, None, [record(1)], [Op.FORGET], False),
    "gone from the source": (None, file(1), [record(1)], [], False),
}


@pytest.mark.parametrize("name", CASES)
def test_one_file(name: str) -> None:
    here, there, known, expected, conflict = CASES[name]
    trees = Trees(
        {"": {"f": here} if here else {}}, {"": {"f": there} if there else {}}, {"": {"f": known}} if known else {}
    )
    made = plan(trees)
    assert [op for _, op, _ in actions(made)] == expected
    assert bool(made.conflicts.count) is conflict
    forced = plan(trees, force=True)
    assert [op for _, op, _ in actions(forced)] == ([Op.COPY] if conflict else expected)
    assert forced.empty is (expected in ([], [Op.FORGET]) and not conflict)


def test_what_replaces_says_what_it_expects() -> None:
    there = file(1, inode=99)
    made = plan(Trees({"": {"f": file(2)}}, {"": {"f": there}}, {"": {"f": [record(1)]}}))
    (action,) = made.works[0]
    assert action.expected == signature(there) and (action.size, action.mtime_ns) == (2, 5)


def test_equal_content_is_adopted_with_the_sources_time() -> None:
    trees = Trees({"": {"f": file(4, 5)}}, {"": {"f": file(4, 9)}}, equal=("f",))
    assert actions(plan(trees)) == [("", Op.METADATA, "f")]
    trees.equal = ()
    assert plan(trees).conflicts.lines == ["f: never synced, and differs"]


def test_deleting_a_folder_takes_what_is_below_first_and_spares_other_filesystems() -> None:
    there = {
        "": {"d": folder()},
        "d": {"f": file(1), "e": folder(), "m": folder()},
        "d/m": {"x": folder(device=8)},
    }
    known = {
        "": {"d": [record(0, kind=FOLDER)]},
        "d": {"f": [record(1)], "e": [record(0, kind=FOLDER)], "m": [record(0, kind=FOLDER)]},
    }
    made = plan(Trees({}, there, known), delete=True)
    assert made.conflicts.count == 0
    assert actions(made) == [("d", Op.DELETE, "e"), ("d", Op.DELETE, "f")]
    assert made.deletions == 2 and made.skipped.lines == ["d/m/x: not deleted: another filesystem is mounted there"]
    del there["d"]["m"]
    made = plan(Trees({}, there, known), delete=True)
    order = [join for work in reversed(made.works) for join in [f"{work.path}/{a.name}" for a in work]]
    assert order == ["d/e", "d/f", "/d"]


def test_a_folder_that_holds_another_filesystem_never_gives_way_to_a_file() -> None:
    there = {"": {"d": folder()}, "d": {"x": folder(device=8)}}
    made = plan(Trees({"": {"d": file(1)}}, there, {"": {"d": [record(0, kind=FOLDER)]}}), force=True)
    assert made.blocked.count == 1


def test_hard_links_stay_with_the_file_that_is_right() -> None:
    here = {"": {name: file(1, inode=50, links=3) for name in "abc"}}
    there = {"": {"a": file(1, inode=1), "b": file(1, inode=2, links=2), "c": file(1, inode=2, links=2)}}
    known = {"": {name: [record(1)] for name in "abc"}}
    made = plan(Trees(here, there, known))
    assert actions(made) == [] and [(link.name, link.leader) for link in made.links] == [("a", "b")]


def test_names_of_one_file_that_were_judged_differently_stay_together() -> None:
    """One name is known to be ours, the other was linked to it by somebody and has the content of the source."""
    here = {"": {name: file(1, 6, inode=50, links=2) for name in "ab"}}
    there = {"": {name: file(1, 5, inode=3, links=2) for name in "ab"}}
    made = plan(Trees(here, there, {"": {"a": [record(1, 5)]}}, equal=("b",)))
    assert actions(made) == [("", Op.METADATA, "a"), ("", Op.METADATA, "b")] and made.links == []


def test_set_user_id_is_not_handed_to_an_ordinary_user() -> None:
    here, there = file(1, mode=0o4755), file(1, mode=0o755)
    trees = Trees({"": {"f": here}}, {"": {"f": there}}, {"": {"f": [record(1)]}})
    assert actions(plan(trees, uid=1000)) == []
    assert actions(plan(trees, uid=0)) == [("", Op.METADATA, "f")]
