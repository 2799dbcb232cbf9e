"""Every error this package raises on purpose.

    RemediatorError
        ConfigError                  a configuration file cannot be used; lists all problems
        DeliveryError                a request body is not an Alertmanager delivery
        StoreError                   a database cannot be opened, read or written
            InboxError
            JournalError
            RecordError
        SourceError                  Prometheus, Docker, NVML or /proc gave no usable answer
        RemediationError             a remediation did not come to its end
            TargetGoneError          what the alert names is no longer there
            RefusedError             it was refused; nothing was changed
            EffectUnknownError       something may have been changed: verify before going on
        CommandError                 a command cannot be followed; the text is the answer
        NotifyError                  one notifier could not deliver one message
        ReportError                  a month cannot be reported, or its file not be written
        SetupError                   a program cannot start as it was told to; says what to do

Anything else that escapes is a bug: it is logged with its traceback, the attempt is settled as
unknown, and the process goes on with the next alert.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class RemediatorError(Exception):
    """The root of everything raised on purpose."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in one file; lines and columns count from 1."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {path}{self.message}"


class ConfigError(RemediatorError):
    """A file cannot be used; ``problems`` holds everything wrong with it, in order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class DeliveryError(RemediatorError):
    """A request body is not a delivery of Alertmanager's webhook version 4."""


class CommandError(RemediatorError):
    """A command cannot be followed; the text is the answer to whoever gave it."""


class StoreError(RemediatorError):
    """A database cannot be opened, read or written; nothing was stored."""


class InboxError(StoreError):
    """The inbox failed: what was being delivered must not be acknowledged."""


class JournalError(StoreError):
    """The journal failed: nothing may be done to the machine until it works again."""


class RecordError(StoreError):
    """The record of what was quiesced failed: nothing may be stopped until it works again."""


class SourceError(RemediatorError):
    """A source gave no usable answer; the reason is for the operator."""


class RemediationError(RemediatorError):
    """A remediation did not come to its end; the subclass says what that leaves behind."""


class TargetGoneError(RemediationError):
    """What was to be acted on is not there any more, or was replaced."""


class RefusedError(RemediationError):
    """It was refused before anything was changed."""


class EffectUnknownError(RemediationError):
    """Something may have been changed: time ran out or the answer was lost."""


class NotifyError(RemediatorError):
    """One notifier could not deliver one message; ``permanent`` means trying again is useless."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class ReportError(RemediatorError):
    """A month cannot be reported, or its file cannot be written; the message says why."""


class SetupError(RemediatorError):
    """A program cannot start as it was told to; the message says what to change."""
