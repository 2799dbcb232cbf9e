from datetime import timedelta
from pathlib import Path

import pytest

from remediator.config.policy import parse_limit, read_policy
from remediator.core.catalogue import CATALOGUE, Offer, OptionKind
from remediator.core.matchers import Matcher
from remediator.core.policy import Audience, Limit, Mode, Option, Policy, PolicyRule, Rung, Warn
from remediator.errors import ConfigError, Problem
from tests.builders import DAY, HOUR, MINUTE

POLICIES = Path(__file__).parents[1] / "data" / "policies"
EXAMPLE = Path(__file__).parents[2] / "compose" / "policy.example.yaml"
BAD = sorted(POLICIES.glob("bad.*.yaml"))


def policy_of(folder: Path, text: str) -> Policy:
    path = folder / "policy.yaml"
    path.write_text(text)
    return read_policy(path)


def problems_of(folder: Path, text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        policy_of(folder, text)
    return caught.value.problems


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_a_bad_policy_is_refused_with_everything_that_is_wrong_in_order(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_policy(path)

    told = str(caught.value).replace(f"{POLICIES}/", "") + "\n"
    assert told == path.with_suffix(".txt").read_text()


def test_every_bad_policy_has_its_expected_output_and_no_output_outlives_its_policy() -> None:
    outputs = {path.stem for path in POLICIES.glob("*.txt")}

    assert outputs == {path.stem for path in BAD}
    assert len(outputs) > 15


def test_everything_a_policy_can_say_is_read() -> None:
    policy = read_policy(POLICIES / "good.full.yaml")

    idle = PolicyRule(
        name="idle container",
        matchers=(
            Matcher("alertname", "=", "DS01ContainerIdle"),
            Matcher("severity", "!=", "none"),
        ),
        rungs=(
            Rung(
                "stop-container",
                options={"grace": timedelta(seconds=90), "remove": False},
                attempts=(Limit(2, 6 * HOUR), Limit(3, DAY)),
                cooldown=15 * MINUTE,
                timeout=3 * MINUTE,
                verify_within=timedelta(seconds=90),
            ),
            Rung("notify-only"),
        ),
        mode=Mode.APPROVE,
        warn=Warn(5 * MINUTE, (Audience.OWNER, Audience.ADMINS)),
        tell=(Audience.OWNER,),
        escalate=(Audience.ADMINS, Audience.OWNER),
        approve_within=30 * MINUTE,
    )
    anything = PolicyRule(
        name="anything else",
        matchers=(Matcher("alertname", "=~", ".+"),),
        rungs=(Rung("stop-container", options={"grace": None, "remove": True}),),
    )
    assert policy == Policy(
        mode=Mode.ACT,
        rules=(idle, anything),
        never=(Matcher("ds01.monitoring", "=", "true"), Matcher("team", "=~", "infra|ops")),
        open_after=(Limit(3, HOUR), Limit(7, DAY)),
        budget={"stop-container": (Limit(2, HOUR),)},
    )


def test_what_is_left_out_is_the_careful_choice() -> None:
    assert read_policy(POLICIES / "good.minimal.yaml") == Policy()


def test_a_field_without_a_value_is_one_left_out() -> None:
    policy = read_policy(POLICIES / "good.null_means_left_out.yaml")

    rule = PolicyRule("a", (Matcher("alertname", "=", "A"),), (Rung("notify-only"),))
    assert policy == Policy(rules=(rule,))


def test_a_rung_without_limits_has_strict_ones() -> None:
    assert Rung("stop-container").attempts == (Limit(1, DAY),)
    assert Policy().open_after == (Limit(10, HOUR), Limit(30, DAY))


def test_the_example_is_a_good_policy_that_only_observes() -> None:
    policy = read_policy(EXAMPLE)

    assert policy.mode is Mode.OBSERVE
    assert policy.rule_for({"alertname": "DS01ContainerIdle"}) is not None
    assert policy.never_touches({"ds01.protected": "true"}) is not None


@pytest.mark.parametrize("word", ["true", "True", "yes", "on"])
def test_every_way_yaml_says_true_is_true(folder: Path, word: str) -> None:
    text = f"rules: [{{name: a, match: [a=b], do: [stop-container: {{remove: {word}}}]}}]"

    assert policy_of(folder, text).rules[0].rungs[0].options == {"remove": True}


@pytest.mark.parametrize("word", ["false", "no", "OFF"])
def test_every_way_yaml_says_false_is_false(folder: Path, word: str) -> None:
    text = f"rules: [{{name: a, match: [a=b], do: [stop-container: {{remove: {word}}}]}}]"

    assert policy_of(folder, text).rules[0].rungs[0].options == {"remove": False}


def test_a_cooldown_may_be_nothing_at_all(folder: Path) -> None:
    text = "rules: [{name: a, match: [a=b], do: [{notify-only: , cooldown: 0}]}]"

    assert policy_of(folder, text).rules[0].rungs[0].cooldown == timedelta()


@pytest.mark.parametrize("offer", CATALOGUE, ids=lambda offer: offer.name)
def test_every_option_on_offer_can_be_given(folder: Path, offer: Offer) -> None:
    sample: dict[OptionKind, tuple[str, Option]] = {
        OptionKind.BOOLEAN: ("true", True),
        OptionKind.DURATION: ("5s", timedelta(seconds=5)),
        OptionKind.GRACE: ("from-limits", None),
        OptionKind.PERCENT: ("70%", 70),
        OptionKind.UNIT: ("dcgm-exporter.service", "dcgm-exporter.service"),
    }
    options = ", ".join(f"{name}: {sample[kind][0]}" for name, kind in offer.options)
    text = f"rules: [{{name: a, match: [a=b], do: [{offer.name}: {{{options}}}]}}]"

    (rung,) = policy_of(folder, text).rules[0].rungs

    assert rung.remediation == offer.name
    assert rung.options == {name: sample[kind][1] for name, kind in offer.options}


@pytest.mark.parametrize(
    ("rung", "message"),
    [
        ("cap-power: ", '1:38: rules[0].do[0].cap-power: field "limit" is missing'),
        ("cap-power: {}", '1:50: rules[0].do[0].cap-power: field "limit" is missing'),
        (
            "cap-power: {limit: 70}",
            '1:58: rules[0].do[0].cap-power.limit: "70" is not a percentage from 1% to 100%',
        ),
        (
            "cap-power: {limit: 0%}",
            '1:58: rules[0].do[0].cap-power.limit: "0%" is not a percentage from 1% to 100%',
        ),
        (
            "restart-service: {unit: dcgm}",
            '1:63: rules[0].do[0].restart-service.unit: "dcgm" is not the full name of a unit such'
            " as dcgm-exporter.service",
        ),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(folder: Path, rung: str, message: str) -> None:
    text = f"rules: [{{name: a, match: [a=b], do: [{{{rung}}}]}}]"

    assert [str(p).rpartition(".yaml:")[2] for p in problems_of(folder, text)] == [message]


def test_all_rungs_of_a_ladder_act_on_the_same(folder: Path) -> None:
    rungs = "[{stop-container: }, {notify-only: }, {reset-gpu: }]"
    text = f"rules: [{{name: a, match: [a=b], do: {rungs}}}]"

    (problem,) = problems_of(folder, text)

    assert problem.message == (
        "a ladder has one target, but reset-gpu on a GPU and stop-container on a container:"
        " make two rules of it"
    )


def test_an_option_may_be_a_duration_and_options_may_be_left_out(folder: Path) -> None:
    text = """
    rules:
      - {name: a, match: [a=b], do: [{stop-container: {grace: 30d}}, {stop-container: }]}
    """

    first, second = policy_of(folder, text).rules[0].rungs

    assert first.options == {"grace": timedelta(days=30)}
    assert second.options == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 per 1h", Limit(3, HOUR)),
        (" 1 per 30d ", Limit(1, 30 * DAY)),
        ("007 per 90m", Limit(7, 90 * MINUTE)),
    ],
)
def test_a_limit_is_read(text: str, expected: Limit) -> None:
    assert parse_limit(text) == expected


def test_a_list_is_told_wherever_in_the_file_it_stands(folder: Path) -> None:
    rule = "{name: a, match: ['x=1'], do: [notify-only: {}], warn: {before: 5m, tell: [oncall]},"
    rule += " tell: [owner, oncall], escalate: {tell: [chat-only]}}"
    lists = "{oncall: [carol@example.org, 'größe@example.org'], chat-only: []}"

    policy = policy_of(folder, f"rules: [{rule}]\nlists: {lists}\n")

    oncall = Audience("oncall", ("carol@example.org", "größe@example.org"))
    [found] = policy.rules
    assert found.warn == Warn(5 * MINUTE, (oncall,))
    assert found.tell == (Audience.OWNER, oncall)
    assert found.escalate == (Audience("chat-only"),)
    assert policy.lists["oncall"] == oncall.addresses


@pytest.mark.parametrize(
    "address",
    [
        "a@b\\nBcc: x@y.example",
        "Alice <a@b.example>",
        "a b@c.example",
        "a@b@c",
        "@b",
        "a@",
    ],
)
def test_what_is_not_one_address_is_no_address(folder: Path, address: str) -> None:
    [problem] = problems_of(folder, f'rules: []\nlists: {{oncall: ["{address}"]}}\n')

    assert (problem.path, problem.line) == ("lists.oncall[0]", 2)
