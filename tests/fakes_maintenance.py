"""Whether services of a host are stopped on purpose, as a test wants it."""

import pytest

from remediator.core.observation import Verdict
from remediator.errors import SourceError

# What goes on, or why nobody can tell, and what whoever would start something makes of it.
in_the_middle_of_maintenance = pytest.mark.parametrize(
    ("why", "silent", "verdict"),
    [
        pytest.param("mig-parted (process 7)", "", Verdict.DISAGREES, id="under way"),
        pytest.param(None, "quiesce.lock: Permission denied", Verdict.SILENT, id="nobody can tell"),
    ],
)


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
