import socket
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.config.settings import (
    ENVIRONMENT,
    MAIL_FIELDS,
    SETTINGS_FIELDS,
    Address,
    MailSettings,
    Settings,
    parse_address,
    parse_url,
    read_settings,
    with_environment,
)
from remediator.errors import ConfigError, SetupError

FULL = """\
host: gpu-1
state_dir: /state
policy: /etc/p.yaml
limits: /etc/l.yaml
listen: 0.0.0.0:1
worker_listen: '[::1]:2'
exporter_listen: localhost:65535
gpu_metrics: true
permitted_host_users: [root, dcgm, '1003']
permitted_processes: [jupyter-lab]
gpu_services: [a.service, b.socket]
dcgm_container: dcgm-exporter
dcgm_url: http://127.0.0.1:9401/metrics
nvidia_smi: /opt/nvidia-smi
dbus_address: unix:path=/run/bus
token_file: /run/token
page_url: https://gpu1.example.org/r/
link_key_file: /run/link
largest_body: 1024
prometheus_url: https://prometheus.example.org/base/
prometheus_timeout: 3s
prometheus_freshness: 1m
alertmanager_url: http://am:9093
docker_host: unix:///run/docker.sock
docker_timeout: 4s
recheck: 5s
workers: 2
wall: everyone
mail:
  host: mail.example.org
  port: 587
  security: tls
  ca_file: /etc/ca.pem
  username: robot
  password_file: /run/password
  from: robot@example.org
  pattern: '{user}@example.org'
  users: {bob: robert@example.org}
  admins: [a@example.org, b@example.org]
  timeout: 9s
"""


def settings_of(folder: Path, text: str, **environment: str) -> Settings:
    path = folder / "settings.yaml"
    path.write_text(text)
    return read_settings(path, environment)


def problems_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings_of(folder, text)
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


def test_everything_the_settings_can_say_is_read(folder: Path) -> None:
    assert settings_of(folder, FULL) == Settings(
        host="gpu-1",
        state_dir=Path("/state"),
        policy=Path("/etc/p.yaml"),
        limits=Path("/etc/l.yaml"),
        listen=Address("0.0.0.0", 1),  # noqa: S104 - nothing listens here
        worker_listen=Address("::1", 2),
        exporter_listen=Address("localhost", 65535),
        gpu_metrics=True,
        permitted_host_users=("root", "dcgm", "1003"),
        permitted_processes=("jupyter-lab",),
        gpu_services=("a.service", "b.socket"),
        dcgm_container="dcgm-exporter",
        dcgm_url="http://127.0.0.1:9401/metrics",
        nvidia_smi="/opt/nvidia-smi",
        dbus_address="unix:path=/run/bus",
        token_file=Path("/run/token"),
        page_url="https://gpu1.example.org/r",
        link_key_file=Path("/run/link"),
        largest_body=1024,
        prometheus_url="https://prometheus.example.org/base",
        prometheus_timeout=timedelta(seconds=3),
        prometheus_freshness=timedelta(minutes=1),
        alertmanager_url="http://am:9093",
        docker_host="unix:///run/docker.sock",
        docker_timeout=timedelta(seconds=4),
        recheck=timedelta(seconds=5),
        workers=2,
        wall="everyone",
        mail=MailSettings(
            host="mail.example.org",
            port=587,
            security="tls",
            ca_file=Path("/etc/ca.pem"),
            username="robot",
            password_file=Path("/run/password"),
            sender="robot@example.org",
            pattern="{user}@example.org",
            users={"bob": "robert@example.org"},
            admins=("a@example.org", "b@example.org"),
            timeout=timedelta(seconds=9),
        ),
    )


def test_every_setting_can_be_given_in_the_file() -> None:
    assert [name for name, _ in SETTINGS_FIELDS.values()] == [f.name for f in fields(Settings)]
    assert [name for name, _ in MAIL_FIELDS.values()] == [f.name for f in fields(MailSettings)]


def test_without_a_file_everything_is_on_this_machine() -> None:
    settings = read_settings(None, {})

    assert settings == Settings()
    assert settings.host == socket.gethostname()
    assert settings.listen == Address("127.0.0.1", 9095)
    assert settings.worker_listen == Address("127.0.0.1", 9096)
    assert settings.exporter_listen == Address("127.0.0.1", 9101)


def test_the_dcgm_exporter_has_one_owner(folder: Path) -> None:
    text = "dcgm_unit: dcgm-exporter.service\ndcgm_container: dcgm-exporter\n"

    message = "give dcgm_unit or dcgm_container: the exporter has one owner"
    assert problems_of(folder, text) == [f"settings.yaml:1:1: dcgm_container: {message}"]


def test_a_service_is_named_in_full(folder: Path) -> None:
    (problem,) = problems_of(folder, "gpu_services: [dcgm-exporter]\n")

    assert problem.startswith('settings.yaml:1:16: gpu_services[0]: "dcgm-exporter" is not the')


def test_the_environment_overrides_the_file(folder: Path) -> None:
    settings = settings_of(folder, FULL, REMEDIATOR_HOST="gpu-2", DOCKER_HOST="tcp://x:1")

    assert (settings.host, settings.docker_host) == ("gpu-2", "tcp://x:1")
    assert settings.workers == 2


