"""Which test runs what the documents show and these tests cannot run themselves.

A command that begins as a key says is run by the test named, in whose file the words stand that
make it this command. What is too long or too dangerous for a test of the documents is thus tested
where the machine for it is at hand.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """A test, or a script of the build, and what its file has to contain."""

    test: str
    words: tuple[str, ...]


def _by(test: str, *words: str) -> Bound:
    return Bound(test, words)


_UNITS = "tests/integration/test_units.py::"
_DOCTOR = "tests/integration/test_doctor.py::"
_QUIESCE = "tests/integration/test_quiesce_command.py::"
_TUNNEL = "tests/integration/test_tunnel.py::"
_THERE = _TUNNEL + "test_what_is_to_be_typed_is_understood_there"
_STACK = "tests/integration/test_stack.py::"
_DCGM = "tests/integration/test_dcgm_unit.py::"
_RESTORE = _by(
    "tests/docs/test_commands.py::test_a_backup_is_restored_by_what_is_said", '"restore"', "bash"
)

# By how the command begins; the longest beginning counts.
COMMANDS = {
    "make demo": _by(
        "tests/integration/test_demo.py::test_the_demo_ends_well", "tests.peers.demo", "idle"
    ),
    "make test": _by(".ci/run", "-m pytest --require-services"),
    "make bench": _by(
        "tests/integration/test_bench.py::test_the_command_writes_what_it_measured",
        "main(",
    ),
    "make chaos": _by(
        "tests/integration/test_chaos.py::"
        "test_a_minute_of_chaos_loses_doubles_and_wrongly_stops_nothing",
        "tests.chaos",
    ),
    "remediator backtest --prometheus": _by(
        "tests/integration/test_backtest.py::"
        "test_alerts_of_a_real_prometheus_are_found_again_to_the_evaluation",
        '"--prometheus", prometheus.url',
    ),
    "make image": _by(_STACK + "test_every_service_is_well_and_status_says_so", "make_images"),
    "bash compose/prepare.sh": _by(
        "tests/integration/test_stack_files.py::test_it_is_made_once_and_then_stays_as_it_is",
        '"bash"',
        "prepare.sh",
    ),
    "remediator stack up": _by(
        _STACK + "test_what_was_taken_down_goes_on_where_it_was", 'remediator("up")'
    ),
    "remediator stack down": _by(
        _STACK + "test_what_was_taken_down_goes_on_where_it_was", 'remediator("down")'
    ),
    "remediator stack status": _by(
        _STACK + "test_every_service_is_well_and_status_says_so", 'remediator("status")'
    ),
    "cd compose && docker compose exec worker remediator doctor": _by(
        _STACK + "test_doctor_finds_all_well_and_its_alert_is_in_the_journal",
        'run_in("worker", "remediator", "doctor"',
    ),
    "make install": _by(_UNITS + "test_systemd_finds_no_fault_in_the_units", 'make("install")'),
    "make rules": _by(".ci/run", "make rules"),
    "make setup": _by(".ci/run", "make lint"),
    "make uninstall": _by(
        _UNITS + "test_what_was_uninstalled_is_taken_up_again_when_it_is_installed",
        'make("uninstall")',
    ),
    "apt-get update": _by("tests/peers/install.sh", "apt-get update"),
    "apt-get install": _by("tests/peers/install.sh", "python3-venv", "libgirepository1.0-dev"),
    "systemctl enable --now remediator.target": _by(
        _UNITS + "test_the_target_stops_and_starts_all", '"enable", "--now", "remediator.target"'
    ),
    "systemctl reload remediator-worker": _by(
        _UNITS + "test_a_reload_reads_the_policy_again", '"reload", WORKER'
    ),
    "remediator doctor": _by(
        _DOCTOR + "test_all_is_well_and_the_test_alert_has_arrived_and_been_held", '"doctor"'
    ),
    "remediator doctor --quiet": _by(_DOCTOR + "test_quiet_says_all_by_its_exit_code", '"--quiet"'),
    "remediator doctor --json": _by(_DOCTOR + "test_a_pause_is_named", '"--json"'),
    "remediator doctor --no-test-alert": _by(
        _DOCTOR + "test_quiet_says_all_by_its_exit_code", '"--no-test-alert"'
    ),
    "remediator quiesce --": _by(
        _QUIESCE + "test_the_command_finds_all_down_and_its_exit_status_is_ours", '"--", "sh"'
    ),
    "remediator quiesce --services": _by(
        _QUIESCE + "test_the_command_finds_all_down_and_its_exit_status_is_ours", '"--services"'
    ),
    "remediator quiesce --status": _by(
        _QUIESCE + "test_what_does_not_come_back_is_said_and_can_be_seen_and_restored", '"--status"'
    ),
    "remediator quiesce --restore": _by(
        _QUIESCE + "test_killed_nothing_is_started_before_the_command_has_ended", '"--restore"'
    ),
    "remediator quiesce --forget": _by(
        "tests/unit/test_cli_quiesce.py::test_what_never_comes_back_can_be_given_up", '"--forget"'
    ),
    "cd /var/lib/remediator": _RESTORE,
    "rm --force journal.db-wal": _RESTORE,
    "install --owner=": _RESTORE,
    "useradd --system": _by(
        _TUNNEL + "test_the_exporter_of_the_gpu_host_is_scraped_through_the_tunnel",
        'documented("useradd")',
    ),
    "mkdir --parents /etc/remediator/tunnels": _by(_THERE, "mkdir --parents"),
    "ssh-keygen -t ed25519": _by(_THERE, "ssh-keygen -t"),
    "chown remediator-tunnel": _by(_THERE, "chown"),
    "ssh-keyscan -t ed25519": _by(
        _TUNNEL + "test_the_exporter_of_the_gpu_host_is_scraped_through_the_tunnel", "known_hosts"
    ),
    "cp compose/systemd/gpu1.env": _by(
        _TUNNEL + "test_the_example_of_a_tunnel_has_what_the_unit_needs", "gpu1.env"
    ),
    "cp compose/systemd/remediator-tunnel@.service": _by(
        _TUNNEL + "test_systemd_finds_no_fault_with_the_unit", "add_unit"
    ),
    "remediator load --gpu": _by(
        "tests/integration/test_gpu_load.py::"
        "test_a_gpu_that_somebody_uses_is_refused_before_anything_is_loaded",
        '"load", "--seconds"',
        '"--gpu"',
    ),
    "systemctl stop remediator.target": _by(
        _UNITS + "test_the_target_stops_and_starts_all", '"stop", "remediator.target"'
    ),
    "systemctl start remediator.target": _by(
        _UNITS + "test_the_target_stops_and_starts_all", '"start", "remediator.target"'
    ),
    "systemctl daemon-reload": _by("tests/peers/systemd_host.py", "daemon-reload"),
    "systemctl enable --now remediator-tunnel@gpu1": _by(
        _TUNNEL + "test_the_exporter_of_the_gpu_host_is_scraped_through_the_tunnel",
        '"start", TUNNEL',
    ),
    "systemctl status remediator-tunnel@gpu1": _by(_THERE, "systemctl status"),
    "journalctl --unit remediator-tunnel@gpu1": _by(_THERE, "journalctl --unit"),
    "curl http://127.0.1.1:9101/metrics": _by(
        _TUNNEL + "test_the_exporter_of_the_gpu_host_is_scraped_through_the_tunnel", "/metrics"
    ),
    "DCGM_EXPORTER_IMAGE=... docker compose": _by(
        "tests/integration/test_compose.py::"
        "test_compose_takes_the_file_and_leaves_the_container_to_the_unit",
        "dcgm-exporter.compose.yaml",
        "DCGM_EXPORTER_IMAGE",
    ),
    "cp compose/systemd/ds01-dcgm-exporter.service": _by(
        _DCGM + "test_systemd_finds_no_fault_with_it", "ds01-dcgm-exporter.service"
    ),
    "systemctl enable --now ds01-dcgm-exporter": _by(
        _DCGM + "test_a_stop_asks_the_container_to_end_and_waits_for_it", "start"
    ),
    "docker kill --signal=SIGTERM": _by(
        _DCGM + "test_a_stop_asks_the_container_to_end_and_waits_for_it", "SIGTERM"
    ),
    "systemctl edit nvidia-dcgm-exporter": _by(
        "tests/unit/test_restart_dcgm.py::"
        "test_a_unit_file_that_lets_it_be_killed_early_is_spoken_of",
        "sends_sigkill",
    ),
}

# Named in a sentence to be understood, not to be typed.
MENTIONED = {
    "docker compose": "what `remediator stack` calls",
    "docker stop": "what must not be done to the DCGM exporter",
    "docker ps": "where to look",
    "docker rm": "what Docker says of itself",
    "docker logs": "where to look before a person kills something",
    "systemctl status": "where to look",
    "systemctl edit": "opens an editor; what goes into it is tested",
}
# By how the block begins.
TEXTS = {
    "count_over_time(ALERTS": _by(
        "tests/docs/test_pages.py::test_the_expression_is_promql", "count_over_time"
    ),
    "incident 17: train: hold waiting_for_approval": _by(
        "tests/docs/test_commands.py::test_the_log_says_what_is_shown_of_it", "log-lines"
    ),
    "2026-11-16 00:00 to 2026-11-16 23:59 UTC": _by(
        "tests/docs/test_backtest_example.py::test_the_example_of_a_backtest_is_what_it_says",
        "backtest-output",
    ),
    "rules.yml:5:15: groups[0].rules[0].expr: a branch": _by(
        "tests/unit/test_check.py::test_the_readme_shows_what_is_really_printed", "check-output"
    ),
    'restrict,command="/usr/sbin/nologin"': _by(
        _TUNNEL + "test_the_documented_key_opens_the_ports_of_the_unit_and_no_other", "restrict,"
    ),
    "# for the admins": _by(
        "tests/docs/test_blocks.py::test_the_file_of_chats_is_read", "# for the admins"
    ),
    "routes:\n  - receiver: remediator-gpu1": _by(
        "tests/alert_rules/test_split_layout.py::test_an_alert_goes_to_the_receiver_of_its_host",
        "```yaml",
        "README",
    ),
    "[Service]": _by(_DCGM + "test_it_is_stopped_gently_and_limited_in_its_starts", "SendSIGKILL"),
}
# Nothing in a drawing can be run.
DRAWINGS = ("DCGM exporter ─┐",)
# What is run here, before the tests that have the machine for it.
HERE = ("approve", "backup", "check", "close-breaker", "docs", "extend", "incidents", "notices")
HERE += ("pause", "reject", "report", "resume", "simulate", "user")


def bound(command: str) -> Bound | None:
    """Return what runs *command*, by the longest beginning that fits; None if nothing does."""
    fitting = [start for start in COMMANDS if command.startswith(start)]
    return COMMANDS[max(fitting, key=len)] if fitting else None
