"""Units with every habit that a GPU service may have, for a `SystemdHost`.

Each name says the habit; `tests.fakes_services` has the same ones in memory.
"""

from collections.abc import Collection
from textwrap import dedent

from tests.peers.systemd_host import SystemdHost

_FOREVER = "ExecStart=/bin/sleep infinity"
UNITS = {
    "good.service": f"[Service]\n{_FOREVER}\nRestart=always\nRestartSec=1",
    "dependent.service": f"""\
        [Unit]
        Requires=good.service
        After=good.service
        [Service]
        {_FOREVER}""",
    # Starting it plainly would start wanted.service as well.
    "wanting.service": f"[Unit]\nWants=wanted.service\n[Service]\n{_FOREVER}",
    "wanted.service": f"[Service]\n{_FOREVER}",
    # systemd itself waits for this: no trap that a stop right after the start would come before.
    "slowstop.service": f"[Service]\n{_FOREVER}\nExecStop=/bin/sleep 5\nTimeoutStopSec=10",
    # Told to stop by a signal that ends nobody: again no trap.
    "hungstop.service": f"[Service]\n{_FOREVER}\nKillSignal=SIGWINCH\nTimeoutStopSec=3",
    "stuck.service": f"[Service]\n{_FOREVER}\nKillSignal=SIGWINCH\nTimeoutStopSec=60",
    "crashloop.service": """\
        [Unit]
        StartLimitBurst=100
        StartLimitIntervalSec=10
        [Service]
        ExecStart=/bin/sh -c 'sleep 0.3; exit 1'
        Restart=always
        RestartSec=2""",
    "limited.service": f"""\
        [Unit]
        StartLimitBurst=3
        StartLimitIntervalSec=60
        [Service]
        {_FOREVER}""",
    "socketed.socket": "[Socket]\nListenStream=/run/socketed.sock",
    "socketed.service": f"[Service]\n{_FOREVER}",
    "timed.timer": "[Timer]\nOnActiveSec=1h\nOnUnitInactiveSec=1h",
    "timed.service": f"[Service]\n{_FOREVER}",
    "oneshot.service": "[Service]\nType=oneshot\nExecStart=/bin/true",
    "remains.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true",
    "failing.service": "[Service]\nType=oneshot\nExecStart=/bin/false",
    "noprogram.service": "[Service]\nExecStart=/nonexistent/program",
    "idle.service": f"[Service]\n{_FOREVER}",
    "masked.service": "",
}
MISSING = "nosuch.service"


def install(host: SystemdHost, units: Collection[str] = tuple(UNITS)) -> None:
    """Write the unit files; an empty one is a masked unit."""
    for name in units:
        path = f"/etc/systemd/system/{name}"
        text = dedent(UNITS[name])
        command = 'printf "%s\\n" "$1" >"$2"' if text else 'ln -sf /dev/null "$2"'
        assert host.run("sh", "-c", command, "sh", text, path)[0] == 0
    host.systemctl("daemon-reload")


def reset(host: SystemdHost, running: Collection[str] = ()) -> None:
    """Bring all units down at once, forget their failures, and start those in *running*."""
    names = [name for name in UNITS if UNITS[name]]
    triggers = [name for name in names if not name.endswith(".service")]
    services = [name for name in names if name not in triggers]
    host.systemctl("stop", *triggers)
    host.systemctl("kill", "--signal=KILL", *services)
    host.systemctl("stop", *services)
    host.systemctl("reset-failed")
    for name in running:
        host.systemctl("start", name)


def remove(host: SystemdHost) -> None:
    """Bring all units down and delete their files."""
    reset(host)
    host.run("rm", "-f", *(f"/etc/systemd/system/{name}" for name in UNITS))
    host.systemctl("daemon-reload")


def running(host: SystemdHost) -> set[str]:
    """Return which of the units run, or are between two tries."""
    lines = host.systemctl("list-units", "--all", "--plain", "--no-legend", *UNITS).splitlines()
    rows = [line.split() for line in lines]
    return {row[0] for row in rows if len(row) > 2 and row[2] in {"active", "activating"}}
