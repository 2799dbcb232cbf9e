"""Metrics about DS01's slices: what each user's programs use, in containers and outside."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from prometheus_client.metrics_core import Metric

from remediator.core.limits import LimitsBook
from remediator.exporter import families
from remediator.exporter.view import View
from remediator.sources.user_slices import SliceUse

_FOREIGN = re.compile(r"[^A-Za-z0-9_:]+")
_RUN = re.compile(r"_+")


class SliceSource(Protocol):
    """The slices of this host."""

    def use(self) -> tuple[SliceUse, ...]:
        """Return what each used."""


def slice_name(user: str) -> str:
    """Return what DS01 makes of a user's name in the name of a slice: ``h.baker@x`` is h_baker."""
    return _RUN.sub("_", _FOREIGN.sub("_", user.partition("@")[0])).strip("_")


def slice_collector(source: SliceSource) -> Callable[[View], Iterator[Metric]]:
    """Return the collector that asks *source*."""
    names = _Names()

    def collect_slices(view: View) -> Iterator[Metric]:
        """Yield CPU time and memory of each user's slice; nothing where there are no slices."""
        uses = [(found, use) for use in source.use() if (found := names.of(use.name, view.book))]
        yield families.USER_CPU.of(
            (labels, use.cpu_seconds) for labels, use in uses if use.cpu_seconds is not None
        )
        yield families.USER_MEMORY.of(
            (labels, float(use.memory_bytes))
            for labels, use in uses
            if use.memory_bytes is not None
        )

    return collect_slices


class _Names:
    """Finds the user and the group that a slice is named after."""

    def __init__(self) -> None:
        self._known: tuple[LimitsBook | None, Mapping[str, tuple[str, ...]]] = (None, {})

    def of(self, name: str, book: LimitsBook) -> tuple[str, str] | None:
        """Return user and group of the slice *name*; None if it is a group's, without users.

        DS01 leaves no dash in the user's part; a group may have some.
        """
        group, dash, user = name.rpartition("-")
        if not dash or not group or not user or name in book.groups:
            return None
        return self._user(user, group, book), group

    def _user(self, name: str, group: str, book: LimitsBook) -> str:
        """Return the one user whom *name* can stand for, else the name as it is."""
        users = self._by_name(book).get(name, ())
        here = [user for user in users if book.members[user] == group]
        for found in (here, users):
            if len(found) == 1:
                return found[0]
        return name

    def _by_name(self, book: LimitsBook) -> Mapping[str, tuple[str, ...]]:
        last, known = self._known
        if last is not book:
            found: defaultdict[str, list[str]] = defaultdict(list)
            for user in book.members:
                found[slice_name(user)].append(user)
            known = {name: tuple(users) for name, users in found.items()}
            self._known = (book, known)
        return known
