"""Answers as bytes: what gunicorn writes, and what is said to who does not speak HTTP."""


class Written:
    """What gunicorn's response takes for a socket: it keeps what is written."""

    def __init__(self) -> None:
        self.data = bytearray()

    def sendall(self, data: bytes) -> None:
        """Keep *data*."""
        self.data += data

    send = sendall


def refusal(status: int, reason: str) -> bytes:
    """Return the answer after which a connection is closed."""
    body = b'{"error": "' + reason.encode() + b'"}\n'
    head = f"HTTP/1.1 {status} Refused\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
