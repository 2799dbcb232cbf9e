"""Fakes of what the engine asks when somebody wants to keep a container."""

from datetime import datetime, timedelta

from remediator.core.extensions import Keepable
from remediator.errors import TargetGoneError
from tests.builders import a_keepable


class FakeKeepables:
    """The containers of a host, by any name that a test gives them.

    It knows the target of most tests as ``idle``. While ``refuses`` is set it raises that.
    """

    def __init__(self) -> None:
        kept = a_keepable()
        self.known: dict[str, Keepable] = {"idle": kept, kept.target.id: kept}
        self.refuses: Exception | None = None

    def find(self, name: str, now: datetime) -> Keepable:
        assert now.tzinfo is not None
        if self.refuses is not None:
            raise self.refuses
        if name not in self.known:
            raise TargetGoneError(f'there is no container "{name}"')
        return self.known[name]


class FakeLinks:
    """Links that tell what they would permit; none unless ``page_url`` is set."""

    def __init__(self) -> None:
        self.page_url = ""

    def to_keep(
        self, run: tuple[str, datetime | None], incident: int, longest: timedelta, now: datetime
    ) -> str:
        assert now.tzinfo is not None
        if not self.page_url:
            return ""
        return f"{self.page_url}/extend?k={run[0][:12]}-{incident}-{longest.total_seconds():.0f}"
