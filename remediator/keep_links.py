"""The link in a notice by which an owner keeps a container, and the key that it is signed with.

The worker signs and the receiver verifies. Both have the key, which is as good as the right to
store commands: whoever has taken over the receiver has that right anyway. What a link permits is
in the link itself, so that nothing has to be kept about it; the worker checks all of it again.
"""

import base64
import binascii
import hashlib
import os
import secrets
import stat
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from itsdangerous import BadSignature, Signer

from remediator.errors import SetupError

_SHORTEST = 32
_LARGEST = 4096
# Container id, start in microseconds (0: not known), incident, seconds at most, expiry, nonce.
_LAYOUT = struct.Struct(">32sqqII8s")
_LATEST = 2**32 - 1
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LINK = "remediator keep link"
_FORM = "remediator keep form"


class ForgedError(Exception):
    """It was not signed with our key."""


@dataclass(frozen=True, slots=True)
class KeepLink:
    """What one link permits: to keep one run of one container, until it expires.

    ``started_at`` is None where the notice did not have to know which run it is about.
    """

    container: str
    started_at: datetime | None
    incident: int
    longest: timedelta
    expires_at: datetime


class LinkKey:
    """A secret in a file, read each time so that it can be replaced without a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def make(self) -> None:
        """Make one if there is none that could be used; SetupError if that can't be."""
        try:
            if self._path.exists() and self._path.stat().st_size >= _SHORTEST:
                return
            fresh = self._path.with_name(f"{self._path.name}.new")
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(f"{secrets.token_hex(32)}\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            raise SetupError(f"cannot make link key {self._path}: {error.strerror}") from error

    def read(self) -> bytes:
        """Return the key; SetupError if there is none that could be used.

        The receiver's user may put anything in its place, and the worker is root: only a plain
        file is read, and not much of it.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
                key = file.read(_LARGEST).strip() if is_file else b""
        except OSError as error:
            raise SetupError(f"link key {self._path} cannot be read: {error.strerror}") from error
        if len(key) < _SHORTEST:
            raise SetupError(f"link key {self._path} holds fewer than {_SHORTEST} characters")
        return key

    def sign(self, link: KeepLink) -> str:
        """Return *link* as a text that fits into a URL; SetupError as `read`, ValueError if not."""
        started = 0 if link.started_at is None else (link.started_at - _EPOCH) // _MICROSECOND
        packed = _LAYOUT.pack(
            bytes.fromhex(link.container),
            started,
            link.incident,
            min(int(link.longest.total_seconds()), _LATEST),
            int(link.expires_at.timestamp()),
            secrets.token_bytes(8),
        )
        text = base64.urlsafe_b64encode(packed).rstrip(b"=")
        return self._signer(_LINK).sign(text).decode("ascii")

    def verify(self, text: str) -> KeepLink:
        """Return what a link permits or permitted; ForgedError if we have not signed it."""
        packed = _unpadded(self._unsign(_LINK, text))
        container, started, incident, longest, expires, _nonce = _LAYOUT.unpack(packed)
        return KeepLink(
            container=container.hex(),
            started_at=_EPOCH + started * _MICROSECOND if started else None,
            incident=incident,
            longest=timedelta(seconds=longest),
            expires_at=_EPOCH + timedelta(seconds=expires),
        )

    def sign_form(self, link: str, until: datetime) -> str:
        """Return what a form has to send back so that it is believed until then."""
        return self._signer(_FORM + link).sign(f"{until.timestamp():.0f}").decode("ascii")

    def accepts_form(self, link: str, token: str, now: datetime) -> bool:
        """Tell whether *token* was given to the form of this link, and not too long ago."""
        try:
            until = int(self._unsign(_FORM + link, token))
        except (ForgedError, ValueError):
            return False
        return now.timestamp() <= until

    def _unsign(self, purpose: str, text: str) -> bytes:
        try:
            return self._signer(purpose).unsign(text.encode())
        except BadSignature:
            raise ForgedError from None

    def _signer(self, purpose: str) -> Signer:
        return Signer(
            self.read(), salt=purpose, key_derivation="hmac", digest_method=hashlib.sha256
        )

    def __repr__(self) -> str:
        return f"LinkKey({str(self._path)!r}, <secret>)"


def _unpadded(text: bytes) -> bytes:
    try:
        packed = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        raise ForgedError from None
    if len(packed) != _LAYOUT.size:
        raise ForgedError
    return packed
