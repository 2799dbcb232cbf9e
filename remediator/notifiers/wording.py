"""Put notices into words: a site's templates where they are good, else ours.

What a notice says must be told whatever is wrong with a template: if one of the site fails, that
is logged and counted, and the notice goes out in our words.
"""

import logging
from collections.abc import Callable

import jinja2

from remediator.core.notices import Digest, Notice, Text, clean
from remediator.notifiers.facts import Content, facts_for_html, facts_of, kind_of
from remediator.notifiers.templates import Templates, make_environment

log = logging.getLogger(__name__)


class Wording:
    """Renders notices and digests; *on_fault* is called when a site's template fails."""

    def __init__(self, templates: Templates, on_fault: Callable[[], None]) -> None:
        self._templates = templates
        self._own = make_environment(templates.texts)
        self._built_in = make_environment({})
        self._on_fault = on_fault

    def write(self, notice: Notice) -> Text:
        """Return the texts of one notice."""
        return self.write_either(notice)

    def write_digest(self, digest: Digest) -> Text:
        """Return the texts of several notices that are told as one."""
        return self.write_either(digest)

    def write_either(self, content: Content) -> Text:
        """Return the texts of a notice or of a digest."""
        kind = kind_of(content)
        if self._templates.has_own(kind):
            try:
                return _render(self._own, content)
            except Exception:
                self._on_fault()
                log.exception("a template for %s fails; the built-in one is used", kind)
        return _render(self._built_in, content)


def _render(environment: jinja2.Environment, content: Content) -> Text:
    kind = kind_of(content)
    facts = facts_of(content)
    subject = clean(environment.get_template(f"{kind}.subject.txt").render(facts))
    body = environment.get_template(f"{kind}.txt").render(facts)
    template = environment.select_template([f"{kind}.html", "notice.html"])
    html = template.render(facts_for_html(content, subject, body))
    return Text(subject, body.rstrip("\n") + "\n", html)
