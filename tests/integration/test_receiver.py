"""The receiver's answers, over real connections to a real process."""

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.eventually import eventually
from tests.peers.missing import PeerMissingError, require_tool
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.process import Daemon
from tests.peers.receiver import FIRING, RESOLVED, Receiver, marked, read_all
from tests.peers.stage import Stage

pytestmark = pytest.mark.integration

LARGEST = 200_000


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A receiver for tests that leave it as it is."""
    receiver = Receiver(tmp_path_factory.mktemp("receiver"), settings=f"largest_body: {LARGEST}\n")
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.fixture
def own(folder: Path) -> Iterator[Receiver]:
    """A receiver that the test may stop, kill and misconfigure; not started."""
    receiver = Receiver(folder / "receiver")
    yield receiver
    receiver.stop()


@pytest.mark.parametrize("body", [FIRING, RESOLVED], ids=["firing", "resolved"])
def test_a_recorded_delivery_is_stored_byte_for_byte(receiver: Receiver, body: bytes) -> None:
    answer = receiver.post(body)

    assert answer.status_code == 200
    assert receiver.bodies()[-1] == body
    assert answer.json() == {"delivery": len(receiver.bodies())}


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        pytest.param({}, b"", 400, id="empty"),
        pytest.param({}, b"{", 400, id="not JSON"),
        pytest.param({}, b"[]", 400, id="not an object"),
        pytest.param({}, b"[" * 100_000, 400, id="deeply nested"),
        pytest.param({}, b"\xff\xfe", 400, id="not UTF-8"),
        pytest.param({}, FIRING.replace(b'"version":"4"', b'"version":"5"'), 400, id="version 5"),
        pytest.param({}, FIRING.replace(b'"fingerprint"', b'"print"'), 400, id="no fingerprint"),
        pytest.param({}, FIRING.replace(b'"startsAt"', b'"since"'), 400, id="no startsAt"),
        pytest.param({}, FIRING.replace(b'"version"', b'"new":{"a":[1]},"version"'), 200, id="new"),
        pytest.param({"Authorization": None}, FIRING, 401, id="no token"),
        pytest.param({"Authorization": "Bearer " + "0" * 64}, FIRING, 401, id="wrong token"),
        pytest.param({"Authorization": "Basic YWRtaW46"}, FIRING, 401, id="another scheme"),
        pytest.param({"Authorization": "Bearer"}, FIRING, 401, id="no bearer"),
        pytest.param({"Authorization": None}, b"x" * (LARGEST + 1), 401, id="large, no token"),
        pytest.param({}, b"x" * (LARGEST + 1), 413, id="too large"),
        pytest.param({}, b"x" * LARGEST, 400, id="as large as may be"),
        pytest.param({"Content_Type": "text/plain"}, FIRING, 415, id="text"),
        pytest.param({"Content_Type": None}, FIRING, 415, id="no type"),
        pytest.param({"Content_Encoding": "gzip"}, FIRING, 415, id="gzip"),
        pytest.param({"Content_Encoding": "identity"}, FIRING, 200, id="identity"),
        pytest.param({"Content_Type": "application/json; charset=utf-8"}, FIRING, 200, id="utf-8"),
        pytest.param({"Content_Type": 'Application/JSON;charset="UTF-8"'}, FIRING, 200, id="UTF-8"),
        pytest.param({"SCRIPT_NAME": "/elsewhere"}, FIRING, 200, id="a header that means nothing"),
    ],
)
def test_a_delivery_is_answered_as_it_deserves(
    receiver: Receiver, headers: dict[str, str | None], body: bytes, status: int
) -> None:
    before = len(receiver.bodies())

    answer = receiver.post(body, **headers)

    assert answer.status_code == status
    assert len(receiver.bodies()) == before + (status == 200)
    assert status == 200 or answer.json()["error"]
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_only_post_is_allowed(receiver: Receiver, method: str) -> None:
    answer = requests.request(method, receiver.webhook, headers=receiver.headers(), timeout=10)

    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"


def test_an_unknown_path_is_not_found(receiver: Receiver) -> None:
    assert receiver.post(path="/more").status_code == 404


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, id="TLS"),
        pytest.param(b"hello\r\n\r\n", 400, id="not HTTP"),
        pytest.param(b"GET / HTTP/1.1\r\nAuthorization Bearer s3cret\r\n\r\n", 400, id="no colon"),
        pytest.param(b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, id="negative"),
        pytest.param(
            b"GET / HTTP/1.1\r\nContent-Length: 9" + b"9" * 5000 + b"\r\n\r\n", 400, id="long"
        ),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", 400, id="version"),
        pytest.param(b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", 414, id="long address"),
        pytest.param(b"GET / HTTP/1.1\r\nA: " + b"a" * 40_000 + b"\r\n\r\n", 431, id="long header"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: a\r\n" * 200 + b"\r\n", 431, id="many headers"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: a\r\n" * 9000, 431, id="head without an end"),
        pytest.param(b"GET / HTTP/1.1\r\nExpect: miracles\r\n\r\n", 417, id="expectation"),
        pytest.param(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, id="chunk size"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            400,
            id="two lengths",
        ),
    ],
)
def test_what_is_not_http_is_refused_and_cut_off(
    receiver: Receiver, sent: bytes, status: int
) -> None:
    assert receiver.exchange(sent).startswith(f"HTTP/1.1 {status} ".encode())
    assert "s3cret" not in receiver.daemon.log_tail(10_000)


def test_a_body_that_is_announced_too_large_is_refused_unread(receiver: Receiver) -> None:
    before = receiver.count("too_large")

    answer = receiver.exchange(receiver.head(f"Content-Length: {10**12}"))

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert receiver.count("too_large") == before + 1


def test_chunks_that_grow_too_large_are_refused_before_they_end(receiver: Receiver) -> None:
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"

    answer = receiver.exchange(receiver.head("Transfer-Encoding: chunked"), chunk * 7)

    assert answer.startswith(b"HTTP/1.1 413 ")


def test_without_the_token_no_body_is_waited_for(receiver: Receiver) -> None:
    head = b"POST /api/v1/alerts HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"

    answer = receiver.exchange(head + b"Content-Length: 1000\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 401 ")


def test_a_body_in_chunks_is_taken(receiver: Receiver) -> None:
    half = len(FIRING) // 2
    chunks = [b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in (FIRING[:half], FIRING[half:])]
    body = b"".join(chunks) + b"0\r\nTrailer: x\r\n\r\n"

    head = receiver.head("Transfer-Encoding: chunked", "Connection: close")

    assert receiver.exchange(head + body).startswith(b"HTTP/1.1 200 ")
    assert receiver.bodies()[-1] == FIRING


def test_who_waits_for_100_continue_gets_it_once(receiver: Receiver) -> None:
    with receiver.connect() as client:
        length = f"Content-Length: {len(FIRING)}"
        client.sendall(receiver.head(length, "Expect: 100-continue", "Connection: close"))
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"

        client.sendall(FIRING)

        assert read_all(client).startswith(b"HTTP/1.1 200 ")


def test_pipelined_deliveries_are_answered_in_order(receiver: Receiver) -> None:
    one = receiver.head(f"Content-Length: {len(FIRING)}") + FIRING
    health = b"GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n"
    explained = one.replace(b"/alerts HTTP", b"/alerts?explain HTTP")
    last = b"GET /nowhere HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

    answers = receiver.exchange(one + health + one + explained + last)

    statuses = [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"200", b"200", b"200", b"404"]


def test_deliveries_that_come_at_once_are_each_answered_and_each_kept(
    receiver: Receiver,
) -> None:
    bodies = [marked(f"at once {number}") for number in range(32)]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(receiver.connect()) for _ in bodies]
        for client, body in zip(clients, bodies, strict=True):
            client.sendall(receiver.head(f"Content-Length: {len(body)}", "Connection: close"))
        for client, body in zip(clients, bodies, strict=True):
            client.sendall(body)
        answers = [read_all(client) for client in clients]

    numbers = {json.loads(answer.partition(b"\r\n\r\n")[2])["delivery"] for answer in answers}
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)
    assert len(numbers) == len(bodies)
    assert set(bodies) <= set(receiver.bodies())


def test_who_closes_his_half_is_answered(receiver: Receiver) -> None:
    with receiver.connect() as client:
        client.sendall(2 * (receiver.head(f"Content-Length: {len(FIRING)}") + FIRING))
        client.shutdown(socket.SHUT_WR)

        assert read_all(client).count(b"HTTP/1.1 200 ") == 2


def test_http_1_0_is_answered_and_closed(receiver: Receiver) -> None:
    head = receiver.head(f"Content-Length: {len(FIRING)}", version="1.0")

    assert receiver.exchange(head + FIRING).startswith(b"HTTP/1.0 200 ")


def test_health_readiness_and_metrics_need_no_token(receiver: Receiver) -> None:
    assert requests.get(f"{receiver.url}/-/healthy", timeout=10).json() == {"healthy": True}
    assert requests.get(f"{receiver.url}/-/ready", timeout=10).json()["ready"] is True
    assert receiver.count("failed") == 0


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
_fields = ("version", "groupKey", "alerts", "receiver", "truncatedAlerts", "status")
_alert_fields = ("status", "labels", "startsAt", "fingerprint", "annotations", "endsAt")


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    body = json.loads(FIRING)
    place = draw(st.sampled_from([(body, _fields), (body["alerts"][0], _alert_fields)]))
    place[0][draw(st.sampled_from(place[1]))] = draw(_json)
    return json.dumps(body).encode("utf-8", "surrogatepass")


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.binary() | _json.map(lambda value: json.dumps(value).encode()) | _damaged())
def test_no_body_breaks_it(receiver: Receiver, body: bytes) -> None:
    answer = receiver.post(body, path="?explain")

    assert answer.status_code in {200, 400}
    assert answer.json()


def test_a_real_alertmanager_delivers_with_its_token_file(receiver: Receiver, stage: Stage) -> None:
    alertmanager = stage.alertmanager(receiver.webhook, receiver.token_file)

    alertmanager.post([{"labels": {"alertname": "Watchdog", "marker": "from-alertmanager"}}])

    eventually(lambda: b"from-alertmanager" in receiver.bodies()[-1], 10, "the alert to arrive")


def test_explain_says_which_policy_rule_an_alert_maps_to(own: Receiver) -> None:
    own.policy_file.write_text(
        "mode: notify\nrules:\n- name: hot\n  match: ['alertname=\"GPUHot\"']\n"
        "  do: [{notify-only: null, attempts: [1 per 1h]}]\n"
    )
    own.start()

    explained = own.post(path="?explain").json()
    own.policy_file.write_text("mode: notify\nrulez: []\n")
    broken = own.post(path="?explain").json()

    assert explained["alerts"][0]["policy_rule"] == "hot"
    assert explained["alerts"][0]["remediations"] == ["notify-only"]
    assert f"{own.policy_file}:2:1: " in "\n".join(broken["policy_problems"])
    assert broken["delivery"] == 2


def test_the_token_can_be_replaced_without_a_restart(own: Receiver) -> None:
    own.start()
    old = own.token
    own.token_file.write_text("a new token of some length\n")

    assert own.post().status_code == 200
    assert own.post(Authorization=f"Bearer {old}").status_code == 401


def test_without_a_usable_token_nothing_is_taken_and_nothing_lost(own: Receiver) -> None:
    own.start()
    token, headers = own.token, own.headers()
    own.token_file.write_text("")

    empty = requests.post(own.webhook, FIRING, headers=headers, timeout=10)
    own.token_file.unlink()
    missing = requests.post(own.webhook, FIRING, headers=headers, timeout=10)
    ready = own.is_ready()
    own.token_file.write_text(token)

    assert (empty.status_code, missing.status_code, ready) == (503, 503, False)
    assert own.post().status_code == 200
    assert own.daemon.log_tail().count("no delivery can be taken") == 1


def test_no_secret_reaches_the_log(own: Receiver) -> None:
    own.start()
    own.post()
    own.post(Authorization="Bearer anothersecret")
    own.exchange(b"GET / HTTP/1.1\r\nAuthorization: Bearer " + own.token.encode() + b"\x00\r\n\r\n")
    own.stop()

    log = own.daemon.log.read_text()
    assert own.token not in log
    assert "anothersecret" not in log


def test_a_token_file_that_all_can_read_is_warned_about(own: Receiver) -> None:
    own.token_file.chmod(0o644)

    own.start()

    assert f"{own.token_file}: everybody on this machine can read it" in own.daemon.log_tail()
    assert own.token_file.stat().st_mode & stat.S_IROTH


def _cannot_start(own: Receiver, **environment: str) -> str:
    """Return what a receiver that can't start says, which must be one line."""
    variables = {**own.environment, **environment}
    daemon = Daemon("cannot-start", own.command, own.folder, environment=variables)
    daemon.launch()
    assert daemon.wait(20) == 1
    lines = [line for line in daemon.log.read_text().splitlines() if " info " not in line]
    assert len(lines) == 1, lines
    return lines[0]


