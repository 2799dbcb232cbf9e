"""Tell systemd that a program is ready, where systemd has started it and asks (``Type=notify``).

gunicorn does so for the receiver itself.
"""

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

VARIABLE = "NOTIFY_SOCKET"


def tell_ready(environment: Mapping[str, str] = os.environ) -> None:
    """Say that this program is ready; nothing happens where nobody asks."""
    address = environment.get(VARIABLE, "")
    if not address:
        return
    if address.startswith("@"):
        # An abstract socket: its name begins with a zero byte, which no variable can hold.
        address = f"\0{address[1:]}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as messenger:
            messenger.sendto(b"READY=1", address)
    except OSError as error:
        log.warning("systemd cannot be told that this is ready: %s", error)
