"""What has to be stopped so that nothing uses a GPU, and what has to run again afterwards.

The rule: afterwards runs exactly what ran before. So what only a socket, a timer or a requirement
would bring back is looked at too, and a unit that did not run is started for nobody's sake. Nothing
here asks or stops anything: states come in, an order goes out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from remediator.core.services import UnitLinks, UnitState

_RESTORABLE = frozenset({"service", "socket", "timer", "path", "target"})
_PULLED_IN = frozenset({"service", "socket", "timer", "path"})
# What must not go down for the sake of a GPU: all containers, the way in, the boot, ourselves.
_NEVER = frozenset(
    {
        *("docker.service", "docker.socket", "containerd.service", "podman.service"),
        *("dbus.service", "dbus.socket", "dbus-broker.service", "ssh.service", "sshd.service"),
        *("sysinit.target", "basic.target", "multi-user.target", "graphical.target"),
        *("default.target", "network.target", "network-online.target"),
    }
)
# A unit that runs for less may be in the middle of a crash loop; also one that systemd has had to
# restart, for somewhat longer.
_STEADY_AFTER = timedelta(seconds=10)
_STEADY_AFTER_RESTARTS = timedelta(minutes=1)
_NEVER_PREFIXES = ("systemd-", "remediator")


class MemberKind(Enum):
    """What a member of a quiesce is."""

    UNIT = "unit"
    CONTAINER = "container"


@dataclass(frozen=True, slots=True)
class Member:
    """One unit or container as it was before anything was touched; ``was`` says it in words.

    ``ran``: it has to run again. ``must_stop``: it is not quiet. ``steady``: it was up, and in no
    crash loop. ``alone``: starting it must not start what it wants, because
    that was down. ``identity`` is a container's id.
    """

    name: str
    kind: MemberKind = MemberKind.UNIT
    was: str = ""
    ran: bool = False
    must_stop: bool = False
    steady: bool = False
    alone: bool = False
    identity: str = ""


def involved(
    asked: Sequence[str], states: Mapping[str, UnitState], links: Mapping[str, UnitLinks]
) -> tuple[str, ...]:
    """Return *asked* and all that hangs on them, as far as *states* and *links* are known.

    Whoever asks looks at the unknown ones and calls again, until there are none. What would start
    a unit matters even while the unit is down; what goes down with it only while it is up.
    """
    found = dict.fromkeys(asked)
    todo = list(found)
    while todo:
        name = todo.pop(0)
        if name not in states:
            continue
        hangs_on = links[name].started_by
        if not states[name].is_quiet:
            hangs_on += links[name].takes_down
        new = [other for other in hangs_on if other not in found]
        found.update(dict.fromkeys(new))
        todo += new
    return tuple(found)


def pulled_in(
    names: Sequence[str], states: Mapping[str, UnitState], links: Mapping[str, UnitLinks]
) -> tuple[str, ...]:
    """Return the units that would be started along with those of *names* that run.

    As far as is known: systemd goes on from a unit that runs already to what that one wants. Beyond
    targets it is not followed, since every start pulls in what belongs to the boot.
    """
    found: dict[str, None] = {}
    todo = list(names)
    while todo:
        name = todo.pop(0)
        if name not in states or not states[name].is_running:
            continue
        pulled = [n for n in links[name].pulls_in if _suffix(n) in _PULLED_IN and n not in found]
        found.update(dict.fromkeys(pulled))
        todo += pulled
    return tuple(found)


def obstacles(asked: Sequence[str], states: Mapping[str, UnitState]) -> tuple[str, ...]:
    """Return why the units in *states* must not be stopped, in words; nothing if they may be."""
    return tuple(
        f"{name} {why}" if name in asked else f"{name}, which would go down as well, {why}"
        for name, state in states.items()
        if not state.is_quiet and (why := _obstacle(state))
    )


def plan(
    asked: Sequence[str],
    states: Mapping[str, UnitState],
    links: Mapping[str, UnitLinks],
    now: datetime,
    containers: Sequence[Member] = (),
) -> tuple[Member, ...]:
    """Return all that is involved, in the order in which to stop what is not quiet.

    What would start others comes first, then the *containers*, which talk to units; then each unit
    after all that goes down with it. *states* and *links* also have those that `pulled_in` names.
    """
    names = involved(asked, states, links)
    starters = {other for name in names for other in links[name].started_by}
    first = [name for name in names if name in starters]
    order = dict.fromkeys(first)
    for name in names:
        _visit(name, links, order, set())
    units = [_member(name, states, links, now) for name in order if name in names]
    return (*units[: len(first)], *containers, *units[len(first) :])


def restore_order(members: Sequence[Member]) -> tuple[Member, ...]:
    """Return those that have to run again, in order: the reverse of the order of stopping.

    Except for sockets: systemd refuses to start one while its service runs. Timers and what else
    starts others by itself come last, as they were stopped first.
    """
    backwards = [member for member in reversed(members) if member.ran]
    sockets = [member for member in backwards if _suffix(member.name) == "socket"]
    return (*sockets, *(member for member in backwards if member not in sockets))


def _visit(
    name: str, links: Mapping[str, UnitLinks], order: dict[str, None], path: set[str]
) -> None:
    """Put *name* in *order*, after what goes down with it; two may require each other."""
    if name in order or name in path or name not in links:
        return
    path.add(name)
    for other in links[name].takes_down:
        _visit(other, links, order, path)
    order[name] = None


def _member(
    name: str, states: Mapping[str, UnitState], links: Mapping[str, UnitLinks], now: datetime
) -> Member:
    state = states[name]
    others = (states[other] for other in pulled_in([name], states, links))
    return Member(
        name=name,
        was=str(state),
        ran=state.is_running,
        must_stop=not state.is_quiet,
        steady=state.is_running and not _may_loop(state, now),
        alone=any(other.load == "loaded" and not other.is_running for other in others),
    )


def _may_loop(state: UnitState, now: datetime) -> bool:
    if state.sub == "auto-restart":
        return True
    steady_after = _STEADY_AFTER_RESTARTS if state.n_restarts else _STEADY_AFTER
    return state.active_since is None or now - state.active_since < steady_after


def _obstacle(state: UnitState) -> str:
    if state.name in _NEVER or state.name.startswith(_NEVER_PREFIXES):
        return "is never stopped"
    if _suffix(state.name) not in _RESTORABLE:
        return "is not a unit that can be stopped and started again"
    if state.load != "loaded":
        return f"runs, but is {state.load}: it could not be started again"
    if state.is_transient or not state.can_start:
        return "runs, but could not be started again"
    if not state.can_stop:
        return "does not let itself be stopped by hand"
    return ""


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]
