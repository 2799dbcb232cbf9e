import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from remediator.core.alerts import Alert
from remediator.core.attempts import Proof, Task
from remediator.core.containers import Mount
from remediator.core.gpu_claims import GpuClaims
from remediator.core.gpus import GpuGauges, Reading
from remediator.core.limits import LimitsBook
from remediator.core.observation import Observation, Source, Verdict
from remediator.core.policy import Option
from remediator.core.targets import Container, Named, Subject
from remediator.errors import EffectUnknownError, RefusedError, TargetGoneError
from remediator.remediations import idle_container
from remediator.remediations.senses import Senses
from remediator.remediations.stop_container import StopContainer
from remediator.sources.prometheus import Confirmation, Sample
from tests.builders import HOUR, MINUTE, SECOND, THREE_SOURCES, an_alert
from tests.fakes import (
    CPU,
    RECEIVED,
    SENT,
    FakeContainer,
    FakeHost,
    HandClock,
    MemorySteps,
    a_mig_device,
)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def host(clock: HandClock) -> FakeHost:
    return FakeHost(clock)


@pytest.fixture
def stop(host: FakeHost) -> StopContainer:
    senses = Senses(host.prometheus, host.docker, host.driver, host.kernel, host.users)
    return StopContainer(senses, host.docker, host.limits)


def alert_about(container: FakeContainer) -> Alert:
    return an_alert({"container_id": container.facts.id, "container": container.facts.name})


def look(host: FakeHost, stop: StopContainer, container: FakeContainer) -> Observation:
    """Observe an alert that Prometheus confirms."""
    host.fire(alert_about(container))
    return stop.observe(alert_about(container), host.clock.now(), {})


def verdicts(seen: Observation) -> dict[Source, Verdict]:
    return {report.source: report.verdict for report in seen.reports}


def said(seen: Observation, source: Source) -> str:
    report = seen.report_of(source)
    assert report is not None
    return report.says


def a_task(
    container: FakeContainer, *, remove: bool = True, grace: timedelta | None = None
) -> Task:
    options: dict[str, Option] = {"remove": remove, "grace": grace}
    context: Mapping[str, str | float] = {"gpus": "0", "grace_seconds": 60.0}
    assert container.facts.started_at is not None
    target = Container(container.facts.id, container.facts.started_at)
    return Task(target, options=options, context=context)


