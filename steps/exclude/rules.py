"""What is left out: rules with patterns as in ``.gitignore``, and what has to stand beside or inside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from portunix_vdisk.platform.errors import BadUsage

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_WILD: Final = frozenset("*?[\\")
_METHOD: Final = 1
"""Raised when the same rules leave out something else than before: then an archive is not up to date."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of files that can be made again.

    Args:
        name: what reports call it.
        patterns: lines of a ``.gitignore`` at the top of the disk.
        beside: names, with wildcards; where there are any, at least one must stand in the same folder.
        holds: the same for what stands in the folder that matched.
        lacks: names, with wildcards, of which none may stand in it.
    """

    name: str
    patterns: tuple[str, ...]
    beside: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    def may_lie_among(self, siblings: Collection[str]) -> bool:
        """Whether a folder with these names has what must stand beside a match."""
        return not self.beside or _has(siblings, self.beside)

    @property
    def looks_inside(self) -> bool:
        """Whether it matters what is in a folder that matched."""
        return bool(self.holds or self.lacks)

    def may_hold(self, names: Collection[str]) -> bool:
        """Whether a folder that matched may have these names in it; there are none in a file."""
        return (not self.holds or _has(names, self.holds)) and not _has(names, self.lacks)


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One pattern; ``spec`` is None where its last part says it all."""

    rule: Rule
    folders_only: bool
    spec: GitIgnoreSpec | None

    def matches(self, path: str, *, is_folder: bool) -> bool:
        if self.folders_only and not is_folder:
            return False
        return self.spec is None or _match(self.spec, path, is_folder=is_folder)


class Rules:
    """Rules made ready for looking up each name of a large tree.

    Args:
        rules: where two of them match, the first counts.
        keep: patterns of what always stays, with everything in it.

    Raises ``BadUsage`` for a pattern that is none.
    """

    def __init__(self, rules: Sequence[Rule], keep: Sequence[str] = ()) -> None:
        text = json.dumps([_METHOD, [asdict(rule) for rule in rules], list(keep)])
        self.digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        """Tells these rules from any others."""
        self._by_name: dict[str, list[_Pattern]] = {}
        self._wild: list[_Pattern] = []
        for rule in rules:
            for text in rule.patterns:
                self._add(rule, text)
        self._keep = _compiled(keep, "keep") if keep else None

    def candidates(self, path: str, name: str, *, is_folder: bool) -> Iterator[Rule]:
        """Rules of which a pattern matches; ``path`` is relative to the top of the disk and ends in ``name``."""
        for pattern in (*self._by_name.get(name, ()), *self._wild):
            if pattern.matches(path, is_folder=is_folder):
                yield pattern.rule

    def keeps(self, path: str, *, is_folder: bool) -> bool:
        """Whether the person wants this to stay."""
        return self._keep is not None and _match(self._keep, path, is_folder=is_folder)

    def _add(self, rule: Rule, text: str) -> None:
        """Most patterns end in a plain name: looking that up spares matching every pattern with every path."""
        inner = text.removesuffix("/")
        last = inner.rpartition("/")[2]
        spec = _compiled([text], rule.name)
        if _WILD & set(last):
            self._wild.append(_Pattern(rule, text.endswith("/"), spec))
        else:
            alone = None if "/" not in inner else spec
            self._by_name.setdefault(last, []).append(_Pattern(rule, text.endswith("/"), alone))


def _has(names: Collection[str], wanted: Sequence[str]) -> bool:
    return any(any(fnmatchcase(name, one) for name in names) if _WILD & set(one) else one in names for one in wanted)


def _compiled(patterns: Sequence[str], where: str) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise BadUsage(f"rule {where}: {error}", state="nothing was done") from error


def _match(spec: GitIgnoreSpec, path: str, *, is_folder: bool) -> bool:
    # Its regular expressions take a newline for the end of the text; no pattern has one.
    return spec.match_file(path.replace("\n", "\r") + ("/" if is_folder else ""))
