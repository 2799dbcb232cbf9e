"""What follows from what a stop has left behind: what the policy says, and nothing else."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.core.aftermath import Aftermath, Finding
from remediator.core.alerts import Alert, Firing, Origin, Status
from remediator.core.attempts import Task
from remediator.core.gpu_claims import GpuClaims
from remediator.core.gpus import GpuHealth
from remediator.core.notices import NoticeKind
from remediator.core.policy import Mode, Policy
from remediator.journal import story
from remediator.remediations.interface import Remediation
from remediator.remediations.kill_orphan import KillOrphan
from remediator.remediations.notify_only import NotifyOnly
from remediator.remediations.orphan_senses import OrphanSenses, Permitted
from remediator.remediations.own_alerts import OwnAlerts
from remediator.remediations.senses import Senses
from remediator.remediations.stop_container import StopContainer
from tests.builders import HOUR, MINUTE, a_policy, a_rule, a_rung, an_alert
from tests.fakes import FakeContainer, FakeHost, FakeRemediation, HandClock
from tests.fakes_processes import FakeProcesses
from tests.unit.engine_site import EngineSite, hurried

ORPHAN = "DS01GPUOrphanProcess"
STOP = a_rule(hurried())
KILL = a_rule(hurried("kill-orphan"), name="orphan", alertname=ORPHAN)
TELL = a_rule(a_rung("notify-only"), name="leaked GPU", alertname=ORPHAN)


class Scene:
    """A host with an idle container that is stopped, and a process of nobody on its GPU."""

    def __init__(self, folder: Path, policy: Policy, *, orphan: bool = True) -> None:
        self.clock = HandClock()
        self.host = FakeHost(self.clock)
        self.container: FakeContainer = self.host.run()
        prometheus = OwnAlerts(self.host.prometheus)
        self.hands = FakeProcesses(self.host.kernel, self.host.driver)
        self.senses = Senses(
            prometheus, self.host.docker, self.host.driver, self.host.kernel, self.host.users
        )
        orphans = OrphanSenses(
            prometheus, self.host.docker, self.host.driver, self.host.kernel, self.host.users,
            self.host.kernel,
        )  # fmt: skip
        self.remediations: dict[str, Remediation] = {
            "stop-container": StopContainer(self.senses, self.host.docker, self.host.limits),
            "kill-orphan": KillOrphan(orphans, self.hands, Permitted()),
            "notify-only": NotifyOnly(prometheus),
        }
        self.site = EngineSite(folder, policy, self.remediations, self.clock)
        self.pid = self.host.a_process(on=["GPU-0"]) if orphan else 0
        labels = {"container_id": self.container.facts.id, "container": "idle"}
        self.alert = an_alert({**labels, "instance": "gpu1:9101"})

    @property
    def ended(self) -> list[int]:
        """The processes that were told to end."""
        return [pid for pid, _ in self.hands.signals]

    def stop(self) -> None:
        """Let the container be stopped: the alert is delivered, and everything follows."""
        self.host.fire(self.alert)
        self.site.deliver(self.alert)
        self.site.round()

    def hint(self, incident: int = 2) -> Alert:
        [record] = self.site.journal.incidents.firings(incident)
        return record.alert

    def outcome(self, incident: int = 2) -> tuple[str | None, bool]:
        found = self.site.journal.incidents.incident(incident)
        assert found is not None
        return found.outcome, found.closed_at is not None

    def epilog(self) -> str:
        """What the epilog of the stop says."""
        [said] = [s.result for s in self.site.journal.attempts.steps(1) if s.name == "epilog"]
        return said or ""


def a_scene(folder: Path, *rules: object, mode: Mode = Mode.ACT, orphan: bool = True) -> Scene:
    return Scene(folder, a_policy(STOP, *rules, mode=mode), orphan=orphan)  # type: ignore[arg-type]


def test_an_orphan_on_the_freed_gpu_is_ended_where_the_policy_says_so(folder: Path) -> None:
    scene = a_scene(folder, KILL)

    scene.stop()

    assert scene.ended == [scene.pid]
    assert scene.site.states() == ["succeeded", "succeeded"]
    assert scene.outcome() == ("kill-orphan succeeded", True)


def test_the_hint_is_the_alert_that_the_shipped_rule_would_raise(folder: Path) -> None:
    scene = a_scene(folder, KILL)

    scene.stop()

    hint = scene.hint()
    assert hint.origin is Origin.EPILOG
    assert hint.starts_at == scene.clock.now()
    assert hint.labels == {
        "alertname": ORPHAN,
        "severity": "warning",
        "instance": "gpu1:9101",
        "UUID": "GPU-0",
        "GPU_I_ID": "",
        "pid": str(scene.pid),
        "start_ticks": "70",
        "user": "alice",
        "comm": "python",
    }


def test_the_story_of_each_names_the_other(folder: Path) -> None:
    scene = a_scene(folder, KILL)

    scene.stop()

    told = [story.tell(scene.site.journal, incident) for incident in (1, 2)]
    stopped, ended = ([e.text + " ".join(e.details) for e in s.events] for s in told if s)
    assert any(text.startswith("epilog: look at the freed GPU 0") for text in stopped)
    assert any("(see incident 2)" in text for text in stopped)
    assert any(f"{ORPHAN} by the epilog of attempt 1" in text for text in ended)
    assert any(
        "journal agrees: stop-container (attempt 1, incident 1) freed GPU 0" in text
        for text in ended
    )


def test_where_nothing_is_left_the_story_says_so(folder: Path) -> None:
    scene = a_scene(folder, KILL, orphan=False)

    scene.stop()

    assert scene.epilog() == "all is well"
    assert scene.site.ask("SELECT count(*) FROM firing") == [(1,)]


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (Mode.OBSERVE, "observe_only"),
        (Mode.NOTIFY, "notify_only"),
        (Mode.APPROVE, "waiting_for_approval"),
    ],
)
def test_a_hint_is_bound_by_the_mode(folder: Path, mode: Mode, reason: str) -> None:
    scene = a_scene(folder, replace(KILL, mode=mode))

    scene.stop()

    assert scene.ended == []
    assert set(scene.site.reasons(2)) == {reason}
    assert scene.outcome()[1] is False


def test_an_approved_hint_is_carried_out(folder: Path) -> None:
    scene = a_scene(folder, replace(KILL, mode=Mode.APPROVE))
    scene.stop()

    scene.site.command("approve", incident=2)
    scene.site.round()

    assert scene.ended == [scene.pid]


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.NOTIFY, Mode.APPROVE])
def test_a_hint_ends_with_what_it_is_about(folder: Path, mode: Mode) -> None:
    scene = a_scene(folder, replace(KILL, mode=mode))
    scene.stop()

    scene.host.kernel.forget(scene.pid)
    scene.clock.advance(MINUTE)
    scene.site.round()

    assert scene.outcome()[1] is True
    assert scene.hint().status is Status.RESOLVED


def test_a_hint_that_stays_true_ends_after_some_hours(folder: Path) -> None:
    scene = a_scene(folder, replace(KILL, mode=Mode.OBSERVE))
    scene.stop()

    scene.clock.advance(5 * HOUR)
    scene.site.round()
    assert scene.outcome()[1] is False
    scene.clock.advance(HOUR + MINUTE)
    scene.site.round()

    assert scene.outcome()[1] is True


def test_a_hint_that_only_tells_ends_when_it_is_told(folder: Path) -> None:
    scene = a_scene(folder, TELL)

    scene.stop()

    assert scene.site.told(NoticeKind.INFORMED) == ["admins"]
    assert scene.outcome() == ("notify-only succeeded", True)


def test_admins_are_told_once_of_what_no_policy_rule_is_about(folder: Path) -> None:
    scene = a_scene(folder)

    scene.stop()

    [notice] = scene.site.journal.notices.of_incident(2)
    assert notice.letter.kind is NoticeKind.INFORMED
    assert notice.letter.recipient == "admins"
    assert notice.letter.subject == f"{ORPHAN}: pid {scene.pid} (python) on gpu1"
    assert "no policy rule is about it" in notice.letter.body
    assert scene.site.reasons(2)[0] == "no_policy_rule"
    assert scene.outcome() == ("notified", True)


def test_prometheus_own_alert_belongs_to_the_same_incident(folder: Path) -> None:
    scene = a_scene(folder, replace(KILL, mode=Mode.OBSERVE))
    scene.stop()
    hint = scene.hint()

    delivered = an_alert(dict(hint.labels), name=ORPHAN, fingerprint="00c6e0280cbb09d5")
    scene.host.fire(delivered)
    scene.site.deliver(delivered)
    scene.site.round()

    firings = scene.site.journal.incidents.firings(2)
    assert [record.alert.origin for record in firings] == [Origin.EPILOG, Origin.DELIVERED]
    assert scene.site.ask("SELECT count(*) FROM incident") == [(2,)]


def test_what_is_hinted_already_is_not_hinted_again(folder: Path) -> None:
    scene = a_scene(folder, replace(KILL, mode=Mode.OBSERVE))
    scene.stop()
    other = scene.host.run("other")
    second = an_alert(
        {"container_id": other.facts.id, "instance": "gpu1:9101"}, fingerprint="11c6e0280cbb09d5"
    )
    scene.host.fire(second)

    scene.site.deliver(second)
    scene.site.round()

    steps = scene.site.journal.attempts.steps(2)
    assert "(in incident 2 already)" in str(steps[-1].result)
    assert scene.site.ask("SELECT count(*) FROM firing WHERE origin = 'epilog'") == [(1,)]


def test_no_delivery_can_claim_to_be_the_epilogs(folder: Path) -> None:
    """Whoever posts a hint's very words, with its very fingerprint, changes nothing."""
    scene = a_scene(folder, replace(KILL, mode=Mode.OBSERVE))
    scene.stop()
    hint = scene.hint()
    forged = replace(hint, origin=Origin.DELIVERED)

    for status in (Status.RESOLVED, Status.FIRING):
        scene.site.deliver(replace(forged, status=status))
    [untouched] = scene.site.journal.incidents.firings(2)
    assert (untouched.alert, untouched.deliveries) == (hint, 1)

    # Also when the hint is over: nothing wakes it again.
    scene.host.kernel.forget(scene.pid)
    scene.clock.advance(MINUTE)
    scene.site.round()
    scene.site.deliver(forged)
    scene.site.round()
    assert scene.outcome()[1] is True
    assert scene.site.ask("SELECT count(*) FROM firing") == [(2,)]


