"""Free ports, and who answers on one."""

import fcntl
import itertools
import os
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"

# Below what Linux gives to connections and to servers without a port of their own (32768 on,
# `ip_local_port_range`), so that none of them takes a port between its choice and its use.
_PORTS = range(20_000, 32_768)
# The one handed out last: one file for all test runs of this machine, for the ports are its own.
_LAST = Path(f"/tmp/remediator-tests-{os.geteuid()}.port")


def free_port() -> int:
    """A TCP port that nobody listens on, and that nobody else is told of for a long time.

    No two callers are given the same one before all others were handed out, in whatever test
    run they are: a peer may take its port late, leave it, and come back to it.
    """
    # Not truncated before it is locked: another run may be reading.
    with os.fdopen(os.open(_LAST, os.O_RDWR | os.O_CREAT, 0o600), "r+") as last:
        fcntl.flock(last, fcntl.LOCK_EX)
        start = (int(last.read() or _PORTS.start) - _PORTS.start + 1) % len(_PORTS)
        port = next(filter(_is_free, itertools.chain(_PORTS[start:], _PORTS[:start])))
        last.seek(0)
        last.write(str(port))
    return port


def answers(port: int, host: str = LOOPBACK) -> bool:
    """Whether somebody accepts connections on *port* of *host*."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((host, port)) == 0


def _is_free(port: int) -> bool:
    with socket.socket() as server:
        try:
            # At any address: some servers listen on all, some on that of a bridge.
            server.bind(("", port))
        except OSError:
            return False
    return True
