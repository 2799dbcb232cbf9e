"""Tell people by mail: SMTP with STARTTLS or TLS, and a login where one is needed."""

import re
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate

from remediator.config.settings import MailSettings
from remediator.core.notices import clean
from remediator.errors import NotifyError
from remediator.notifiers.interface import Envelope

_PERMANENT = 500
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9.-]+")


class Mail:
    """One mail server. A connection is made for each letter: they are few."""

    name = "mail"

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings

    def send(self, envelope: Envelope) -> str:
        """Hand the letter to the mail server; it has it when this returns."""
        message = compose(envelope, self._settings.sender)
        try:
            with self._connect() as server:
                server.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            raise _failure(f"recipient refused: {code} {_text(text)}", code) from error
        except smtplib.SMTPResponseException as error:
            said = f"{error.smtp_code} {_text(error.smtp_error)}"
            # Only the letter itself is for good. A login, a sender or a whole server that is
            # refused today may be repaired tomorrow, by whoever reads the log.
            is_letter = isinstance(error, smtplib.SMTPDataError)
            raise _failure(f"refused: {said}", error.smtp_code if is_letter else 0) from error
        except (smtplib.SMTPException, OSError) as error:
            server_name = f"{self._settings.host}:{self._settings.port}"
            raise NotifyError(
                f"mail server {server_name}: {type(error).__name__}: {error}"
            ) from error
        return f"accepted by {self._settings.host}"

    def reach(self) -> str:
        """Connect and log in as for a letter, and send none; NotifyError if that can't be."""
        server_name = f"{self._settings.host}:{self._settings.port}"
        try:
            with self._connect() as server:
                server.ehlo_or_helo_if_needed()
        except (smtplib.SMTPException, OSError) as error:
            raise NotifyError(
                f"mail server {server_name}: {type(error).__name__}: {error}"
            ) from error
        return f"{server_name} lets us in ({self._settings.security})"

    def _connect(self) -> smtplib.SMTP:
        settings = self._settings
        timeout = settings.timeout.total_seconds()
        if settings.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                settings.host, settings.port, timeout=timeout, context=self._context()
            )
        else:
            server = smtplib.SMTP(settings.host, settings.port, timeout=timeout)
        try:
            if settings.security == "starttls":
                server.starttls(context=self._context())
            if settings.username:
                server.login(settings.username, self._password())
        except BaseException:
            server.close()
            raise
        return server

    def _context(self) -> ssl.SSLContext:
        ca_file = self._settings.ca_file
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)

    def _password(self) -> str:
        path = self._settings.password_file
        if path is None:
            raise NotifyError("mail.username is set, and mail.password_file is not")
        try:
            return path.read_text(encoding="ascii").strip()
        except UnicodeDecodeError as error:
            message = f"{path}: SMTP takes only ASCII passwords, and this is not one"
            raise NotifyError(message) from error


def compose(envelope: Envelope, sender: str) -> EmailMessage:
    """Return the mail; those of one incident form a thread, and a second copy has the same id."""
    letter = envelope.letter
    host = clean(envelope.host)
    # In the id of a mail only ASCII without spaces and brackets is allowed.
    place = f"remediator@{_NOT_IN_IDS.sub('-', host).strip('-.') or 'localhost'}"
    message = EmailMessage()
    message["From"] = sender
    message["To"] = letter.recipient
    message["Subject"] = clean(f"[{host}] {letter.subject}")
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = f"<{envelope.name}.{place}>"
    if envelope.thread is not None:
        thread = f"<{envelope.thread}.{place}>"
        message["In-Reply-To"] = thread
        message["References"] = thread
    # Nobody is to answer it by a program: RFC 3834, what came before it, and Exchange's own.
    message["Auto-Submitted"] = "auto-generated"
    message["Precedence"] = "bulk"
    message["X-Auto-Response-Suppress"] = "All"
    message["List-Id"] = f"Remediator on {place.partition('@')[2]} <{place.replace('@', '.')}>"
    message["X-Remediator-Kind"] = letter.kind.value
    message.set_content(letter.body)
    if letter.html:
        message.add_alternative(letter.html, subtype="html")
    return message


def _failure(message: str, code: int) -> NotifyError:
    return NotifyError(message, permanent=code >= _PERMANENT)


def _text(answer: bytes | str) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return clean(text)
