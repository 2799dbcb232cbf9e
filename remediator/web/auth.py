"""Who may deliver: the bearer of the token in a file."""

import hmac
from pathlib import Path

from remediator.errors import SetupError

_SHORTEST = 16


class TokenFile:
    """A secret in a file, read at each request so that it can be replaced without a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str:
        """Return the token; SetupError if there is none that could be used."""
        try:
            token = self._path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SetupError(f"token file {self._path} cannot be read: {error}") from error
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

    def __repr__(self) -> str:
        return f"TokenFile({str(self._path)!r}, <secret>)"
