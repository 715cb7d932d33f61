"""What an operation and its parameters are. Imports nothing heavy, so that ``portunix vdisk --help`` stays fast."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What the text of a parameter means."""

    TEXT = "text"
    PATH = "path"
    """A path, relative to the caller's folder."""
    SIZE = "size"
    """``20GB``, ``20G``, ``512MiB``; see :mod:`portunix_vdisk.steps.sizes`."""
    DISK = "disk"
    """A disk as a person names it; see :mod:`portunix_vdisk.tasks.which`."""
    FLAG = "flag"
    """Present or not; the text is ``true``."""
    SECRET_FILE = "secret-file"
    """``X-file``: a file whose first line is the secret ``X``; read by the process that the person started."""
    SECRET_FD = "secret-fd"
    """``X-fd``: the same for an open file descriptor of that process."""


SECRET_KINDS = (Kind.SECRET_FILE, Kind.SECRET_FD)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an operation.

    A ``positional`` one that is ``also_option`` may be written both ways: ``DIR`` or ``--mountpoint DIR``. A positional
    one that takes ``many`` words holds them with blanks between; it is the last positional one.
    """

    name: str
    kind: Kind
    help: str
    positional: bool = False
    required: bool = False
    default: str | None = None
    metavar: str = ""
    also_option: bool = False
    many: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: a doit graph where ``graph`` is true, otherwise a question about the state of things.

    A name of two words (``archive mount``) is a group of :data:`GROUPS` and a verb. Such an operation needs nothing
    more than any other: an entry here, one in the engine, a renderer and a schema. ``rest`` is what has to stand
    behind ``--``, for the process that the person started and not for the engine: ``COMMAND``.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    examples: tuple[str, ...]
    graph: bool = True
    rest: str = ""

    @property
    def group(self) -> str:
        """The first word of a name of two; otherwise empty."""
        return self.name.rpartition(" ")[0]

    @property
    def verb(self) -> str:
        """The last word of the name."""
        return self.name.rpartition(" ")[2]


def slug(name: str) -> str:
    """An operation's name where no blanks may be: ``archive-mount``, in doit's tasks and in names of schemas."""
    return name.replace(" ", "-")


def disk_parameter(help: str, *, required: bool = True) -> Parameter:
    """The disk that an operation is about."""
    return Parameter("disk", Kind.DISK, help, positional=True, required=required, metavar="DISK")


def _secret(name: str, what: str) -> tuple[Parameter, ...]:
    """The three ways to a secret; see :mod:`portunix_vdisk.tasks.passwords`."""
    return (
        Parameter(name, Kind.FLAG, f"ask for {what} (it is asked for whenever it is needed)"),
        Parameter(f"{name}-file", Kind.SECRET_FILE, f"file whose first line is {what}", metavar="FILE"),
        Parameter(f"{name}-fd", Kind.SECRET_FD, f"open descriptor whose first line is {what}", metavar="N"),
    )


PASSWORD = _secret("password", "the password")
"""Of operations that open or make something encrypted."""
NEW_PASSWORD = _secret("new-password", "the new password")
"""Of operations that change a password."""