def test_an_idle_container_is_agreed_on_by_all_three_sources(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run()

    seen = look(host, stop, container)

    assert verdicts(seen) == dict.fromkeys(THREE_SOURCES, Verdict.AGREES)
    assert seen.target == Container(container.facts.id, host.clock.now() - 5 * HOUR)
    assert (seen.owner, seen.title, seen.exempt) == ("alice", "idle", None)
    assert seen.context == {
        "gpus": "0",
        "gpu_shares": "1",
        "gpu_watts": "",
        "container": "idle",
        "grace_seconds": 60.0,
        "max_runtime_seconds": 172800.0,
        "keepalive_max_seconds": 86400.0,
        "summary": "it lies idle",
    }
    assert "GPU 0 is 0 % used by 1 of its processes" in said(seen, Source.NVML)
    assert host.docker.calls == []


def test_what_prometheus_does_not_say_is_no_agreement(host: FakeHost, stop: StopContainer) -> None:
    container = host.run()

    seen = stop.observe(alert_about(container), host.clock.now(), {})

    assert verdicts(seen)[Source.PROMETHEUS] is Verdict.DISAGREES


def test_a_container_that_docker_does_not_know_is_gone(host: FakeHost, stop: StopContainer) -> None:
    container = host.run()
    host.docker.vanish(container.facts.id)

    seen = look(host, stop, container)

    assert verdicts(seen)[Source.DOCKER] is Verdict.GONE
    assert seen.target is None


@pytest.mark.parametrize("name", ["", "idle", "c" * 12, "C" * 64, "c" * 64 + "\n", "../" * 22])
def test_a_container_is_read_by_its_full_id_and_nothing_else(
    host: FakeHost, stop: StopContainer, name: str
) -> None:
    host.run("idle")

    seen = stop.observe(an_alert({"container_id": name}), host.clock.now(), {})

    assert verdicts(seen)[Source.DOCKER] is Verdict.GONE
    assert "not a full container id" in said(seen, Source.DOCKER)


def test_a_silent_docker_is_no_agreement(host: FakeHost, stop: StopContainer) -> None:
    container = host.run()
    host.docker.silent = "connection refused"

    seen = look(host, stop, container)

    assert verdicts(seen)[Source.DOCKER] is Verdict.SILENT
    assert seen.target is None


@pytest.mark.parametrize("state", ["exited", "created", "dead", "removing"])
def test_a_container_that_does_not_run_is_gone(
    host: FakeHost, stop: StopContainer, state: str
) -> None:
    container = host.run()
    container.facts = replace(container.facts, state=state)
    host.driver.silent = "the driver hangs"

    seen = look(host, stop, container)

    # Who does not tell what it does must not hide that it is gone.
    assert verdicts(seen) == {Source.PROMETHEUS: Verdict.AGREES, Source.DOCKER: Verdict.GONE}


def test_a_container_that_was_restarted_after_the_alert_began_is_another_one(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run(age=10 * MINUTE)

    seen = look(host, stop, container)

    assert verdicts(seen)[Source.DOCKER] is Verdict.GONE
    assert "started anew" in said(seen, Source.DOCKER)


def test_a_container_without_gpu_access_is_none_of_our_business(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run(gpus=(), claims=GpuClaims())

    seen = look(host, stop, container)

    assert verdicts(seen)[Source.DOCKER] is Verdict.DISAGREES
    assert "no GPU access" in said(seen, Source.DOCKER)


@pytest.mark.parametrize("label", ["ds01.monitoring", "ds01.protected"])
@pytest.mark.parametrize(
    ("value", "exempt"), [("true", True), ("True", True), ("false", False), ("", False)]
)
def test_infrastructure_is_exempt(
    host: FakeHost, stop: StopContainer, label: str, value: str, exempt: bool
) -> None:
    seen = look(host, stop, host.run(labels={label: value}))

    assert (seen.exempt is not None) is exempt


def test_who_may_idle_is_exempt(host: FakeHost, stop: StopContainer) -> None:
    host.limits.book = LimitsBook(users={"alice": {"idle_timeout": None}})

    assert look(host, stop, host.run()).exempt == "the limits of group default let it idle"


def test_a_devcontainer_may_idle(host: FakeHost, stop: StopContainer) -> None:
    seen = look(host, stop, host.run(labels={"devcontainer.local_folder": "/home/alice/x"}))

    assert seen.exempt is not None
    assert seen.owner == "alice"


@pytest.mark.parametrize(
    ("mtime", "ctime", "exempt"),
    [
        pytest.param(-HOUR, -HOUR, True, id="touched an hour ago"),
        pytest.param(-25 * HOUR, -25 * HOUR, False, id="touched yesterday"),
        pytest.param(1000 * HOUR, -HOUR, True, id="dated ahead, but written lately"),
        pytest.param(1000 * HOUR, -25 * HOUR, False, id="dated ahead, and written yesterday"),
        pytest.param(-24 * HOUR, -24 * HOUR, False, id="to the second"),
        pytest.param(-24 * HOUR + SECOND, -HOUR, True, id="a second before its end"),
    ],
)
def test_a_keep_alive_protects_for_as_long_as_the_kernel_vouches_for_it(
    host: FakeHost, stop: StopContainer, mtime: timedelta, ctime: timedelta, exempt: bool
) -> None:
    container = host.run()
    now = host.clock.now()
    container.keep_alive = (now + mtime, now + ctime)

    seen = look(host, stop, container)

    assert (seen.exempt is not None) is exempt
    assert verdicts(seen)[Source.DOCKER] is Verdict.AGREES


def test_a_broken_limits_file_stops_nobody(host: FakeHost, stop: StopContainer) -> None:
    host.limits.is_good = False

    seen = look(host, stop, host.run())

    assert verdicts(seen)[Source.DOCKER] is Verdict.SILENT
    assert "nobody is stopped" in said(seen, Source.DOCKER)


def test_a_silent_driver_is_no_agreement(host: FakeHost, stop: StopContainer) -> None:
    host.driver.silent = "driver not loaded"

    assert verdicts(look(host, stop, host.run()))[Source.NVML] is Verdict.SILENT


def test_a_silent_kernel_is_no_agreement(host: FakeHost, stop: StopContainer) -> None:
    container = host.run()
    host.kernel.silent = "cannot read /proc"

    seen = look(host, stop, container)

    assert verdicts(seen)[Source.NVML] is Verdict.SILENT


def test_a_busy_gpu_is_not_idle(host: FakeHost, stop: StopContainer) -> None:
    host.driver.utilization["GPU-0"] = 80

    seen = look(host, stop, host.run())

    assert verdicts(seen)[Source.NVML] is Verdict.DISAGREES
    assert "GPU 0 is 80 % used" in said(seen, Source.NVML)


def test_a_gpu_it_uses_without_a_claim_counts_too(host: FakeHost, stop: StopContainer) -> None:
    host.driver.utilization["GPU-1"] = 80

    seen = look(host, stop, host.run(gpus=("GPU-0", "GPU-1"), claims=GpuClaims(ids=("GPU-0",))))

    assert verdicts(seen)[Source.NVML] is Verdict.DISAGREES


def test_one_of_two_gpus_being_busy_is_not_idle(host: FakeHost, stop: StopContainer) -> None:
    host.driver.utilization["GPU-1"] = 80

    seen = look(host, stop, host.run(gpus=("GPU-0", "GPU-1")))

    assert verdicts(seen)[Source.NVML] is Verdict.DISAGREES


def test_a_mere_count_of_gpus_is_resolved_by_its_processes(
    host: FakeHost, stop: StopContainer
) -> None:
    host.driver.utilization["GPU-1"] = 80
    busy = host.run("busy", gpus=("GPU-1",), claims=GpuClaims(count=1))
    idle = host.run("idle", gpus=("GPU-0",), claims=GpuClaims(count=1))

    assert verdicts(look(host, stop, busy))[Source.NVML] is Verdict.DISAGREES
    assert verdicts(look(host, stop, idle))[Source.NVML] is Verdict.AGREES


@pytest.mark.parametrize(
    ("gpus", "claims", "others", "shares"),
    [
        pytest.param(("GPU-0", "GPU-1"), None, (), "1, 1", id="two of its own"),
        pytest.param((), GpuClaims(ids=("GPU-0",)), (), "1", id="claimed and not used"),
        pytest.param(("GPU-0", "GPU-1"), None, ("GPU-0",), "0, 1", id="one is used by others"),
        pytest.param(("GPU-0",), GpuClaims(count=1), (), "1, 0", id="a mere count"),
        pytest.param((), GpuClaims(count=1), (), "0, 0", id="nobody knows which"),
    ],
)
def test_what_its_end_gives_back_is_what_it_had_to_itself(
    host: FakeHost,
    stop: StopContainer,
    gpus: tuple[str, ...],
    claims: GpuClaims | None,
    others: tuple[str, ...],
    shares: str,
) -> None:
    container = host.run(gpus=gpus, claims=claims)
    if others:
        host.run("other", gpus=others)

    assert look(host, stop, container).context["gpu_shares"] == shares


def test_what_begins_to_work_while_prometheus_takes_its_time_is_busy(
    host: FakeHost, stop: StopContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_container, "_READING_KEEPS", timedelta())
    readings, confirm = host.driver.readings, host.prometheus.confirm
    was_asked = threading.Event()

    def read() -> tuple[Reading, ...]:
        found = readings()
        was_asked.set()
        return found

    def slow(alert: Alert, now: datetime) -> Confirmation:
        assert was_asked.wait(10)
        host.driver.utilization["GPU-0"] = 90.0
        return confirm(alert, now)

    monkeypatch.setattr(host.driver, "readings", read)
    monkeypatch.setattr(host.prometheus, "confirm", slow)

    seen = look(host, stop, host.run())

    assert verdicts(seen)[Source.NVML] is Verdict.DISAGREES


def test_a_driver_that_does_not_say_what_a_gpu_draws_holds_nothing_up(
    host: FakeHost, stop: StopContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_container, "_WATTS_WITHIN", SECOND / 100)
    goes_on = threading.Event()

    def hang(uuid: str) -> GpuGauges:
        assert goes_on.wait(10), uuid
        return GpuGauges(power_watts=61.25)

    monkeypatch.setattr(host.driver, "gauges", hang)

    seen = look(host, stop, host.run(gpus=("GPU-0",)))
    goes_on.set()

    assert verdicts(seen) == dict.fromkeys(THREE_SOURCES, Verdict.AGREES)
    assert seen.context["gpu_watts"] == ""


def test_what_an_idle_gpu_draws_is_written_down(host: FakeHost, stop: StopContainer) -> None:
    host.driver.gauges_of["GPU-0"] = GpuGauges(power_watts=61.25)

    assert look(host, stop, host.run()).context["gpu_watts"] == "61.25"


def test_what_others_use_as_well_draws_nothing_for_the_container(
    host: FakeHost, stop: StopContainer
) -> None:
    host.driver.gauges_of["GPU-0"] = GpuGauges(power_watts=61.25)
    container = host.run()
    host.run("other", gpus=("GPU-0",))

    assert look(host, stop, container).context["gpu_watts"] == ""


def test_a_mig_device_gives_back_its_fraction(host: FakeHost, stop: StopContainer) -> None:
    device = a_mig_device()
    host.driver.add(device)

    context = look(host, stop, host.run(gpus=(device.uuid,))).context

    assert (context["gpu_shares"], context["gpu_watts"]) == ("0.1429", "")


@pytest.mark.parametrize(
    ("claims", "verdict"),
    [
        pytest.param(GpuClaims(ids=("GPU-0",)), Verdict.SILENT, id="its GPU"),
        pytest.param(GpuClaims(all=True), Verdict.SILENT, id="one of its GPUs"),
        pytest.param(GpuClaims(count=1), Verdict.SILENT, id="perhaps its GPU"),
        pytest.param(GpuClaims(ids=("GPU-1",)), Verdict.AGREES, id="another GPU"),
    ],
)
def test_a_lost_gpu_that_may_be_its_own_counts_as_busy(
    host: FakeHost, stop: StopContainer, claims: GpuClaims, verdict: Verdict
) -> None:
    host.driver.lost["GPU-0"] = "GPU is lost"

    seen = look(host, stop, host.run(gpus=(), claims=claims))

    assert verdicts(seen)[Source.NVML] is verdict


@pytest.mark.parametrize(
    ("own", "others", "verdict"),
    [
        pytest.param(0, 80, Verdict.AGREES, id="the other one works"),
        pytest.param(80, 0, Verdict.DISAGREES, id="it works"),
        pytest.param(None, None, Verdict.SILENT, id="nobody can tell"),
    ],
)
def test_on_a_shared_gpu_its_own_part_counts(
    host: FakeHost,
    stop: StopContainer,
    own: float | None,
    others: float | None,
    verdict: Verdict,
) -> None:
    container, other = host.run("idle"), host.run("other")
    host.driver.utilization["GPU-0"] = 80
    if own is not None and others is not None:
        host.driver.shares["GPU-0"] = {container.facts.pid: own, other.facts.pid: others}

    assert verdicts(look(host, stop, container))[Source.NVML] is verdict


def test_a_shared_gpu_that_does_nothing_needs_no_shares(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run("idle")
    host.run("other")

    assert verdicts(look(host, stop, container))[Source.NVML] is Verdict.AGREES


def test_a_busy_gpu_without_visible_processes_counts_as_busy(
    host: FakeHost, stop: StopContainer
) -> None:
    host.driver.utilization["GPU-0"] = 80

    seen = look(host, stop, host.run(gpus=(), claims=GpuClaims(ids=("GPU-0",))))

    assert verdicts(seen)[Source.NVML] is Verdict.SILENT


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(0.0, Verdict.AGREES), (0.5, Verdict.AGREES), (0.7, Verdict.DISAGREES)]
)
def test_cpu_time_since_the_last_scrape_tells_whether_it_works(
    host: FakeHost, stop: StopContainer, seconds: float, verdict: Verdict
) -> None:
    # 2 % of a core are 0.6 s in the 30 s since the scrape.
    container = host.run()
    host.kernel.processes[container.facts.pid].cpu_seconds += seconds

    assert verdicts(look(host, stop, container))[Source.NVML] is verdict


@pytest.mark.parametrize(
    ("received", "sent", "verdict"),
    [
        pytest.param(40_000, 40_000, Verdict.AGREES, id="some"),
        pytest.param(0, 110_000, Verdict.DISAGREES, id="sends much"),
        pytest.param(110_000, 0, Verdict.DISAGREES, id="receives much"),
        pytest.param(60_000, 60_000, Verdict.DISAGREES, id="both together"),
    ],
)
def test_traffic_since_the_last_scrape_tells_whether_it_works(
    host: FakeHost, stop: StopContainer, received: int, sent: int, verdict: Verdict
) -> None:
    # 1 MiB in 5 minutes is 105 kB in the 30 s since the scrape.
    container = host.run()
    host.kernel.processes[container.facts.pid].network = (1000 + received, 1000 + sent)

    assert verdicts(look(host, stop, container))[Source.NVML] is verdict


@pytest.mark.parametrize("counter", [CPU, RECEIVED, SENT])
def test_a_counter_that_was_not_scraped_counts_as_busy(
    host: FakeHost, stop: StopContainer, counter: str
) -> None:
    container = host.run()
    del host.prometheus.counters[container.facts.id][counter]

    assert verdicts(look(host, stop, container))[Source.NVML] is Verdict.SILENT


@pytest.mark.parametrize("counter", [CPU, RECEIVED, SENT])
def test_a_counter_that_was_reset_counts_as_busy(
    host: FakeHost, stop: StopContainer, counter: str
) -> None:
    container = host.run()
    at = host.clock.now() - 30 * SECOND
    host.prometheus.counters[container.facts.id][counter] = [Sample(at, 1e6)]

    assert verdicts(look(host, stop, container))[Source.NVML] is Verdict.SILENT


def test_a_scrape_of_just_now_is_too_near_to_measure_from(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run()
    at = host.clock.now() - timedelta(seconds=2.9)
    host.prometheus.counters[container.facts.id][CPU] = [Sample(at, 100)]

    assert verdicts(look(host, stop, container))[Source.NVML] is Verdict.SILENT


def test_the_newest_scrape_that_is_old_enough_is_measured_from(
    host: FakeHost, stop: StopContainer
) -> None:
    # It worked until 30 s ago, and the sample of just now would hide nothing.
    container = host.run()
    now = host.clock.now()
    host.prometheus.counters[container.facts.id][CPU] = [
        Sample(now - 90 * SECOND, 0),
        Sample(now - 30 * SECOND, 100),
        Sample(now - SECOND, 100),
    ]

    seen = look(host, stop, container)

    assert verdicts(seen)[Source.NVML] is Verdict.AGREES
    assert "over 30.0 s" in said(seen, Source.NVML)


def test_a_container_in_the_hosts_network_is_judged_without_it(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run(network_mode="host")
    host.kernel.processes[container.facts.pid].network = None

    seen = look(host, stop, container)

    assert verdicts(seen)[Source.NVML] is Verdict.AGREES
    assert "network not its own" in said(seen, Source.NVML)


def test_unreadable_traffic_of_a_network_of_its_own_counts_as_busy(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run()
    host.kernel.processes[container.facts.pid].network = None

    assert verdicts(look(host, stop, container))[Source.NVML] is Verdict.SILENT


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(0.01, Verdict.AGREES), (0.9, Verdict.DISAGREES), (None, Verdict.SILENT)],
)
def test_on_a_mig_device_dcgm_tells_how_busy_it_is(
    host: FakeHost, stop: StopContainer, ratio: float | None, verdict: Verdict
) -> None:
    device = a_mig_device()
    host.driver.add(device)
    if ratio is not None:
        host.prometheus.values['DCGM_FI_PROF_GR_ENGINE_ACTIVE{GPU_I_ID="7",UUID="GPU-1"}'] = ratio

    seen = look(host, stop, host.run(gpus=(device.uuid,)))

    assert verdicts(seen)[Source.NVML] is verdict


def test_nobody_can_tell_shares_of_a_mig_device(host: FakeHost, stop: StopContainer) -> None:
    device = a_mig_device()
    host.driver.add(device)
    host.prometheus.values["DCGM_FI_PROF_GR_ENGINE_ACTIVE"] = 0.5
    container = host.run(gpus=(device.uuid,))
    host.run("other", gpus=(device.uuid,))

    assert verdicts(look(host, stop, container))[Source.NVML] is Verdict.SILENT


def test_proof_of_work_is_told_even_where_something_else_cannot_be_told(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run()
    host.driver.utilization["GPU-0"] = 80
    host.prometheus.counters.clear()

    assert verdicts(look(host, stop, container))[Source.NVML] is Verdict.DISAGREES


def test_the_owner_of_the_main_process_is_the_last_resort(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run(labels={"some": "label"})
    host.kernel.processes[container.facts.pid].uid = 1002

    assert look(host, stop, container).owner == "bob"


def test_nobodys_container_has_no_owner(host: FakeHost, stop: StopContainer) -> None:
    container = host.run(labels={"some": "label"})
    host.kernel.processes[container.facts.pid].uid = 0

    assert look(host, stop, container).owner is None


@pytest.mark.parametrize("claim", ["GPU-9", "9", "MIG-9", "/dev/nvidia9"])
def test_a_gpu_it_was_given_and_the_driver_does_not_show_counts_as_busy(
    host: FakeHost, stop: StopContainer, claim: str
) -> None:
    seen = look(host, stop, host.run(gpus=(), claims=GpuClaims(ids=("GPU-0", claim))))

    assert verdicts(seen)[Source.NVML] is Verdict.SILENT
    assert f"does not show {claim}" in said(seen, Source.NVML)


def test_a_driver_without_gpus_proves_nothing(clock: HandClock) -> None:
    host = FakeHost(clock, gpus=0)
    senses = Senses(host.prometheus, host.docker, host.driver, host.kernel, host.users)
    stop = StopContainer(senses, host.docker, host.limits)

    seen = look(host, stop, host.run(gpus=(), claims=GpuClaims(all=True)))

    assert verdicts(seen)[Source.NVML] is Verdict.SILENT


@pytest.mark.parametrize(
    ("comm", "verdict"),
    [
        pytest.param("python", Verdict.AGREES, id="somebody else's"),
        pytest.param(None, Verdict.SILENT, id="not to be seen"),
        pytest.param("nvidia-cuda-mps-server"[:15], Verdict.SILENT, id="MPS, for any client"),
    ],
)
def test_work_by_a_process_that_may_be_its_own_counts_as_busy(
    host: FakeHost, stop: StopContainer, comm: str | None, verdict: Verdict
) -> None:
    pid = host.a_process()
    host.kernel.processes[pid].comm = comm
    host.driver.use("GPU-0", pid)
    host.driver.utilization["GPU-0"] = 80

    seen = look(host, stop, host.run(gpus=(), claims=GpuClaims(ids=("GPU-0",))))

    assert verdicts(seen)[Source.NVML] is verdict


def test_looking_changes_nothing(host: FakeHost, stop: StopContainer) -> None:
    container = host.run()
    container.facts = replace(container.facts, mounts=(Mount("/srv", "/workspace", "bind"),))

    look(host, stop, container)

    assert host.docker.calls == []


def test_a_container_is_stopped_then_removed_then_its_gpus_are_looked_at(
    host: FakeHost, stop: StopContainer
) -> None:
    container, steps = host.run(), MemorySteps()

    message = stop.execute(a_task(container), steps)

    assert message == "it stopped with exit code 143, removed"
    assert steps.names == ["stop", "remove", "check-gpu"]
    assert steps.said["check-gpu"] == "none left"
    identity = container.facts.id
    assert host.docker.calls == [("stop", identity), ("remove", identity)]
    assert host.docker.graces == [60 * SECOND]


def test_a_grace_in_the_policy_overrides_that_of_the_limits(
    host: FakeHost, stop: StopContainer
) -> None:
    stop.execute(a_task(host.run(), grace=5 * SECOND), MemorySteps())

    assert host.docker.graces == [5 * SECOND]


def test_a_container_that_was_killed_is_told_so(host: FakeHost, stop: StopContainer) -> None:
    container, steps = host.run(), MemorySteps()
    container.ignores_sigterm = True

    message = stop.execute(a_task(container), steps)

    assert message.startswith("it stopped with exit code 137 (killed: it did not stop in its grace")


def test_a_container_that_is_to_be_kept_is_not_removed(host: FakeHost, stop: StopContainer) -> None:
    container, steps = host.run(), MemorySteps()

    stop.execute(a_task(container, remove=False), steps)

    assert steps.names == ["stop", "check-gpu"]
    assert host.docker.exists(container.facts.id)


def test_nothing_is_done_to_a_container_that_was_restarted_meanwhile(
    host: FakeHost, stop: StopContainer
) -> None:
    container, steps = host.run(), MemorySteps()
    task = a_task(container)
    host.docker.restart(container.facts.id, host.a_process())

    with pytest.raises(TargetGoneError, match="started anew"):
        stop.execute(task, steps)

    assert (steps.names, host.docker.calls) == ([], [])


def test_nothing_is_done_about_a_container_that_is_gone_meanwhile(
    host: FakeHost, stop: StopContainer
) -> None:
    container, steps = host.run(), MemorySteps()
    host.docker.vanish(container.facts.id)

    with pytest.raises(TargetGoneError):
        stop.execute(a_task(container), steps)

    assert steps.names == []


def test_nothing_is_done_while_docker_is_silent(host: FakeHost, stop: StopContainer) -> None:
    container, steps = host.run(), MemorySteps()
    host.docker.silent = "connection refused"

    with pytest.raises(RefusedError, match="connection refused"):
        stop.execute(a_task(container), steps)

    assert steps.names == []


def test_only_containers_are_stopped(stop: StopContainer) -> None:
    with pytest.raises(RefusedError, match="host:here is not a container"):
        stop.execute(Task(Named(Subject("host", "here"))), MemorySteps())


def test_a_lost_answer_leaves_the_effect_unknown(host: FakeHost, stop: StopContainer) -> None:
    container, steps = host.run(), MemorySteps()
    host.docker.loses_answers = True

    with pytest.raises(EffectUnknownError):
        stop.execute(a_task(container), steps)

    assert steps.names == ["stop"]


def test_a_refused_removal_is_not_called_a_refusal_since_it_is_stopped(
    host: FakeHost, stop: StopContainer
) -> None:
    container, steps = host.run(), MemorySteps()
    host.docker.refuses_removal = True

    with pytest.raises(EffectUnknownError):
        stop.execute(a_task(container), steps)

    assert steps.names == ["stop", "remove"]


def test_a_container_that_removes_itself_is_removed(host: FakeHost, stop: StopContainer) -> None:
    container, steps = host.run(), MemorySteps()
    container.auto_remove = True

    message = stop.execute(a_task(container), steps)

    assert message == "it stopped, gone"
    assert steps.said["remove"] == "it was gone already"


def test_a_container_that_somebody_else_stopped_is_left_to_them(
    host: FakeHost, stop: StopContainer
) -> None:
    container, steps = host.run(), MemorySteps()
    host.docker.end(container.facts.id)

    with pytest.raises(TargetGoneError, match="stopped by somebody else"):
        stop.execute(a_task(container), steps)
    assert steps.names == []


def test_processes_that_stay_behind_are_told(host: FakeHost, stop: StopContainer) -> None:
    container, steps = host.run(), MemorySteps()
    container.leaves_orphans = True
    pid = container.facts.pid

    stop.execute(a_task(container), steps)

    assert steps.said["check-gpu"] == f"left over: {pid} on GPU 0"


def test_a_silent_driver_does_not_undo_a_stop(host: FakeHost, stop: StopContainer) -> None:
    container, steps = host.run(), MemorySteps()
    host.driver.silent = "driver not loaded"

    assert "removed" in stop.execute(a_task(container), steps)
    assert steps.said["check-gpu"] == "cannot be told: driver not loaded"


def ages(**seconds: float) -> MemorySteps:
    named = {name.replace("_", "-"): timedelta(seconds=age) for name, age in seconds.items()}
    return MemorySteps(named)


def test_a_stop_that_had_its_effect_before_the_crash_is_not_given_again(
    host: FakeHost, stop: StopContainer
) -> None:
    container, steps = host.run(), ages(stop=20)
    host.docker.end(container.facts.id, 143)

    said = stop.execute(a_task(container), steps)
    assert said == "it stopped as it had been told before the interruption, removed"
    assert steps.names == ["remove", "check-gpu"]


@pytest.mark.parametrize(
    ("ignores", "ended"),
    [
        pytest.param(True, "137 (killed: it did not stop in its grace)", id="ignores the signal"),
        pytest.param(False, "143", id="was never told"),
    ],
)
def test_a_container_that_runs_on_after_a_stop_cut_off_is_asked_once_more(
    host: FakeHost, stop: StopContainer, ignores: bool, ended: str
) -> None:
    container, steps = host.run(), ages(stop=60 + 29)
    container.ignores_sigterm = ignores
    steps.seen_is_old = True

    message = stop.execute(a_task(container), steps)

    assert message.startswith(f"it stopped with exit code {ended}, asked again after an interr")
    assert steps.names == ["stop-again", "remove", "check-gpu"]
    assert host.docker.graces == [60 * SECOND]


def test_the_grace_that_is_left_after_a_crash_is_given(host: FakeHost, stop: StopContainer) -> None:
    container, steps = host.run(), ages(stop=0.5)
    looks = iter(range(100))

    class Ending:
        """The engine, in which the container ends by itself at the third look."""

        def inspect(self, container_id: str) -> object:
            if next(looks) == 2:
                host.docker.end(container_id, 143)
            return host.docker.inspect(container_id)

        keep_alive_at = host.docker.keep_alive_at

    senses = Senses(host.prometheus, Ending(), host.driver, host.kernel, host.users)  # type: ignore[arg-type]
    patient = StopContainer(senses, host.docker, host.limits)

    assert "as it had been told before the interruption" in patient.execute(
        a_task(container, grace=10 * SECOND), steps
    )
    assert steps.names == ["remove", "check-gpu"]


def test_a_stop_cut_off_long_ago_is_decided_anew(host: FakeHost, stop: StopContainer) -> None:
    container, steps = host.run(), ages(stop=60 + 31)

    with pytest.raises(EffectUnknownError, match="still runs"):
        stop.execute(a_task(container), steps)

    assert (steps.names, host.docker.calls) == ([], [])


def test_after_a_clock_that_was_set_back_a_stop_cut_off_is_decided_anew(
    host: FakeHost, stop: StopContainer
) -> None:
    container, steps = host.run(), ages(stop=-3600)

    with pytest.raises(EffectUnknownError, match="still runs"):
        stop.execute(a_task(container), steps)

    assert (steps.names, host.docker.calls) == ([], [])


def test_a_stop_cut_off_that_had_its_effect_is_believed_whatever_the_clock_says(
    host: FakeHost, stop: StopContainer
) -> None:
    container, steps = host.run(), ages(stop=-3600)
    host.docker.end(container.facts.id, 143)

    assert "as it had been told" in stop.execute(a_task(container), steps)


def test_nothing_is_stopped_on_what_was_seen_too_long_ago(
    host: FakeHost, stop: StopContainer
) -> None:
    container, steps = host.run(), MemorySteps()
    steps.seen_is_old = True

    with pytest.raises(RefusedError, match="old"):
        stop.execute(a_task(container), steps)

    assert host.docker.calls == []


@pytest.mark.parametrize(
    "before",
    [{"stop": 5.0}, {"stop": 5.0, "remove": 1.0}, {"stop": 5.0, "remove": 1.0, "check_gpu": 0.1}],
    ids=["stopping", "removing", "checking"],
)
def test_a_container_that_is_gone_after_a_crash_only_has_its_gpus_looked_at(
    host: FakeHost, stop: StopContainer, before: dict[str, float]
) -> None:
    container, steps = host.run(), ages(**before)
    host.docker.vanish(container.facts.id)

    assert stop.execute(a_task(container), steps) == "it was gone after the interruption"
    assert steps.names == ["check-gpu"]


def test_a_removal_cut_off_by_a_crash_is_repeated(host: FakeHost, stop: StopContainer) -> None:
    container, steps = host.run(), ages(stop=20, remove=10)
    host.docker.end(container.facts.id, 143)

    stop.execute(a_task(container), steps)

    assert host.docker.calls == [("remove", container.facts.id)]


def test_a_container_restarted_by_its_owner_after_a_crash_is_left_alone(
    host: FakeHost, stop: StopContainer
) -> None:
    container, steps = host.run(), ages(stop=20)
    task = a_task(container)
    host.docker.restart(container.facts.id, host.a_process())

    with pytest.raises(TargetGoneError):
        stop.execute(task, steps)

    assert host.docker.calls == []


def test_after_a_crash_a_silent_docker_leaves_the_effect_unknown(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run()
    host.docker.silent = "connection refused"

    with pytest.raises(EffectUnknownError):
        stop.execute(a_task(container), ages(stop=20))


def test_a_container_that_is_gone_with_its_processes_is_proof(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run()
    host.docker.vanish(container.facts.id)

    found = stop.verify(a_task(container))

    assert found.proof is Proof.PROVEN
    assert found.says == "the container is gone, no GPU runs a process of it"


@pytest.mark.parametrize("state", ["running", "paused", "restarting"])
def test_a_container_that_still_has_processes_is_disproof(
    host: FakeHost, stop: StopContainer, state: str
) -> None:
    container = host.run()
    container.facts = replace(container.facts, state=state)

    found = stop.verify(a_task(container))

    assert (found.proof, found.says) == (Proof.DISPROVEN, f"idle is {state}")


@pytest.mark.parametrize(("remove", "proof"), [(True, Proof.DISPROVEN), (False, Proof.PROVEN)])
def test_a_stopped_container_is_proof_if_it_was_to_be_kept(
    host: FakeHost, stop: StopContainer, remove: bool, proof: Proof
) -> None:
    container = host.run()
    host.docker.end(container.facts.id, 143)

    assert stop.verify(a_task(container, remove=remove)).proof is proof


def test_a_removal_that_goes_on_is_neither_proof_nor_disproof(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run()
    container.facts = replace(container.facts, state="removing")

    assert stop.verify(a_task(container)).proof is Proof.UNKNOWN


def test_processes_left_on_a_gpu_are_disproof(host: FakeHost, stop: StopContainer) -> None:
    container = host.run()
    container.leaves_orphans = True
    pid = container.facts.pid
    host.docker.vanish(container.facts.id)

    found = stop.verify(a_task(container))

    assert found.proof is Proof.DISPROVEN
    assert f"{pid} on GPU 0" in found.says


def test_nothing_is_proven_while_a_gpu_of_its_own_does_not_answer(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run()
    task = a_task(container)
    host.docker.vanish(container.facts.id)
    host.driver.lost["GPU-0"] = "GPU is lost"
    own = stop.verify(task)
    host.driver.lost = {"GPU-1": "GPU is lost"}

    assert own.proof is Proof.UNKNOWN
    assert stop.verify(task).proof is Proof.PROVEN


def test_processes_of_others_prove_nothing_against_it(host: FakeHost, stop: StopContainer) -> None:
    container = host.run("idle")
    host.run("other")
    host.docker.vanish(container.facts.id)

    assert stop.verify(a_task(container)).proof is Proof.PROVEN


@pytest.mark.parametrize(("remove", "proof"), [(True, Proof.DISPROVEN), (False, Proof.PROVEN)])
def test_a_container_started_anew_is_no_longer_the_one_that_was_stopped(
    host: FakeHost, stop: StopContainer, remove: bool, proof: Proof
) -> None:
    container = host.run()
    task = a_task(container, remove=remove)
    host.docker.end(container.facts.id, 143)
    host.clock.advance(MINUTE)
    pid = host.a_process(container.facts.id)
    host.docker.restart(container.facts.id, pid)
    host.driver.use("GPU-0", pid)

    found = stop.verify(task)

    assert found.proof is proof
    assert "started anew" in found.says


def test_nothing_is_proven_while_docker_or_the_driver_is_silent(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run()
    host.docker.vanish(container.facts.id)
    host.driver.silent = "driver not loaded"
    without_driver = stop.verify(a_task(container))
    host.docker.silent = "connection refused"

    assert without_driver.proof is Proof.UNKNOWN
    assert stop.verify(a_task(container)).proof is Proof.UNKNOWN
