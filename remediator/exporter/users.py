"""Metrics about users: what their running containers hold, and which group they are in."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from remediator.errors import SourceError
from remediator.exporter import families
from remediator.exporter.allocation import allocation_of
from remediator.exporter.view import Resident, View


def collect_users(view: View) -> Iterator[Metric]:
    """Yield what each user with a running GPU container holds.

    How many containers only Docker must tell; fails then while the driver does not answer.
    """
    if view.inventory.confirmed_at is None:
        raise SourceError("Docker has not told of any containers yet")
    holders: defaultdict[str, list[Resident]] = defaultdict(list)
    for resident in view.gpu_residents:
        if resident.holds_gpus:
            holders[resident.owner.user].append(resident)
    yield families.USER_CONTAINERS.of(
        ((user,), float(len(residents))) for user, residents in holders.items()
    )
    view.sample()
    held = {user: allocation_of(residents) for user, residents in holders.items()}
    yield families.USER_GPUS.of(((user,), float(has.count)) for user, has in held.items())
    for family in (families.USER_EQUIVALENTS, families.USER_MIG):
        yield family.of(((user,), has.equivalents) for user, has in held.items())


def collect_groups(view: View) -> Iterator[Metric]:
    """Yield who is in which group; users whom the limits name in none are not shown."""
    members = view.book.members
    yield families.USER_GROUP.of(((user, group), 1.0) for user, group in members.items())
    sizes = Counter(dict.fromkeys(view.book.groups, 0))
    sizes.update(members.values())
    yield families.GROUP_MEMBERS.of(((group,), float(size)) for group, size in sizes.items())
