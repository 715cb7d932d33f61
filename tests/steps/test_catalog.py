import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from portunix_vdisk.platform.base import FileIdentity, ImageType
from portunix_vdisk.platform.errors import BadUsage, NotFound, Refused
from portunix_vdisk.steps.catalog import Catalog
from portunix_vdisk.steps.disk import Disk, DiskState
from portunix_vdisk.tests.support.records import disk

BAD_NAME = Path(os.fsdecode(b"/disks/caf\xe9\xff\n.vhd"))


def test_everything_about_a_disk_comes_back(catalog, path):
    full = disk(
        path=BAD_NAME,
        type=ImageType.IMG,
        state=DiskState.IMPORTING,
        partial_inode=((1 << 64) - 1, (1 << 64) - 2),
        archive_uuid=str(UUID(int=7)),
        archive_root="ab" * 32,
        imported_identity=FileIdentity(1, (1 << 64) - 1, 5, -1, 1 << 62),
    )
    catalog.declare(full)
    catalog.declare(disk(1))
    with Catalog.open(path, create=False) as other:
        assert other.get("disk-0") == other.by_uuid(full.uuid) == other.by_path(BAD_NAME) == full
        assert other.all() == [full, disk(1)]
        assert other.get("disk-9") is other.by_path(Path("/disks")) is other.by_uuid("x") is None
        assert other.get("caf\udce9") is other.by_uuid("\udcff") is None


def test_life_of_a_disk(catalog):
    catalog.declare(disk())
    catalog.set_partial(disk().uuid, (3, 4))
    assert catalog.get("disk-0") == disk(partial_inode=(3, 4))
    catalog.mark_ready(disk().uuid)
    assert catalog.get("disk-0") == disk(state=DiskState.READY)
    catalog.mark_ready(disk().uuid, FileIdentity(1, 2, 3, 4, 5))
    catalog.mark_ready(disk().uuid)  # a repeated step forgets nothing
    assert catalog.get("disk-0") == disk(state=DiskState.READY, imported_identity=FileIdentity(1, 2, 3, 4, 5))
    catalog.remove(disk().uuid)
    catalog.remove(disk().uuid)
    assert catalog.all() == []


@pytest.mark.parametrize("same", ["name", "path", "uuid"])
def test_what_is_taken_is_refused_naming_the_holder(catalog, same):
    catalog.declare(disk(name="holder"))
    with pytest.raises(Refused) as caught:
        catalog.declare(disk(1, **{same: getattr(disk(name="holder"), same)}))
    assert "'holder'" in caught.value.what
    assert "/disks/disk-0.vhd" in caught.value.what
    assert [known.name for known in catalog.all()] == ["holder"]


def test_what_no_disk_may_be_called_or_be(catalog):
    with pytest.raises(BadUsage):
        catalog.declare(disk(name="../x"))
    with pytest.raises(BadUsage):
        catalog.declare(disk(path=Path("x.vhd")))
    with pytest.raises(BadUsage):
        catalog.start_export(disk().uuid, Path("x.zip"))


def test_unknown_disks(catalog):
    for act in (
        lambda: catalog.set_partial("x", (1, 2)),
        lambda: catalog.mark_ready("x"),
        lambda: catalog.start_export("x", Path("/x.zip")),
        lambda: catalog.finish_export("x", Path("/x.zip"), "root", "now"),
    ):
        with pytest.raises(NotFound):
            act()
    assert catalog.exports("x") == []
    assert catalog.last_output("x") is None


def test_exports_newest_first(catalog, path):
    a, b, strange = Path("/out/a.zip"), Path("/out/b.zip"), Path(os.fsdecode(b"/out/\xff.zip"))
    one, two = disk(0).uuid, disk(1).uuid
    catalog.declare(disk(0))
    catalog.declare(disk(1))
    catalog.start_export(one, a)
    assert catalog.exports(one)[0].root is None
    catalog.finish_export(one, a, "root-a", "2025-02-02T00:00:00+00:00")
    catalog.start_export(one, b)
    catalog.start_export(one, strange)
    catalog.start_export(two, a)
    assert [export.output for export in catalog.exports(one)] == [strange, b, a]
    catalog.start_export(one, a)  # again: it is the newest, and what the file holds is still known
    assert [(export.output, export.root) for export in catalog.exports(one)] == [
        (a, "root-a"),
        (strange, None),
        (b, None),
    ]
    assert catalog.last_output(one) == a
    catalog.forget_export(one, a)
    catalog.forget_export(one, a)
    assert catalog.last_output(one) == strange
    catalog.finish_export(one, b, "root-b", "2025-03-03T00:00:00+00:00")
    newest = catalog.exports(one)[0]
    assert (newest.output, newest.root, newest.finished_at) == (b, "root-b", "2025-03-03T00:00:00+00:00")
    catalog.remove(one)
    assert catalog.exports(one) == []
    with Catalog.open(path, create=False) as other:
        assert other.last_output(two) == a


