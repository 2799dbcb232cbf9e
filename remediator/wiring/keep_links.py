"""Make the links that let an owner keep a container, where the settings want them."""

import logging
import re
from datetime import datetime, timedelta
from pathlib import Path

from remediator.config.settings import Settings
from remediator.errors import SetupError
from remediator.keep_links import KeepLink, LinkKey

log = logging.getLogger(__name__)

_FULL_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
# By then whatever the notice was about has long come to its end.
_LASTS = timedelta(hours=24)


def key_file_of(settings: Settings) -> Path:
    """Return where the key is: the receiver, which makes it, may only write in the inbox."""
    return settings.link_key_file or settings.inbox_dir / "link.key"


def make_key(settings: Settings) -> LinkKey | None:
    """Return the key, made if there was none; None where no links are wanted."""
    if not settings.page_url:
        return None
    key = LinkKey(key_file_of(settings))
    key.make()
    return key


class KeepLinks:
    """Links below *page_url*; none where that is empty or the key cannot be had."""

    def __init__(self, page_url: str, key: LinkKey) -> None:
        self._page_url = page_url
        self._key = key

    def to_keep(
        self, run: tuple[str, datetime | None], incident: int, longest: timedelta, now: datetime
    ) -> str:
        """Return a link by which whoever has it can keep a container; nothing if there is none."""
        container, started_at = run
        if not self._page_url or not _FULL_ID.fullmatch(container):
            return ""
        link = KeepLink(container, started_at, incident, longest, now + _LASTS)
        try:
            return f"{self._page_url}/extend?k={self._key.sign(link)}"
        except SetupError as error:
            log.warning("a notice goes without its link: %s", error)
            return ""
