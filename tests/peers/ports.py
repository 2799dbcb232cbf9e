"""Free ports on the loopback address."""

import socket

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A TCP port that nobody listens on now; a server should take it at once."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether somebody accepts connections on *port*."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((LOOPBACK, port)) == 0
