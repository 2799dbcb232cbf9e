"""The accounts of this machine, from wherever its name service takes them."""

import pwd


class Accounts:
    """Looks users up; an answer may take as long as the directory behind it."""

    def exists(self, name: str) -> bool:
        """Tell whether there is an account *name*."""
        try:
            pwd.getpwnam(name)
        except (KeyError, ValueError):
            return False
        return True

    def comment_of(self, name: str) -> str | None:
        """Return the comment (GECOS) of account *name*, None if there is no such account."""
        try:
            return pwd.getpwnam(name).pw_gecos
        except (KeyError, ValueError):
            return None

    def name_of_uid(self, uid: int) -> str | None:
        """Return the name of account number *uid*, or None."""
        try:
            return pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError):
            return None
