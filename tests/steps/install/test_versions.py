"""Which versions are wanted ones."""

from __future__ import annotations

import pytest

from portunix_vdisk.steps.install.versions import meets


@pytest.mark.parametrize(
    ("language", "wanted", "are", "are_not"),
    [
        ("npm", "", "1.0.0 2.0.0-beta.1", ""),
        ("npm", "latest", "1.0.0", ""),
        ("npm", "next", "1.0.0", ""),
        ("npm", "18", "18.0.0 18.3.1", "17.9.9 19.0.0 180.0.0"),
        ("npm", "18.x", "18.0.0 18.3.1", "17.9.9 19.0.0"),
        ("npm", "18.2", "18.2.0 18.2.9", "18.1.9 18.3.0"),
        ("npm", "v18.2.0", "18.2.0", "18.2.1"),
        ("npm", "=18.2.0", "18.2.0", "18.2.1"),
        ("npm", "^17.1", "17.1.0 17.9.0", "17.0.9 18.0.0"),
        ("npm", "^0.2.3", "0.2.3 0.2.9", "0.2.2 0.3.0 1.0.0"),
        ("npm", "^0.0.3", "0.0.3", "0.0.4 0.1.0"),
        ("npm", "~1.2.3", "1.2.3 1.2.9", "1.2.2 1.3.0"),
        ("npm", "~1", "1.0.0 1.9.9", "2.0.0"),
        ("npm", ">=17", "17.0.0 19.0.0", "16.9.9"),
        ("npm", ">17", "18.0.0", "17.9.9 17.0.0"),
        ("npm", "<3", "2.5.0", "3.0.0"),
        ("npm", "<=3", "3.9.0 2.0.0", "4.0.0"),
        ("npm", "1.0.0-rc.1", "1.0.0-rc.1", "1.0.0 1.0.0-rc.2"),
        ("pip", "2", "2.0 2.1.3", "1.9 20.0"),
        ("pip", "2.1.0", "2.1.0", "2.1.1"),
        ("pip", ">=2.1", "2.1 3.0 2.2rc1", "2.0.9"),
        ("pip", "<3", "2.9", "3.0 3.1"),
        ("pip", "~=2.1", "2.1 2.9.9", "2.0 3.0"),
        ("pip", "==2.1", "2.1 2.1.0", "2.1.1"),
        ("pip", "<>2", "", "2.0"),
        ("go", "v1.2", "v1.2.0 v1.2.9", "v1.3.0"),
        ("go", "1.2.3", "v1.2.3", "v1.2.30"),
    ],
)
def test_versions_that_are_wanted(language: str, wanted: str, are: str, are_not: str) -> None:
    assert [one for one in are.split() if not meets(language, one, wanted)] == []
    assert [one for one in are_not.split() if meets(language, one, wanted)] == []
