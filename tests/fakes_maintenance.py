"""Whether services of a host are stopped on purpose, as a test wants it."""

from remediator.errors import SourceError


class FakeMaintenance:
    """``why`` is what is going on, or that nobody can tell where it is ``silent``."""

    def __init__(self) -> None:
        self.why: str | None = None
        self.silent = ""

    def under_way(self, service: str) -> str | None:
        assert service
        if self.silent:
            raise SourceError(self.silent)
        return self.why
