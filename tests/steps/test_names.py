import pytest
from hypothesis import given
from hypothesis import strategies as st

from portunix_vdisk.platform.errors import BadUsage
from portunix_vdisk.steps.names import check_name, nearest, suggest_name


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "my-dev",
        "client-a-web",
        "v1.2_x",
        "_x",
        "7",
        "Ünïcode",
        "開発",
        "x" * 64,
        "my.vhd.old",
        "console",
        "com10",
        "x-con",
    ],
)
def test_good_names(name):
    check_name(name)
    assert suggest_name(name) == name


@pytest.mark.parametrize(
    ("name", "problem", "suggestion"),
    [
        ("", "empty", "my-dev"),
        (".", "starts with '.'", "my-dev"),
        ("..", "starts with '.'", "my-dev"),
        (".hidden", "starts with '.'", "hidden"),
        ("-rf", "starts with '-'", "rf"),
        ("--name", "starts with '-'", "name"),
        ("dot.", "ends with '.'", "dot"),
        ("my dev", "a space", "my-dev"),
        ("my\tdev", "U+0009", "my-dev"),
        ("my\ndev", "U+000A", "my-dev"),
        ("my\u00a0dev", "U+00A0", "my-dev"),
        ("my\u202edev", "U+202E", "my-dev"),
        ("nul\0byte", "U+0000", "nul-byte"),
        ("a:b", "':'", "a-b"),
        ("a*", "'*'", "a"),
        ("a=b", "'='", "a-b"),
        ("../etc/passwd", "'/'", "passwd"),
        ("C:\\disks\\dev", "':'", "dev"),
        ("caf\udce9", "not UTF-8", "caf"),
        ("cafe\u0301", "", "café"),
        ("my-dev.vhd", "'.vhd'", "my-dev"),
        ("my-dev.VHDX", "'.VHDX'", "my-dev"),
        ("a.img", "'.img'", "a"),
        ("a.qcow2", "'.qcow2'", "a"),
        ("a.dmg", "'.dmg'", "a"),
        ("a.img.vhd", "'.vhd'", "a"),
        ("CON", "device", "disk-CON"),
        ("nul", "device", "disk-nul"),
        ("com1.backup", "device", "disk-com1.backup"),
        ("LPT9", "device", "disk-LPT9"),
        ("com¹", "device", "disk-com¹"),
        ("x" * 65, "65 characters", "x" * 64),
        ("😀" * 64, "😀", "my-dev"),
        ("\U00020000" * 64, "256 bytes", "\U00020000" * 50),
    ],
)
def test_bad_names_say_what_is_wrong_and_propose_a_valid_one(name, problem, suggestion):
    with pytest.raises(BadUsage) as caught:
        check_name(name)
    assert problem in caught.value.what
    assert suggestion in caught.value.hint
    assert suggest_name(name) == suggestion
    check_name(suggestion)
    assert str(caught.value).replace("\n", "").isprintable()  # no name can paint on the terminal


@given(st.text(max_size=100) | st.text(alphabet="con.vhdimgNUL1-_ /\\¹\udcff", max_size=80))
def test_every_suggestion_is_valid_and_valid_names_are_kept(name):
    suggestion = suggest_name(name)
    check_name(suggestion)
    try:
        check_name(name)
    except BadUsage:
        return
    assert name not in (".", "..")
    assert not set(name) & set(":*=/\\ \t\n\0")
    assert len(f"{name}.qcow2.partial".encode()) <= 255


def test_nearest():
    known = ["my-dev", "My-Dev-2", "client-a-web", "thesis-project"]
    assert nearest("my-dve", known)[0] == "my-dev"
    assert nearest("MYDEV", known)[0] == "my-dev"
    assert nearest("client-web", known) == ["client-a-web"]
    assert nearest("zzzzz", known) == []
    assert nearest("x", []) == []
    assert nearest("caf\udce9", ["café"]) == ["café"]
    assert nearest("dev", ["DEV", "dev"]) == ["DEV", "dev"]