def test_a_forged_hint_is_asked_of_prometheus(folder: Path) -> None:
    scene = a_scene(folder, KILL)
    forged = an_alert(
        {"pid": str(scene.pid), "start_ticks": "70", "UUID": "GPU-0", "origin": "epilog"},
        name=ORPHAN,
        fingerprint="epilog-0123456789abcdef",
    )

    scene.site.deliver(replace(forged, annotations={"origin": "epilog", "description": "seen"}))
    scene.site.round()

    assert scene.site.reasons(1) == ["unconfirmed"]
    assert scene.ended == []


def test_a_container_whose_process_stays_has_an_epilog_although_its_stop_failed(
    folder: Path,
) -> None:
    scene = a_scene(folder, KILL, orphan=False)
    scene.container.leaves_orphans = True
    pid = scene.container.facts.pid

    scene.stop()

    assert scene.site.states()[0] == "failed"
    assert scene.ended == [pid]


def test_a_wanted_reset_of_a_shared_gpu_is_told_and_hinted(folder: Path) -> None:
    reset = a_rule(hurried("kill-orphan"), name="wedged", alertname="DS01GPUNeedsReset")
    scene = a_scene(folder, replace(reset, mode=Mode.OBSERVE), orphan=False)
    scene.host.driver.health_of["GPU-0"] = GpuHealth(recovery_action=1)
    scene.host.run("other", gpus=(), claims=GpuClaims(ids=("GPU-0",)))
    scene.remediations["kill-orphan"] = FakeRemediation("kill-orphan")

    scene.stop()

    [notice] = scene.site.journal.notices.of_incident(2)
    assert "other may use it" in notice.letter.body
    assert notice.letter.subject == "DS01GPUNeedsReset: GPU 0 on gpu1"
    assert set(scene.site.reasons(2)) == {"observe_only"}


