from dataclasses import replace
from datetime import timedelta

import pytest

from remediator.core.catalogue import CATALOGUE, offer_of
from remediator.core.observation import Source
from remediator.core.targets import (
    Named,
    PhysicalGpu,
    Process,
    Service,
    Subject,
    Target,
    UnstartedContainer,
    subject_of,
)
from tests.builders import NOON, TARGET, a_report, an_alert, an_observation


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (
            {"container_id": "abc", "UUID": "GPU-1", "instance": "n:9400"},
            Subject("container", "abc"),
        ),
        ({"UUID": "GPU-1", "uuid": "GPU-2", "instance": "n:9400"}, Subject("gpu", "GPU-1")),
        ({"uuid": "GPU-2", "name": "dcgm.service"}, Subject("gpu", "GPU-2")),
        ({"name": "dcgm.service", "instance": "n:9100"}, Subject("service", "dcgm.service")),
        ({"instance": "n:9100", "alertname": "A"}, Subject("host", "n:9100")),
        (
            {"UUID": "GPU-1", "pid": "7", "start_ticks": "99", "instance": "n:9101"},
            Subject("process", "7@99"),
        ),
        ({"UUID": "GPU-1", "pid": "7", "instance": "n:9101"}, Subject("gpu", "GPU-1")),
        ({"container_id": "", "instance": "n:9100"}, Subject("host", "n:9100")),
        ({"alertname": "A"}, Subject("alert", "A")),
        ({}, Subject("alert", "")),
    ],
)
def test_an_alert_is_about_the_most_exact_thing_it_names(
    labels: dict[str, str], expected: Subject
) -> None:
    assert subject_of(labels) == expected


def test_a_container_that_was_restarted_is_another_target() -> None:
    restarted = replace(TARGET, started_at=TARGET.started_at + timedelta(microseconds=1))

    assert restarted.key != TARGET.key
    assert TARGET.key == f"container:{'c' * 64}@2026-03-01T07:00:00+00:00"


@pytest.mark.parametrize(
    ("target", "key"),
    [
        (UnstartedContainer("c1", NOON), "container:c1@created/2026-03-01T12:00:00+00:00"),
        (Process(7, 99, "boot"), "process:7@99/boot"),
        (PhysicalGpu("GPU-1"), "gpu:GPU-1"),
        (Service("dcgm.service", "gpu1"), "service:dcgm.service@gpu1"),
    ],
)
def test_a_target_is_known_by_all_that_tells_it_from_a_namesake(target: Target, key: str) -> None:
    assert target.key == key


def test_what_has_only_a_name_is_known_by_it() -> None:
    assert Named(Subject("host", "n:9100")).key == "host:n:9100"


def test_an_observation_finds_what_a_source_said() -> None:
    said = a_report(Source.DOCKER)
    seen = an_observation(a_report(Source.PROMETHEUS), said)

    assert seen.report_of(Source.DOCKER) is said
    assert seen.report_of(Source.NVML) is None


def test_an_alert_without_a_name_has_an_empty_one() -> None:
    assert replace(an_alert(), labels={}).name == ""
    assert an_alert(name="GPUHot").name == "GPUHot"


def test_what_is_on_offer_is_found_by_its_name() -> None:
    assert [offer_of(offer.name) for offer in CATALOGUE] == list(CATALOGUE)
    with pytest.raises(KeyError):
        offer_of("make-coffee")


def test_stopping_takes_something_away_and_telling_does_not() -> None:
    assert offer_of("stop-container").destructive
    assert offer_of("stop-container").acts
    assert not offer_of("notify-only").destructive
    assert not offer_of("notify-only").acts