SAMPLES = {Path: "/x", parse_address: "127.0.0.1:7", parse_url: "http://x:1", str: "text"}


@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_each_variable_sets_what_it_is_named_after(variable: str) -> None:
    name, parse = ENVIRONMENT[variable]

    settings = with_environment(Settings(), {variable: SAMPLES[parse]})

    mine = {f"REMEDIATOR_{name.upper()}", name.upper()}
    assert variable in mine | {"DBUS_SYSTEM_BUS_ADDRESS"}
    assert getattr(settings, name) == parse(SAMPLES[parse])


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    assert with_environment(Settings(), dict.fromkeys(ENVIRONMENT, "")) == Settings()


@pytest.mark.parametrize(
    ("variable", "text"),
    [("REMEDIATOR_LISTEN", "9095"), ("REMEDIATOR_PROMETHEUS_URL", "prometheus:9090")],
)
def test_a_bad_variable_is_named(variable: str, text: str) -> None:
    with pytest.raises(SetupError, match=f'^environment variable {variable}: "{text}" is not '):
        with_environment(Settings(), {variable: text})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lisen: x", '1:1: unknown field "lisen" (did you mean "listen"?)'),
        ("listen: 9095", '1:9: listen: "9095" is not an address such as 127.0.0.1:9095'),
        ("prometheus_url: x", '1:17: prometheus_url: "x" is not a URL such as'),
        ("wall: of", '1:7: wall: unknown choice "of" (did you mean "off"?)'),
        ("workers: 0", "1:10: workers: must be at least 1, not 0"),
        ("largest_body: 0", "1:15: largest_body: must be at least 1, not 0"),
        ("recheck: 15", "1:10: recheck: a duration needs a unit"),
        ("recheck: 0s", "1:10: recheck: must be at least 1s, not 0s"),
        ("prometheus_timeout: 0", "1:21: prometheus_timeout: must be at least 100ms, not 0"),
        ("docker_timeout: 99ms", "1:17: docker_timeout: must be at least 100ms, not 99ms"),
        (
            "keep_deliveries: 5m",
            "1:18: keep_deliveries: must be at least 1h, not 5m: a crash may have them taken again",
        ),
        ("mail: {port: x}", '1:14: mail.port: expected a whole number, got "x"'),
        ("mail: {port: 0}", "1:14: mail.port: must be at least 1, not 0"),
        ("mail: {port: 65536}", "1:14: mail.port: must be at most 65535, not 65536"),
        ("mail: {admins: a@x}", '1:16: mail.admins: expected a list, got "a@x"'),
        ("mail: {admins: ['']}", "1:17: mail.admins[0]: expected a text, got an empty text"),
        ("mail: {users: {a: [b]}}", "1:19: mail.users.a: expected a text, got a list"),
        ("mail: {pattern: x@y}", '1:17: mail.pattern: "x@y" is not a pattern such as'),
        ("mail: {pattern: '{user}'}", '1:17: mail.pattern: "{user}" is not a pattern'),
        ("mail: {pattern: '{user}{x}@y'}", '1:17: mail.pattern: "{user}{x}@y" is not a pattern'),
        ("mail: {security: ssl}", '1:18: mail.security: unknown choice "ssl"'),
        ("[]", "1:1: expected a mapping, got a list"),
    ],
)
def test_a_bad_setting_is_told_where_it_is(folder: Path, text: str, problem: str) -> None:
    (told,) = problems_of(folder, text)

    assert told.startswith(f"settings.yaml:{problem}")


@pytest.mark.parametrize(
    ("text", "expected", "loopback"),
    [
        ("127.0.0.1:9095", Address("127.0.0.1", 9095), True),
        ("127.9.9.9:1", Address("127.9.9.9", 1), True),
        ("localhost:1", Address("localhost", 1), True),
        ("[::1]:9095", Address("::1", 9095), True),
        ("192.0.2.1:80", Address("192.0.2.1", 80), False),
        ("gpu-1.example.org:80", Address("gpu-1.example.org", 80), False),
        ("[2001:db8::1]:80", Address("2001:db8::1", 80), False),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, expected: Address, loopback: bool) -> None:
    assert parse_address(text) == expected
    assert str(expected) == text
    assert expected.is_loopback is loopback


@pytest.mark.parametrize(
    "text", ["", ":80", "x", "x:", "x:y", "x:65536", "::1:80", "[::1]", "a b:80", "x:80\n", "[x]:1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address such as"):
        parse_address(text)


@pytest.mark.parametrize("text", ["", "x", "ftp://x", "http://", "http://x?y", "http://x y", "//x"])
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a URL such as"):
        parse_url(text)


@pytest.mark.parametrize(
    "text", ["http://me:s3cret@prometheus:9090", "https://s3cret@host/x", "http://a:s3cret@b@c"]
)
def test_a_url_with_a_password_is_refused_without_repeating_it(text: str, folder: Path) -> None:
    file = folder / "settings.yaml"
    file.write_text(f"prometheus_url: '{text}'\n")

    with pytest.raises(ConfigError) as raised:
        read_settings(file, {})
    with pytest.raises(SetupError) as refused:
        read_settings(None, {"REMEDIATOR_ALERTMANAGER_URL": text})

    said = f"{raised.value} {[str(p) for p in raised.value.problems]} {refused.value}"
    assert "a URL with a user or password in it" in said
    assert "s3cret" not in said
