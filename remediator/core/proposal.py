"""What may be done next, and the attempts that speak against it, sorted out once for all guards.

What is sorted out decides nothing: what follows from it, each guard says for itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from remediator.core.attempts import IN_PROGRESS, SPENDS_NOTHING, PastAttempt
from remediator.core.case import Case, Remediate
from remediator.core.catalogue import Offer, offer_of
from remediator.core.policy import PolicyRule, Rung


@dataclass(frozen=True, slots=True)
class Past:
    """The attempts of a history by what they matter for, each group in the history's order.

    ``underway`` may still change the machine, and ``counted`` spend allowance, on whatever target.
    ``own`` are those of ``counted`` on the target that ``target_key`` names, under one policy rule;
    there are none where nothing exact could be identified.
    """

    target_key: str | None
    underway: Sequence[PastAttempt]
    counted: Sequence[PastAttempt]
    own: Sequence[PastAttempt]


@dataclass(frozen=True, slots=True)
class Proposal:
    """Rung ``number`` of ``policy_rule``, which is carried out unless a guard holds."""

    policy_rule: PolicyRule
    number: int
    past: Past

    @property
    def rung(self) -> Rung:
        """What would be carried out."""
        return self.policy_rule.rungs[self.number]

    @property
    def offer(self) -> Offer:
        """What the catalogue says of it."""
        return offer_of(self.rung.remediation)

    def as_decision(self) -> Remediate:
        """Return the decision to carry it out."""
        return Remediate(self.policy_rule.name, self.number, self.rung)


def past_of(case: Case, policy_rule: PolicyRule) -> Past:
    """Return the attempts that the guards of *policy_rule* judge by."""
    target = case.observation.target if case.observation else None
    key = target.key if target else None
    attempts = case.history.attempts
    counted = [attempt for attempt in attempts if attempt.state not in SPENDS_NOTHING]
    return Past(
        target_key=key,
        underway=[attempt for attempt in attempts if attempt.state in IN_PROGRESS],
        counted=counted,
        own=[
            attempt
            for attempt in counted
            if attempt.target_key == key and attempt.policy_rule == policy_rule.name
        ],
    )