def test_a_silent_driver_leaves_the_stop_settled_and_the_epilog_without_a_word(
    folder: Path,
) -> None:
    scene = a_scene(folder, KILL)

    class Silenced(StopContainer):
        """The driver falls silent after the stop was verified."""

        def aftermath(self, task: Task) -> Aftermath | None:
            scene.host.driver.silent = "driver not loaded"
            return super().aftermath(task)

    silenced = Silenced(scene.senses, scene.host.docker, scene.host.limits)
    scene.remediations["stop-container"] = silenced

    scene.stop()

    assert scene.site.states() == ["succeeded"]
    assert scene.epilog() == "driver not loaded"


class Buggy(FakeRemediation):
    """A remediation whose epilog does as it is told."""

    after: Aftermath | Exception | None = None

    def aftermath(self, task: Task) -> Aftermath | None:
        assert task.target.key
        if isinstance(self.after, Exception):
            raise self.after
        return self.after


def test_a_bug_in_the_epilog_does_not_keep_an_attempt_from_being_settled(folder: Path) -> None:
    buggy = Buggy()
    buggy.after = ZeroDivisionError()
    site = EngineSite(folder, remediations={"stop-container": buggy})
    site.deliver(an_alert({"container_id": "c" * 64}))

    site.round()

    assert site.states() == ["succeeded"]
    assert site.metric("errors_total") == 1
    assert "nobody foresaw: ZeroDivisionError" in str(site.journal.attempts.steps(1)[-1].result)


def test_what_was_refused_or_left_nothing_has_no_epilog(folder: Path) -> None:
    buggy = Buggy()
    site = EngineSite(folder, remediations={"stop-container": buggy})
    site.deliver(an_alert({"container_id": "c" * 64}))
    site.round()
    buggy.after, buggy.refuses = Aftermath("0"), "not now"
    site.clock.advance(timedelta(hours=3))
    site.round()

    assert site.states()[:2] == ["succeeded", "refused"]
    assert site.ask("SELECT count(*) FROM step WHERE name = 'epilog'") == [(0,)]


def test_a_finding_without_an_instance_is_one_all_the_same(folder: Path) -> None:
    buggy = Buggy()
    finding = Finding("GPUHot", {"UUID": "GPU-0"}, "GPU 0", "it is hot")
    buggy.after = Aftermath("0", (finding,))
    site = EngineSite(folder, remediations={"stop-container": buggy})
    site.deliver(an_alert({"container_id": "c" * 64}))

    site.round()

    [record] = site.journal.incidents.firings(2)
    assert record.alert.labels == {"alertname": "GPUHot", "UUID": "GPU-0"}
    assert isinstance(record.alert.firing, Firing)