def test_a_port_in_use_is_said_in_one_line(own: Receiver) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, own.port))
        taken.listen()

        said = _cannot_start(own)

    assert said == f"remediator: cannot listen on {LOOPBACK}:{own.port}: Address already in use"


def test_an_address_that_is_not_ours_is_said_in_one_line(own: Receiver) -> None:
    said = _cannot_start(own, REMEDIATOR_LISTEN=f"192.0.2.1:{free_port()}")

    assert "Cannot assign requested address" in said


def test_a_state_folder_that_cannot_be_is_said_in_one_line(own: Receiver) -> None:
    said = _cannot_start(own, REMEDIATOR_STATE_DIR=str(own.token_file / "state"))

    assert said.startswith(f"remediator: {own.token_file}/state/inbox/inbox.db: ")


def test_an_inbox_that_is_no_database_is_said_in_one_line(own: Receiver) -> None:
    (own.state_dir / "inbox").mkdir(parents=True)
    (own.state_dir / "inbox" / "inbox.db").write_bytes(b"not a database" * 1000)

    assert "file is not a database" in _cannot_start(own)


@pytest.mark.parametrize(
    ("content", "said"), [("short", "fewer than 16"), (None, "cannot be read")]
)
def test_a_bad_token_file_is_said_in_one_line(
    own: Receiver, content: str | None, said: str
) -> None:
    own.token_file.unlink()
    if content is not None:
        own.token_file.write_text(content)

    assert said in _cannot_start(own)


