"""A real SMTP server in a thread: STARTTLS with a certificate of its own, and a login."""

import asyncio
import email
import email.policy
import logging
import ssl
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self, TypeVar

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.peers.ports import LOOPBACK, free_port

T = TypeVar("T")

_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """One accepted message, with the recipients its envelope named."""

    recipients: tuple[str, ...]
    message: EmailMessage

    @property
    def subject(self) -> str:
        """The decoded subject."""
        return str(self.message["subject"])

    @property
    def text(self) -> str:
        """The plain part, or nothing."""
        part = self.message.get_body(("plain",))
        return "" if part is None else str(part.get_content())


class MailServer:
    """A mail server that can be slow, picky or down, always on the same port.

    A client connects to ``host`` and ``port``, must say STARTTLS (trusting ``ca_file``) and log
    in as ``user`` with ``password`` before it may send. What was accepted is in ``messages``.
    """

    host = LOOPBACK
    user = "remediator"
    password = "correct horse"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.ca_file = folder / "ca.pem"
        self.messages: list[ReceivedMail] = []
        self.delay = timedelta(0)
        self._refused: set[str] = set()
        self._context = _server_context(folder, self.ca_file)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self._connections: list[SMTP] = []

    @property
    def address(self) -> str:
        """Its ``host:port``."""
        return f"{self.host}:{self.port}"

    @property
    def is_up(self) -> bool:
        """Whether the port is open."""
        return self._server is not None

    def start(self) -> Self:
        """Open the port."""
        # aiosmtpd warns at each login of an attribute that it sets itself.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mail server")
        self._thread.start()
        try:
            self._server = self._in_thread(self._open())
        except BaseException:
            self._end_thread()
            raise
        return self

    def stop(self) -> None:
        """Close the port and cut every connection; harmless when it is closed."""
        if self._server is not None:
            self._in_thread(self._close(self._server))
            self._server = None
            self._end_thread()

    def be_slow(self, delay: timedelta) -> None:
        """Answer the end of every message only after *delay*."""
        self.delay = delay

    def refuse(self, recipient: str) -> None:
        """Answer 550 for *recipient* from now on."""
        self._refused.add(recipient)

    def to(self, recipient: str) -> list[ReceivedMail]:
        """The messages accepted for *recipient*."""
        return [mail for mail in self.messages if recipient in mail.recipients]

    # The names and arguments of the two methods below are aiosmtpd's hooks.

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Accept one recipient, or not."""
        if address in self._refused:
            return "550 5.1.1 no such user here"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Accept one message."""
        await asyncio.sleep(self.delay.total_seconds())
        content = envelope.content
        data = content if isinstance(content, bytes) else str(content).encode()
        message = email.message_from_bytes(data, policy=email.policy.default)
        self.messages.append(ReceivedMail(tuple(envelope.rcpt_tos), message))
        return "250 Message accepted"

    def _in_thread(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_TIMEOUT_SECONDS)

    def _end_thread(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT_SECONDS)
        self._loop.close()

    async def _open(self) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            self._connection, self.host, self.port, reuse_address=True
        )

    def _connection(self) -> SMTP:
        connection = SMTP(
            self,
            tls_context=self._context,
            require_starttls=True,
            authenticator=self._authenticate,
            auth_required=True,
            # Alertmanager's LOGIN does not understand what aiosmtpd asks; both speak PLAIN.
            auth_exclude_mechanism=["LOGIN"],
        )
        self._connections.append(connection)
        return connection

    async def _close(self, server: asyncio.Server) -> None:
        # A client accepted while the server closes would be dropped on the floor by asyncio.
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        await _settle()
        server.close()
        # aiosmtpd's own controller leaves the clients connected, and Python warns of it later.
        for connection in self._connections:
            # Below TLS, if there is any: a TLS transport that is closing cannot be aborted.
            transport = connection._original_transport or connection.transport
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
        self._connections.clear()
        await _settle()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await server.wait_closed()

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        expected = LoginPassword(self.user.encode(), self.password.encode())
        return AuthResult(success=data == expected, handled=False)


async def _settle() -> None:
    """Let what was accepted get its transport, and what was aborted its end."""
    for _ in range(10):
        await asyncio.sleep(0)


def _server_context(folder: Path, ca_file: Path) -> ssl.SSLContext:
    """Make an authority, have it sign a certificate for the loopback address, and load that."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("Remediator test authority")
    authority = (
        _certificate(authority_name, authority_name, authority_key.public_key(), authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = [x509.DNSName("localhost"), x509.IPAddress(ip_address(LOOPBACK))]
    certificate = (
        _certificate(_name("localhost"), authority_name, key.public_key(), authority_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    ca_file.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    own_file = folder / "server.pem"
    own_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    own_file.chmod(0o600)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own_file)
    return context


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    authority_key: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    """Everything but the purpose; the key identifiers are what strict clients ask for."""
    now = datetime.now(UTC)
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(authority_id, critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
