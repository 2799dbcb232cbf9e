"""Find the container that somebody wants to keep, by whatever its people call it."""

import re
from datetime import datetime, timedelta

from remediator.core.extensions import Keepable
from remediator.core.lifecycle import may_idle_because
from remediator.core.notices import clean
from remediator.core.targets import Container
from remediator.errors import RefusedError, SourceError, TargetGoneError
from remediator.remediations.named_container import Found, NamedContainers
from remediator.remediations.senses import LimitsInForce, Senses

# As much of an id as `docker ps` shows; less is a guess.
_ID = re.compile(r"[0-9a-f]{12,64}", re.ASCII)
# Whoever asks waits for Docker with the worker's whole loop: not again and again while it hangs.
_REST = timedelta(seconds=10)


class KeepableContainers:
    """Looks among all containers of the host for the one that is meant."""

    def __init__(self, senses: Senses, limits: LimitsInForce) -> None:
        self._engine = senses.engine
        self._containers = NamedContainers(senses, limits)
        self._silent_until: datetime | None = None

    def find(self, name: str, now: datetime) -> Keepable:
        """Return the one container of that name, id, or beginning of an id with 12 digits.

        TargetGoneError if there is none, or none that runs; RefusedError if more than one is meant
        or nothing has to keep it from the idle stop; SourceError if Docker does not answer.
        """
        found = self._look(name, now)
        facts = found.facts
        if not facts.is_running or facts.started_at is None:
            raise RefusedError(f"{clean(facts.name)} is {facts.state}: only what runs can be kept")
        needless = _needless(found)
        if needless is not None:
            raise RefusedError(f"{clean(facts.name)} needs no extension: {needless}")
        target = Container(facts.id, facts.started_at)
        return Keepable(target, facts.name, found.limits.keepalive_max)

    def _look(self, name: str, now: datetime) -> Found:
        if self._silent_until is not None and now < self._silent_until <= now + _REST:
            raise SourceError("Docker did not answer a moment ago: try again soon")
        try:
            return self._containers.of_id(self._only(name), now)
        except SourceError:
            self._silent_until = now + _REST
            raise

    def _only(self, name: str) -> str:
        """Return the full id of what is meant."""
        by_id = _ID.fullmatch(name) is not None
        meant = [
            container
            for container in self._engine.list()
            if container.name == name or (by_id and container.id.startswith(name))
        ]
        if not meant:
            raise TargetGoneError(f'there is no container "{clean(name, 70)}"')
        if len(meant) > 1:
            names = ", ".join(sorted(clean(container.name) for container in meant))
            raise RefusedError(f'"{clean(name, 70)}" may be any of {names}: give the full id')
        return meant[0].id


def _needless(found: Found) -> str | None:
    """Return why nothing would be stopped for being idle anyway."""
    if found.infrastructure is not None:
        return found.infrastructure
    if not found.facts.claims.is_gpu:
        return "it has no GPU access, and is never stopped for being idle"
    return may_idle_because(found.limits)
