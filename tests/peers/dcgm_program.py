"""A stand-in for dcgm-exporter as a program of its own, with what Debian's python3-minimal has.

    python3 dcgm_program.py PORT [--host ADDRESS] [--ignores-term] [--never-measures] UUID...

Its energy counters grow with the time of day, so that each run measures anew. SIGUSR1 freezes the
values for the rest of the run, SIGUSR2 makes it answer 500; SIGTERM ends it, and SIGHUP is a crash.
"""

import argparse
import contextlib
import signal
import socket
import sys
import threading
import time

_STATE = {"frozen_at": 0.0, "status": 200}
_BASE = time.time() - 1000


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("uuids", nargs="+")
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104  its container is its own
    parser.add_argument("--ignores-term", action="store_true")
    parser.add_argument("--never-measures", action="store_true")
    options = parser.parse_args()
    if options.never_measures:
        _freeze()
    signal.signal(signal.SIGUSR1, lambda *_: _freeze())
    signal.signal(signal.SIGUSR2, lambda *_: _STATE.update(status=500))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(1))
    on_term = signal.SIG_IGN if options.ignores_term else lambda *_: sys.exit(0)
    signal.signal(signal.SIGTERM, on_term)
    with socket.create_server((options.host, options.port)) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_answer, args=[connection, options.uuids], daemon=True).start()


def _freeze() -> None:
    _STATE["frozen_at"] = time.time()


def _answer(connection: socket.socket, uuids: list[str]) -> None:
    with connection, contextlib.suppress(OSError):
        connection.recv(65536)
        body = _page(uuids).encode()
        head = f"HTTP/1.0 {_STATE['status']:.0f} it\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: text/plain; version=0.0.4\r\n\r\n"
        connection.sendall(head.encode() + body)


def _page(uuids: list[str]) -> str:
    # 60 W, in millijoules.
    energy = int(60_000 * ((_STATE["frozen_at"] or time.time()) - _BASE))
    lines = []
    for index, uuid in enumerate(uuids):
        labels = f'{{gpu="{index}",UUID="{uuid}",device="nvidia{index}",Hostname="gpu1"}}'
        lines += [
            f"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{labels} {energy}",
            f"DCGM_FI_DEV_POWER_USAGE{labels} 60.0",
            f"DCGM_FI_DEV_GPU_TEMP{labels} 35",
            f"DCGM_FI_DEV_XID_ERRORS{labels} 0",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
