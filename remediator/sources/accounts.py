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

    def name_of_uid(self, uid: int) -> str | None:
        """Return the name of account number *uid*, or None."""
        try:
            return pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError):
            return None
