"""The services around the GPUs, for a `SystemdHost`: they hold a GPU as DCGM does.

The nodes are made inside, as copies of the simulated host's; a service that has one open for
reading is a client, which NVML does not list and a reset does.
"""

from textwrap import dedent

from tests.eventually import eventually
from tests.peers.systemd_host import SystemdHost

ENGINE = "nvidia-dcgm.service"
EXPORTER = "nvidia-dcgm-exporter.service"
# Not configured: one that systemd stops along with the engine, a socket and what it starts, and
# one that has nothing to do with all this and does not run.
DEPENDENT, SOCKET, SOCKETED = "lab-monitor.service", "gpu-stats.socket", "gpu-stats.service"
ASLEEP = "nvsm.service"
CONFIGURED = (EXPORTER, SOCKETED, ENGINE, ASLEEP)
RUNNING = frozenset({ENGINE, EXPORTER, DEPENDENT, SOCKET, SOCKETED})

_HOLD = "ExecStart=/bin/sh -c 'exec 3</dev/nvidia{minor}; exec sleep infinity'"
_UNITS = {
    ENGINE: f"[Service]\n{_HOLD}\nRestart=always",
    EXPORTER: f"[Unit]\nWants={ENGINE}\nAfter={ENGINE}\n[Service]\n{_HOLD}\nRestart=always",
    DEPENDENT: f"""\
        [Unit]
        Requires={ENGINE}
        After={ENGINE}
        [Service]
        ExecStart=/bin/sleep infinity""",
    SOCKET: "[Socket]\nListenStream=/run/gpu-stats.sock",
    SOCKETED: f"[Service]\n{_HOLD}",
    ASLEEP: f"[Service]\n{_HOLD}",
}


class GpuUnits:
    """Those services on *systemd*, which hold /dev/nvidia*minor*."""

    def __init__(self, systemd: SystemdHost, minor: int) -> None:
        self._systemd = systemd
        self._minor = str(minor)

    def install(self) -> None:
        """Make the node and the units."""
        node = f"/dev/nvidia{self._minor}"
        self._systemd.run("mknod", "-m", "666", node, "c", "1", "3")
        for name, text in _UNITS.items():
            self._systemd.add_unit(name, dedent(text).replace("{minor}", self._minor))

    def start(self) -> None:
        """Start those that run; those that do already stay as they are."""
        # A socket cannot be opened once its service runs.
        self._systemd.systemctl("start", SOCKET)
        self._systemd.systemctl("start", *sorted(RUNNING - {SOCKET}))

    def remove(self) -> None:
        """Stop and forget them."""
        self._systemd.systemctl("stop", *_UNITS)
        for name in _UNITS:
            self._systemd.remove_unit(name)
        self._systemd.run("rm", "-f", f"/dev/nvidia{self._minor}")

    def running(self) -> frozenset[str]:
        """Return which of them are active."""
        shown = self._shown("ActiveState")
        return frozenset(name for name, state in shown.items() if state == "active")

    def started(self) -> dict[str, str]:
        """Return which invocation each of those that run is in: another one is another start."""
        return self._shown("InvocationID")

    def _shown(self, name: str) -> dict[str, str]:
        """Return one property of each unit; Docker loses what a short command prints at times."""

        def ask() -> dict[str, str]:
            properties = ("--property=Id", f"--property={name}")
            blocks = self._systemd.systemctl("show", *properties, *_UNITS).split("\n\n")
            pairs = [dict(line.split("=", 1) for line in block.splitlines()) for block in blocks]
            found = {pair["Id"]: pair.get(name, "") for pair in pairs if "Id" in pair}
            return found if len(found) == len(_UNITS) else {}

        return eventually(ask, 10, f"systemctl shows the {name} of every unit")
