"""Sessions: a signed cookie that says who has logged in, and until when it is believed.

Flask signs it with a key that is made at the first start. Nothing in it is secret but the token
against forged forms, which only its owner's browser can read. What an account may do is not in it:
that is looked up at each request, so that a role that was taken away is gone at once.
"""

import hmac
import os
import secrets
import time
from datetime import timedelta
from pathlib import Path

from flask import Flask, session
from flask import request as current_request
from flask.sessions import SecureCookieSessionInterface

from remediator.errors import SetupError
from remediator.web.proxies import Proxies

KEY_FILE = "session.key"
_KEY_BYTES = 32
_MOST_ENDED = 10_000


def session_key(folder: Path) -> bytes:
    """Return the key that signs sessions, made in *folder* if there is none; or SetupError."""
    path = folder / KEY_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{KEY_FILE}.{secrets.token_hex(8)}")
        if not path.exists():
            file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "wb") as stream:
                stream.write(secrets.token_bytes(_KEY_BYTES))
                stream.flush()
                os.fsync(file)
            try:
                # Whole or not at all, and never in place of one that somebody else has just made.
                path.hardlink_to(fresh)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        key = path.read_bytes()
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}") from error
    if len(key) < _KEY_BYTES:
        raise SetupError(f"{path} is too short for a key: remove it, and a new one is made")
    return key


def set_up_sessions(app: Flask, key: bytes, lasts: timedelta, proxies: Proxies) -> None:
    """Have *app* keep sessions in a cookie that no script reads and no other site sends."""
    app.secret_key = key
    app.session_interface = _Cookies(proxies)
    app.config.update(
        SESSION_COOKIE_NAME="remediator",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=lasts,
    )


class _Cookies(SecureCookieSessionInterface):
    """Flask's own sessions, whose cookie is marked secure where the connection is."""

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies

    def get_cookie_secure(self, app: Flask) -> bool:
        del app
        return self._proxies.is_secure(current_request)


class Sessions:
    """Begins, checks and ends the session of the request that is being answered."""

    def __init__(self, key: bytes, lasts: timedelta) -> None:
        self._key = key
        self._lasts = lasts
        self._ended: dict[str, float] = {}

    def begin(self, name: str, hash_: str) -> None:
        """Log *name* in, under a new session: nothing of the one before is kept."""
        session.clear()
        session.permanent = True
        session.update(
            id=secrets.token_urlsafe(16),
            name=name,
            mark=self._mark(hash_),
            until=time.time() + self._lasts.total_seconds(),
            form=secrets.token_urlsafe(32),
        )

    def name(self) -> str | None:
        """Return who has logged in, None if nobody has or it was too long ago."""
        name = session.get("name")
        if not isinstance(name, str) or float(session.get("until", 0)) <= time.time():
            return None
        return None if session.get("id") in self._ended else name

    def is_for(self, hash_: str) -> bool:
        """Tell whether the account still has the password that this session began with."""
        return hmac.compare_digest(str(session.get("mark", "")), self._mark(hash_))

    def end(self) -> None:
        """Log out: also a copy of the cookie is of no more use while this process lives."""
        now = time.time()
        if session.get("id"):
            self._ended = {i: until for i, until in self._ended.items() if until > now}
            if len(self._ended) < _MOST_ENDED:
                self._ended[session["id"]] = float(session.get("until", 0))
        session.clear()

    def form_token(self) -> str:
        """Return what a form of this session must send along."""
        if "form" not in session:
            session["form"] = secrets.token_urlsafe(32)
        return str(session["form"])

    def is_own_form(self, token: str) -> bool:
        """Tell whether a form with *token* was made for this session."""
        expected = session.get("form")
        return isinstance(expected, str) and hmac.compare_digest(token.encode(), expected.encode())

    def _mark(self, hash_: str) -> str:
        return hmac.digest(self._key, hash_.encode(), "sha256").hex()[:32]
