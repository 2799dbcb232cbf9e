"""The DS01 exporter's sources about the host: its files, which may lie on a server that hangs."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from remediator.exporter.collectors import Collector
from remediator.exporter.events import EventTally, events_collector
from remediator.exporter.host import age_collector, disk_collector, session_collector
from remediator.exporter.source_watch import SourceWatch
from remediator.sources.events_log import EventsLog
from remediator.sources.login_sessions import LoginSessions
from remediator.sources.state_folder import StateFolder

# Each may hang, and none has anything to finish.
_END_WITHIN = timedelta(milliseconds=500)


class HostSources:
    """Each source in a thread of its own, and the collectors that ask them."""

    def __init__(self, events_log: Path, state: Path, run_root: Path, proc_root: Path) -> None:
        tally = EventTally(EventsLog(events_log))
        folder = StateFolder(state)
        sessions = LoginSessions(run_root / "utmp", run_root / "systemd/sessions", proc_root)
        self._events = SourceWatch("events-log", tally.last_day)
        self._disk = SourceWatch("state-folder", folder.space)
        self._sessions = SourceWatch("login-sessions", sessions.users)
        self._watches: tuple[SourceWatch[Any], ...] = (self._events, self._disk, self._sessions)

    def start(self) -> None:
        """Begin to read."""
        for watch in self._watches:
            watch.start()

    def stop(self) -> None:
        """End; what hangs is left behind."""
        for watch in self._watches:
            watch.stop(_END_WITHIN)

    def collectors(self) -> list[Collector]:
        """Return the collectors; a source that fails costs only its own."""
        return [
            Collector("events", events_collector(self._events)),
            Collector("state-disk", disk_collector(self._disk)),
            Collector("sessions", session_collector(self._sessions)),
            Collector("source-ages", age_collector(self._watches)),
        ]
