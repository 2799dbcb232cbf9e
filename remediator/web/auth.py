"""Who may deliver: the bearer of the token in a file."""

import hmac
import stat
from pathlib import Path

from remediator.errors import SetupError
from remediator.web.framing import Announced

DELIVERIES = "/api/v1/alerts"
LARGEST_FORM = 16 * 1024
_SHORTEST = 16


class TokenFile:
    """A secret in a file, read at each request so that it can be replaced without a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str:
        """Return the token; SetupError if there is none that could be used."""
        try:
            token = self._path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SetupError(f"token file {self._path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise SetupError(f"token file {self._path} is not UTF-8 text") from error
        if len(token) < _SHORTEST:
            raise SetupError(
                f"token file {self._path} holds fewer than {_SHORTEST} characters:"
                " make a better one with: openssl rand -hex 32"
            )
        return token

    def accepts(self, authorization: str | None) -> bool:
        """Tell whether an ``Authorization`` header bears the token; SetupError as `read`."""
        scheme, _, given = (authorization or "").partition(" ")
        expected = self.read()
        same = hmac.compare_digest(given.strip().encode(), expected.encode())
        return same and scheme.lower() == "bearer"

    def is_exposed(self) -> bool:
        """Tell whether everybody on this machine may read it; SetupError if it is not there."""
        try:
            return bool(self._path.stat().st_mode & stat.S_IROTH)
        except OSError as error:
            raise SetupError(f"token file {self._path} cannot be read: {error.strerror}") from error

    def __repr__(self) -> str:
        return f"TokenFile({str(self._path)!r}, <secret>)"


def accepts_body(token: TokenFile | None, announced: Announced) -> bool:
    """Tell whether what this client sends is worth taking in; the answer says why not.

    A delivery needs the token. Whatever else is sent is a form, which is short.
    """
    if announced.path != DELIVERIES:
        return announced.length is not None and announced.length <= LARGEST_FORM
    try:
        return token is None or token.accepts(announced.authorization)
    except SetupError:
        return False
