"""A timeline on a terminal: each event once, with the seconds since the scenario began."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text


@dataclass(slots=True)
class Timeline:
    """Prints each event once, with the seconds since *began*."""

    console: Console
    began: datetime
    seen: set[str] = field(default_factory=set)

    def tell(self, key: str, word: str, text: str, at: datetime | None = None) -> None:
        """Print an event unless *key* was told before."""
        if key in self.seen:
            return
        self.seen.add(key)
        seconds = ((at or datetime.now(UTC)) - self.began).total_seconds()
        line = Text(f"{seconds:7.2f} s  ", style="dim")
        line.append(f"{word:<15}", style="bold cyan")
        line.append(text)
        self.console.print(line)
