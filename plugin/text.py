"""Text for people and protocols is valid UTF-8, whatever a file name may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from portunix_vdisk.steps.step import Json


def readable(text: str) -> str:
    r"""The text with bytes that are not UTF-8 (surrogates, in Python) shown as ``\xff``."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # a surrogate that stands for no byte
            return text.encode("utf-8", "backslashreplace").decode()
    return text


def readable_json(value: Json) -> Json:
    """The same with every text inside a JSON value."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, Mapping):
        return {readable(str(key)): readable_json(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [readable_json(item) for item in value]
    return value


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[int] = frozenset()) -> list[str]:
    """Aligned columns; those in ``right`` are aligned at their right side."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