def test_the_network_is_not_served_without_a_token(own: Receiver) -> None:
    environment = {"REMEDIATOR_LISTEN": f"0.0.0.0:{free_port()}", "REMEDIATOR_TOKEN_FILE": ""}

    assert "needs a bearer token" in _cannot_start(own, **environment)


def test_a_worker_that_cannot_boot_again_ends_the_receiver(own: Receiver) -> None:
    own.start()
    worker = _children(own.daemon.pid)[0]
    shutil.rmtree(own.state_dir)
    own.state_dir.write_text("no folder any more")

    os.kill(worker, signal.SIGKILL)

    assert own.daemon.wait(15) == 1
    assert "Traceback" not in own.daemon.log_tail()


def test_a_worker_that_dies_is_replaced(own: Receiver) -> None:
    own.start()
    worker = _children(own.daemon.pid)[0]

    os.kill(worker, signal.SIGKILL)
    eventually(lambda: _children(own.daemon.pid) not in ([], [worker]), 10, "another worker")

    assert own.post().status_code == 200


def test_after_a_full_disk_it_goes_on_by_itself(folder: Path) -> None:
    if os.geteuid() != 0:
        raise PeerMissingError("needs root, to mount a file system of its own")
    state = folder / "receiver" / "state"
    state.mkdir(parents=True)
    script = f'mount -t tmpfs -o size=1m tmpfs "{state}" && exec "$@"'
    wrapper = [require_tool("unshare"), "-m", "--", "sh", "-c", script, "sh"]
    receiver = Receiver(folder / "receiver", wrapper=wrapper)
    receiver.start()
    try:
        filler = Path(f"/proc/{receiver.daemon.pid}/root{state}/filler")
        _fill(filler)
        full = [receiver.post(marked("full")).status_code for _ in range(50)]
        filler.unlink()
        after = [receiver.post(marked("after")).status_code for _ in range(5)]
        shutil.copytree(filler.parent, folder / "copy" / "state")
    finally:
        receiver.stop()

    assert set(full) <= {200, 503}
    assert full[-1] == 503
    assert after == [200] * 5
    stored = Receiver(folder / "copy").markers()
    assert (stored["full"], stored["after"]) == (full.count(200), 5)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
