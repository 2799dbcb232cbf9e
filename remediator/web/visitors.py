"""Who asks: by a proxy's word, an account's token, a session, or the receiver's own token."""

from dataclasses import dataclass

from flask import Request

from remediator.config.page import PageSettings
from remediator.web.auth import TokenFile
from remediator.web.proxies import Proxies
from remediator.web.sessions import Sessions
from remediator.web.users import Role, User, Users

TOKEN_NAME = "token"  # noqa: S105 - what who has the receiver's token is called


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who was let in; ``by_browser`` if the browser vouches for them by itself.

    Then another site could have the browser ask, so that a form has to prove where it is from.
    """

    name: str
    role: Role
    by_browser: bool = True
    can_log_out: bool = False

    @property
    def is_operator(self) -> bool:
        """Whether they may command."""
        return self.role is Role.OPERATOR


class Visitors:
    """Tells who sends a request; SetupError where that cannot be told.

    Without accounts, who knows the receiver's token may look, and where there is no token either,
    everybody on this machine. With accounts the token delivers alerts and nothing else.
    """

    def __init__(
        self,
        page: PageSettings,
        token: TokenFile | None,
        proxies: Proxies,
        sessions: Sessions,
    ) -> None:
        self._page = page
        self._token = token
        self._proxies = proxies
        self._sessions = sessions
        self._users = Users(page.users_file) if page.users_file else None

    @property
    def has_names(self) -> bool:
        """Whether people log in by a name."""
        return self._users is not None

    def identify(self, request: Request) -> Visitor | None:
        """Return who sends *request*, None for a stranger."""
        name = self._proxies.user(request)
        if name is not None:
            role = Role.OPERATOR if name in self._page.operators else Role.VIEWER
            return Visitor(name, role)
        authorization = request.headers.get("Authorization")
        if authorization is not None:
            return self._bearer(authorization)
        if not self._page.has_accounts and self._token is None:
            return Visitor("anybody", Role.VIEWER)
        return self._logged_in()

    def log_in(self, name: str, password: str) -> bool:
        """Begin a session if *name* has that password."""
        if self._users is not None:
            user = self._users.with_password(name, password)
            if user is not None:
                self._sessions.begin(user.name, user.hash)
            return user is not None
        if self._page.has_accounts or self._token is None:
            return False
        if not self._token.accepts(f"Bearer {password}"):
            return False
        self._sessions.begin(TOKEN_NAME, self._token.read())
        return True

    def _bearer(self, authorization: str) -> Visitor | None:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        if self._users is not None:
            user = self._users.with_token(given.strip())
            return None if user is None else Visitor(user.name, user.role, by_browser=False)
        if self._page.has_accounts or self._token is None:
            return None
        if not self._token.accepts(authorization):
            return None
        return Visitor(TOKEN_NAME, Role.VIEWER, by_browser=False)

    def _logged_in(self) -> Visitor | None:
        name = self._sessions.name()
        if name is None:
            return None
        user = self._account(name)
        if user is None or not self._sessions.is_for(user.hash):
            return None
        return Visitor(user.name, user.role, can_log_out=True)

    def _account(self, name: str) -> User | None:
        if self._users is not None:
            user = self._users.all().get(name)
            return None if user is None or user.is_token else user
        if self._page.has_accounts or self._token is None or name != TOKEN_NAME:
            return None
        return User(TOKEN_NAME, Role.VIEWER, self._token.read())


def check_page(page: PageSettings) -> None:
    """Raise SetupError if nobody could get in because a file cannot be used."""
    if page.users_file is not None:
        Users(page.users_file).all()
    if page.proxy_secret_file is not None:
        TokenFile(page.proxy_secret_file).read()
