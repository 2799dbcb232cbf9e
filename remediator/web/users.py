"""The users file: who may look at the page, who may command, and how they prove who they are.

One account a line, ``name:role:hash``. The hash is that of a password (werkzeug's scrypt) or of a
token, which is random and long enough that a plain SHA-256 keeps it.
"""

import contextlib
import enum
import fcntl
import functools
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from werkzeug.security import check_password_hash, generate_password_hash

from remediator.errors import SetupError

SHORTEST_PASSWORD = 12
_MODE = 0o640
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_SCRYPT = re.compile(r"scrypt:\d{1,6}:\d{1,2}:\d{1,2}\$[A-Za-z0-9]{8,64}\$[0-9a-f]{128}", re.ASCII)
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


class Role(enum.Enum):
    """What somebody may do: a viewer reads everything, an operator commands as well."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class User:
    """One account; ``hash`` is of its password, or of its token if ``is_token``."""

    name: str
    role: Role
    hash: str

    @property
    def is_token(self) -> bool:
        """Whether a program uses it, by a token, rather than a person, by a password."""
        return self.hash.startswith("sha256:")

    def __repr__(self) -> str:
        return f"User({self.name!r}, {self.role}, <secret>)"


class Users:
    """The accounts of one file, read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_at: tuple[int, int, int] | None = None
        self._users: dict[str, User] = {}

    def all(self) -> dict[str, User]:
        """Return the accounts by name; SetupError if the file cannot be used."""
        try:
            found = self.path.stat()
            read_at = (found.st_mtime_ns, found.st_size, found.st_ino)
            if read_at != self._read_at:
                self._users = _parsed(self.path, self.path.read_text(encoding="utf-8"))
                self._read_at = read_at
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise SetupError(f"users file {self.path} cannot be read: {reason}") from error
        return self._users

    def with_password(self, name: str, password: str) -> User | None:
        """Return the account *name* if that is its password.

        It takes as long for a name that nobody has.
        """
        user = self.all().get(name)
        can_log_in = user is not None and not user.is_token
        nobody = _hash_of_nobody()
        same = check_password_hash(user.hash if user and can_log_in else nobody, password)
        return user if same and can_log_in else None

    def with_token(self, token: str) -> User | None:
        """Return the account that has *token*."""
        given = hash_of_token(token)
        same = [u for u in self.all().values() if hmac.compare_digest(u.hash, given)]
        return same[0] if same else None

    def put(self, user: User, group: int | None = None) -> bool:
        """Add an account, or change it; return whether it is new.

        A file that is made now belongs to *group*, that of the program which has to read it.
        """
        with self._changing(group) as lines:
            others = [line for line in lines if _name_of(line) != user.name]
            is_new = len(others) == len(lines)
            lines[:] = [*others, f"{user.name}:{user.role.value}:{user.hash}"]
        return is_new

    def remove(self, name: str) -> bool:
        """Remove an account; False if there is none of that name."""
        with self._changing(None) as lines:
            others = [line for line in lines if _name_of(line) != name]
            is_there = len(others) < len(lines)
            lines[:] = others
        return is_there

    @contextlib.contextmanager
    def _changing(self, group: int | None) -> Iterator[list[str]]:
        """Yield the file's lines, and put what they have become in its place all at once."""
        try:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise SetupError(f"users file {self.path}: {error.strerror}") from error
        try:
            # Two who change it at the same time must not lose one of the changes.
            fcntl.flock(folder, fcntl.LOCK_EX)
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
            _parsed(self.path, text)
            lines = text.splitlines()
            yield lines
            self._replace("".join(f"{line}\n" for line in lines), group)
            os.fsync(folder)
        except OSError as error:
            reason = error.strerror
            raise SetupError(f"users file {self.path} cannot be written: {reason}") from error
        finally:
            os.close(folder)

    def _replace(self, text: str, group: int | None) -> None:
        fresh = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        owner = -1
        if self.path.exists():
            owner, group = self.path.stat().st_uid, self.path.stat().st_gid
        try:
            file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "w", encoding="utf-8") as stream:
                if os.geteuid() == 0:
                    os.fchown(file, owner, -1 if group is None else group)
                os.fchmod(file, _MODE)
                stream.write(text)
                stream.flush()
                os.fsync(file)
            fresh.replace(self.path)
        finally:
            fresh.unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"Users({str(self.path)!r}, <secret>)"


@functools.cache
def _hash_of_nobody() -> str:
    """Return the hash of a password nobody has, compared for a name that nobody has either.

    Made at the first login: it takes 30 MB for a tenth of a second, which no start should.
    """
    return generate_password_hash(secrets.token_hex(32), method="scrypt")


def user_with_password(name: str, role: Role, password: str) -> User:
    """Return an account for a person; ValueError if name or password will not do."""
    if len(password) < SHORTEST_PASSWORD:
        raise ValueError(f"a password has at least {SHORTEST_PASSWORD} characters")
    return User(_checked(name), role, generate_password_hash(password, method="scrypt"))


def user_with_token(name: str, role: Role) -> tuple[User, str]:
    """Return an account for a program, and its token, which is kept nowhere; or ValueError."""
    token = secrets.token_urlsafe(32)
    return User(_checked(name), role, hash_of_token(token)), token


def hash_of_token(token: str) -> str:
    """Return what is kept of a token."""
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f'"{name[:64]}" is no name: letters, digits, and . _ @ - after the first')
    return name


def _parsed(path: Path, text: str) -> dict[str, User]:
    """Return the accounts of a users file; SetupError names the first line that is none.

    One bad line voids the whole file: it may be the very one that was to take a role away.
    """
    users: dict[str, User] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.strip().partition(":")
        role, _, hash_ = rest.partition(":")
        is_hash = _SCRYPT.fullmatch(hash_) or _SHA256.fullmatch(hash_)
        if not _NAME.fullmatch(name) or role not in {r.value for r in Role} or not is_hash:
            raise SetupError(f"{path}:{number}: not an account, name:role:hash")
        if name in users:
            raise SetupError(f"{path}:{number}: {name} is there twice")
        users[name] = User(name, Role(role), hash_)
    return users


def _name_of(line: str) -> str:
    return "" if line.startswith("#") else line.strip().partition(":")[0]
