"""Free ports, and who answers on one."""

import socket

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A TCP port that nobody listens on now; a server should take it at once."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


def answers(port: int, host: str = LOOPBACK) -> bool:
    """Whether somebody accepts connections on *port* of *host*."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((host, port)) == 0
