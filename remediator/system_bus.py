"""systemd over D-Bus, through pydbus: the one place that knows either.

Each operation has a connection of its own, closed after it: a connection made before a fork hangs
in the child, and pydbus's ``SystemBus()`` ends the process when the bus is restarted. Each call has
a time limit. Without pydbus (the extra ``dbus``) this module can be imported all the same, and
whoever asks is told what to install.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from remediator.errors import (
    EffectUnknownError,
    RefusedError,
    RemediationError,
    SourceError,
    TargetGoneError,
)

try:
    import pydbus
    from gi.repository import Gio, GLib
except ImportError:
    pydbus = Gio = GLib = None

DEFAULT_ADDRESS = "unix:path=/run/dbus/system_bus_socket"
_NOT_INSTALLED = 'D-Bus cannot be spoken: install "remediator[dbus]"'
_SYSTEMD = ".systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_NO_UNIT = ".NoSuchUnit"
# What the bus, not systemd, says of a call that was sent and whose answer is not known.
_NO_ANSWER = frozenset(
    f"org.freedesktop.DBus.Error.{name}" for name in ("NoReply", "Timeout", "TimedOut")
)


class Manager:
    """systemd's manager on one connection; its errors are the bus's own."""

    def __init__(self, bus: Any, timeout: timedelta) -> None:
        self._bus = bus
        self._timeout = timeout
        self._proxy = bus.get(_SYSTEMD, timeout=timeout)[_MANAGER]

    def rows(self, units: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return name, description, load, active, sub, following, path, job, type, path of each.

        Also a unit that does not exist has its row.
        """
        found: list[tuple[Any, ...]] = self._proxy.ListUnitsByNames(
            list(units), timeout=self._timeout
        )
        return found

    def properties(self, path: str, interface: str) -> Mapping[str, Any]:
        """Return all properties of the unit at *path* in one of systemd's interfaces.

        Asked without pydbus's look at what the object offers, which takes ten times as long.
        """
        wanted = GLib.Variant("(s)", (f"org.freedesktop.systemd1.{interface}",))
        limit = round(self._timeout.total_seconds() * 1000)
        answer = self._bus.con.call_sync(
            "org.freedesktop.systemd1", path, _PROPERTIES, "GetAll", wanted, None, 0, limit, None
        )
        found: Mapping[str, Any] = answer.unpack()[0]
        return found

    def queue(self, method: str, unit: str, mode: str) -> None:
        """Queue a job: ``StopUnit``, ``StartUnit`` or ``RestartUnit``."""
        getattr(self._proxy, method)(unit, mode, timeout=self._timeout)

    def reset_failed(self, unit: str) -> None:
        """Forget that *unit* has failed, and how often it was started lately.

        A unit that systemd has not even loaded has nothing to be forgotten.
        """
        try:
            self._proxy.ResetFailedUnit(unit, timeout=self._timeout)
        except GLib.Error as error:
            if not _remote_name(error).endswith(_NO_UNIT):
                raise


class SystemBus:
    """The bus at *address* (None: ``DBUS_SYSTEM_BUS_ADDRESS``, else the system's)."""

    def __init__(self, address: str | None, timeout: timedelta) -> None:
        self._address = address or os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or DEFAULT_ADDRESS
        self._timeout = timeout

    @contextlib.contextmanager
    def asking(self, what: str) -> Iterator[Manager]:
        """Yield systemd for questions about *what*; SourceError if it does not answer."""
        if pydbus is None:
            raise SourceError(_NOT_INSTALLED)
        try:
            with self._connected() as manager:
                yield manager
        except GLib.Error as error:
            raise SourceError(f"systemd does not say {what}: {_text(error)}") from error

    @contextlib.contextmanager
    def acting(self, verb: str, unit: str) -> Iterator[Manager]:
        """Yield systemd for one change; its refusals and silences come out in our terms."""
        if pydbus is None:
            raise RefusedError(f"cannot {verb} {unit}: {_NOT_INSTALLED}")
        with contextlib.ExitStack() as stack:
            try:
                manager = stack.enter_context(self._connected())
            except GLib.Error as error:
                message = f"systemd cannot be reached to {verb} {unit}: {_text(error)}"
                raise RefusedError(message) from error
            try:
                yield manager
            except GLib.Error as error:
                raise _translated(error, verb, unit) from error

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Manager]:
        bus = self._connect()
        try:
            yield Manager(bus, self._timeout)
        finally:
            # A bus that went away has closed it already.
            with contextlib.suppress(GLib.Error):
                bus.con.close_sync(None)

    def _connect(self) -> Any:
        """Return what ``pydbus.connect`` returns, which alone would wait for ever for a login."""
        flags = Gio.DBusConnectionFlags
        giving_up = Gio.Cancellable()
        timer = threading.Timer(self._timeout.total_seconds(), giving_up.cancel)
        timer.daemon = True
        timer.start()
        try:
            connection = Gio.DBusConnection.new_for_address_sync(
                self._address,
                flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION,
                None,
                giving_up,
            )
        finally:
            timer.cancel()
        return pydbus.bus.Bus(connection)


def _translated(error: Any, verb: str, unit: str) -> RemediationError:
    name = _remote_name(error)
    if name.endswith(_NO_UNIT):
        return TargetGoneError(f"there is no unit {unit}")
    if name and name not in _NO_ANSWER:
        return RefusedError(f"systemd refused to {verb} {unit}: {_text(error)}")
    # Without a name it did not come from the other side: time ran out, or the bus went away.
    return EffectUnknownError(f"no answer from systemd when told to {verb} {unit}: {_text(error)}")


def _text(error: Any) -> str:
    """Return what the other side said, without the library's wrapping."""
    return str(error.message).removeprefix(f"GDBus.Error:{_remote_name(error)}: ").rstrip(".")


def _remote_name(error: Any) -> str:
    return Gio.DBusError.get_remote_error(error) or ""
