"""Put notices into the outbox: words, and one row for each person to tell."""

from collections.abc import Iterable

from remediator.core.notices import Letter, Notice
from remediator.core.policy import Audience
from remediator.engine.parts import EngineParts


def tell(parts: EngineParts, notice: Notice, audiences: Iterable[Audience]) -> None:
    """Have everybody in *audiences* told; call it in the transaction that makes it true."""
    matter = notice.matter
    text = parts.wording.write(notice)
    letters = [
        Letter(
            kind=notice.kind,
            notifier=to.notifier,
            recipient=to.address,
            subject=text.subject,
            body=text.body,
            html=text.html,
            why=notice.why,
            advice=notice.advice,
            patience=min(notice.patience, parts.digest.within),
        )
        for to in parts.directory.recipients(audiences, matter.owner)
    ]
    parts.journal.notices.put(matter.incident, letters, parts.clock.now())
    parts.metrics.notices_made.labels(notice.kind.value).inc()
