import pytest
from hypothesis import given
from hypothesis import strategies as st

from portunix_vdisk.platform.errors import BadUsage, ExitCode
from portunix_vdisk.steps.sizes import LARGEST, parse_size, show_rate, show_size

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20GB", 20_000_538_624),  # 20 x 10^9, rounded up to 1 MiB
        ("20GiB", 20 << 30),
        ("20G", 20 << 30),
        ("20Gi", 20 << 30),
        ("20g", 20 << 30),
        (" 20 gib ", 20 << 30),
        ("1.5GiB", 3 << 29),
        (".5G", 1 << 29),
        ("1.G", 1 << 30),
        ("512MiB", 512 << 20),
        ("1T", 1 << 40),
        ("64T", 64 << 40),
        ("2048K", 2 << 20),
        ("2000kB", 2 << 20),
        ("1", MIB),
        ("1048576", MIB),
        ("1048577B", 2 * MIB),
        ("1048576 bytes", MIB),
        ("0.000001GB", MIB),
    ],
)
def test_sizes_that_people_write(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("0", "zero"),
        ("0.0GB", "zero"),
        ("-5GB", "negative"),
        ("- 5GB", "negative"),
        ("1,5GB", "point"),
        ("65T", "larger"),
        ("99999999999999999999PB", "larger"),
        ("9" * 5000, "not a size"),
        ("20XB", "not a size"),
        ("20GBB", "not a size"),
        ("GB", "not a size"),
        (".", "not a size"),
        ("1e9", "not a size"),
        ("0x10", "not a size"),
        ("inf", "not a size"),
        ("nan", "not a size"),
        ("1_000GB", "not a size"),
        ("20GB\0", "not a size"),
        ("\u0662\u0660GB", "not a size"),  # digits, but not ours
        ("20 G B", "not a size"),
        ("1GB 2GB", "not a size"),
        ("\udcff", "not a size"),
    ],
)
def test_what_is_no_size_is_refused_with_an_example(text, word):
    with pytest.raises(BadUsage) as caught:
        parse_size(text)
    assert caught.value.code is ExitCode.USAGE
    assert word in caught.value.what
    assert "20GB" in caught.value.hint
    str(caught.value).encode()  # printable on any terminal
    assert len(caught.value.what) < 300


@given(st.integers(1, LARGEST))
def test_bytes_are_rounded_up_to_a_mib(size):
    parsed = parse_size(str(size))
    assert parsed % MIB == 0
    assert size <= parsed < size + MIB


@given(st.text())
def test_any_text_is_a_size_or_refused(text):
    try:
        size = parse_size(text)
    except BadUsage:
        return
    assert 0 < size <= LARGEST


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (512, "512 B"),
        (999, "999 B"),
        (999.6, "1.0 kB"),
        (1000, "1.0 kB"),
        (1 << 20, "1.0 MB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),  # never "1000.0 kB"
        (20_000_000_000, "20.0 GB"),
        (20_000_538_624, "20.0 GB"),
        (20 << 30, "21.5 GB"),
        (10**18, "1.0 EB"),
        (10**22, "10000.0 EB"),
        (-1500, "-1.5 kB"),
    ],
)
def test_sizes_are_shown_in_one_way(size, text):
    assert show_size(size) == text


def test_rate():
    assert show_rate(118_234_567.8) == "118.2 MB/s"
    assert show_rate(0) == "0 B/s"
