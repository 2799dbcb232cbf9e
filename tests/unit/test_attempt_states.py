import pytest

from remediator.core.attempts import IN_PROGRESS, LEGAL_MOVES, SPENDS_NOTHING, AttemptState

END_STATES = {AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.REFUSED}


def test_every_state_says_what_may_follow() -> None:
    assert set(LEGAL_MOVES) == set(AttemptState)


@pytest.mark.parametrize("state", AttemptState)
def test_what_is_in_progress_can_go_on_and_what_is_over_cannot(state: AttemptState) -> None:
    assert bool(LEGAL_MOVES[state]) is (state in IN_PROGRESS)
    assert (state in END_STATES) is (state not in IN_PROGRESS)


@pytest.mark.parametrize("state", AttemptState)
def test_no_state_follows_itself_and_nothing_goes_back_to_planned(state: AttemptState) -> None:
    assert state not in LEGAL_MOVES[state]
    assert AttemptState.PLANNED not in LEGAL_MOVES[state]


def test_what_may_have_changed_something_is_never_called_refused() -> None:
    assert AttemptState.REFUSED not in LEGAL_MOVES[AttemptState.UNKNOWN]


@pytest.mark.parametrize("state", AttemptState)
def test_only_what_was_refused_spends_no_allowance(state: AttemptState) -> None:
    assert (state in SPENDS_NOTHING) is (state is AttemptState.REFUSED)