# a model -------------------------------------------------------------------------------------------------

NUMBERS = st.integers(0, 5)
OUTPUTS = st.sampled_from([Path("/o/a.zip"), Path("/o/b.zip"), Path(os.fsdecode(b"/o/\xff.zip"))])


class CatalogModel(RuleBasedStateMachine):
    """The catalog behaves as a dictionary of disks and a list of exports, whoever reopens it."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="catalog-model-"))
        self.catalog = Catalog.open(self.folder / "catalog.db", create=True)
        self.disks: dict[str, Disk] = {}
        self.exported: list[tuple[str, Path, str | None]] = []

    def teardown(self):
        self.catalog.close()
        shutil.rmtree(self.folder)

    @rule(uuid=NUMBERS, name=NUMBERS, path=NUMBERS, state=st.sampled_from(DiskState), imported=st.booleans())
    def declare(self, uuid, name, path, state, imported):
        new = replace(
            disk(uuid, state=state, archive_root="r" if imported else None), name=f"n{name}", path=Path(f"/{path}")
        )
        if any(old.uuid == new.uuid or old.name == new.name or old.path == new.path for old in self.disks.values()):
            with pytest.raises(Refused):
                self.catalog.declare(new)
        else:
            self.catalog.declare(new)
            self.disks[new.uuid] = new

    def change(self, number, act, **changes):
        uuid = disk(number).uuid
        if uuid in self.disks:
            act(uuid)
            self.disks[uuid] = replace(self.disks[uuid], **changes)
        else:
            with pytest.raises(NotFound):
                act(uuid)

    @rule(number=NUMBERS, inode=st.tuples(st.integers(0, 1 << 64), st.integers(0, 1 << 64)))
    def set_partial(self, number, inode):
        self.change(number, lambda uuid: self.catalog.set_partial(uuid, inode), partial_inode=inode)

    @rule(number=NUMBERS, identity=st.none() | st.builds(FileIdentity, *[st.integers(0, 1 << 64)] * 5))
    def mark_ready(self, number, identity):
        changes = {"imported_identity": identity} if identity else {}
        self.change(
            number,
            lambda uuid: self.catalog.mark_ready(uuid, identity),
            state=DiskState.READY,
            partial_inode=None,
            **changes,
        )

    @rule(number=NUMBERS)
    def remove(self, number):
        uuid = disk(number).uuid
        self.catalog.remove(uuid)
        self.disks.pop(uuid, None)
        self.exported = [export for export in self.exported if export[0] != uuid]

    @rule(number=NUMBERS, output=OUTPUTS, finish=st.booleans())
    def export(self, number, output, finish):
        uuid = disk(number).uuid
        former = next((e for e in self.exported if e[:2] == (uuid, output)), None)

        def act(uuid):
            if finish:
                self.catalog.finish_export(uuid, output, "root", "now")
            else:
                self.catalog.start_export(uuid, output)

        self.change(number, act)
        if uuid in self.disks:
            if former:
                self.exported.remove(former)
            self.exported.append((uuid, output, "root" if finish else former and former[2]))

    @rule(number=NUMBERS, output=OUTPUTS)
    def forget_export(self, number, output):
        uuid = disk(number).uuid
        self.catalog.forget_export(uuid, output)
        self.exported = [export for export in self.exported if export[:2] != (uuid, output)]

    @rule(close=st.booleans())
    def reopen(self, close):
        if close:
            self.catalog.close()
        self.catalog = Catalog.open(self.folder / "catalog.db", create=close)

    @precondition(lambda self: self.disks)
    @invariant()
    def lookups_agree(self):
        for uuid, expected in self.disks.items():
            assert self.catalog.by_uuid(uuid) == expected
            assert self.catalog.get(expected.name) == expected
            assert self.catalog.by_path(expected.path) == expected

    @invariant()
    def lists_agree(self):
        assert self.catalog.all() == sorted(self.disks.values(), key=lambda disk: disk.name)
        for number in range(6):
            uuid = disk(number).uuid
            expected = [(output, root) for owner, output, root in reversed(self.exported) if owner == uuid]
            assert [(export.output, export.root) for export in self.catalog.exports(uuid)] == expected
            assert self.catalog.last_output(uuid) == (expected[0][0] if expected else None)


TestCatalogModel = CatalogModel.TestCase
TestCatalogModel.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
