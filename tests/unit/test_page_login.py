"""Who gets in to the page, as whom, for how long, and who does not."""

import ipaddress
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.config.page import PageSettings
from remediator.web.users import Role, User, user_with_password
from tests.unit.page_site import PASSWORD, PROGRAM, TOKEN, PageSite, form_token

PROXY = "10.0.0.7"
OTHER = (Role.OPERATOR, "another password")
SECRET = "the-proxy-knows-this"
BEHIND_PROXY = PageSettings(
    proxy_addresses=(ipaddress.ip_network(PROXY),),
    proxy_user_header="X-Remote-User",
    operators=("alice",),
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PageSite]:
    site = PageSite(tmp_path)
    yield site
    site.close()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[PageSite]:
    """A page without accounts, behind the receiver's token."""
    site = PageSite(tmp_path, PageSettings())
    yield site
    site.close()


def test_a_stranger_is_sent_to_the_login_and_back(site: PageSite) -> None:
    answer = site.client.get("/incidents?owner=bob&state=open")

    assert answer.status_code == 303
    assert answer.location == "/login?next=/incidents?owner%3Dbob%26state%3Dopen"


def test_who_follows_a_link_from_elsewhere_is_not_taken_for_a_stranger_at_once(
    site: PageSite,
) -> None:
    elsewhere = {"Sec-Fetch-Site": "cross-site"}

    answer = site.client.get("/incidents/1", headers=elsewhere)

    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0">' in answer.text
    assert site.client.post("/commands", headers=elsewhere).status_code == 401


def test_who_logs_in_goes_on_to_where_they_wanted(site: PageSite) -> None:
    answer = site.log_in()

    assert (answer.status_code, answer.location) == (303, "/incidents")
    assert "alice" in site.client.get("/").text


@pytest.mark.parametrize("name", ["alice", "nobody", "ci", ""])
def test_a_wrong_password_is_answered_alike_for_every_name(site: PageSite, name: str) -> None:
    answer = site.log_in(name, "wrong password")

    assert answer.status_code == 401
    assert "no account has this name and password" in answer.text
    assert site.client.get("/").status_code == 303


def test_a_login_sets_a_cookie_that_no_script_and_no_other_site_uses(site: PageSite) -> None:
    cookie = site.log_in().headers["Set-Cookie"]

    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Expires=" in cookie
    assert "Secure" not in cookie


def test_a_login_begins_a_session_of_its_own(site: PageSite) -> None:
    before = form_token(site.client.get("/login"))
    site.log_in()

    assert form_token(site.client.get("/")) not in {"", before}


def test_a_login_form_that_is_not_ours_is_refused(site: PageSite) -> None:
    data = {"name": "alice", "password": PASSWORD, "form": "x" * 43}

    assert site.client.post("/login", data=data).status_code == 403
    assert site.anew().post("/login", data={**data, "form": ""}).status_code == 403
    assert site.client.get("/").status_code == 303


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "/a b", "evil", ""]
)
def test_a_login_leads_to_no_other_server(site: PageSite, elsewhere: str) -> None:
    form = form_token(site.client.get("/login"))
    data = {"name": "alice", "password": PASSWORD, "form": form, "next": elsewhere}

    assert site.client.post("/login", data=data).location == "/"


def test_who_logs_out_is_out_and_so_is_a_copy_of_the_cookie(site: PageSite) -> None:
    site.log_in()
    cookie = site.client.get_cookie("remediator")
    assert cookie is not None
    form = form_token(site.client.get("/"))

    assert site.client.post("/logout", data={"form": form}).location == "/login"

    assert site.client.get("/").status_code == 303
    thief = site.anew()
    thief.set_cookie("remediator", cookie.value)
    assert thief.get("/").status_code == 303


def test_nobody_is_logged_out_by_another_site(site: PageSite) -> None:
    site.log_in()

    assert site.client.post("/logout", data={"form": "no"}).status_code == 403
    assert site.client.get("/").status_code == 200


def test_a_session_ends_by_itself(tmp_path: Path) -> None:
    page = PageSettings(users_file=tmp_path / "users", session=timedelta(seconds=-1))
    site = PageSite(tmp_path, page)
    site.log_in()

    assert site.client.get("/").status_code == 303
    site.close()


def test_a_cookie_that_was_changed_is_believed_nothing(site: PageSite) -> None:
    site.log_in("vera")
    cookie = site.client.get_cookie("remediator")
    assert cookie is not None
    forger = site.anew()
    forger.set_cookie("remediator", "A" + cookie.value[1:])

    assert forger.get("/").status_code == 303


@pytest.mark.parametrize("change", ["removed", "another password", "a program now"])
def test_a_session_ends_with_its_account(site: PageSite, change: str) -> None:
    site.log_in()
    users = site.users
    if change == "removed":
        users.remove("alice")
    else:
        program = users.all()["ci"].hash
        hash_ = program if change == "a program now" else user_with_password("a", *OTHER).hash
        users.put(User("alice", Role.OPERATOR, hash_))

    assert site.client.get("/").status_code == 303


def test_a_role_that_is_taken_away_is_gone_at_once(site: PageSite) -> None:
    site.log_in()
    site.users.put(replace(site.users.all()["alice"], role=Role.VIEWER))

    assert "vera" not in site.client.get("/").text
    assert site.give("pause", reason="mine").status_code == 403


def test_too_many_tries_from_one_address_have_to_wait(site: PageSite) -> None:
    answers = [site.log_in(f"name{n}", "wrong password") for n in range(9)]

    assert [answer.status_code for answer in answers] == [401] * 8 + [429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 21
    assert site.log_in().status_code == 429


def test_a_long_password_is_wrong_and_not_reckoned_with(site: PageSite) -> None:
    began = time.monotonic()

    assert site.log_in("alice", PASSWORD + "x" * 9_000).status_code == 401

    assert time.monotonic() - began < 2


def test_a_broken_users_file_lets_nobody_in_and_says_so(site: PageSite) -> None:
    site.log_in()
    site.users.path.write_text("alice:operator\n")

    answer = site.client.get("/")

    assert answer.status_code == 503
    assert "see the receiver" in answer.text
    assert site.log_in().status_code == 503
    assert "alice:operator" not in answer.text


def test_without_accounts_the_token_lets_look_and_no_more(plain: PageSite) -> None:
    assert plain.log_in("", TOKEN).status_code == 303

    assert plain.client.get("/").status_code == 200
    assert plain.give("pause", reason="no").status_code == 403


def test_without_accounts_the_token_reads_the_api(plain: PageSite) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}

    assert plain.client.get("/api/v1/state", headers=headers).status_code == 200
    order = {"action": "pause", "reason": "no"}
    answer = plain.client.post("/api/v1/commands", headers=headers, json=order)
    assert answer.status_code == 403


def test_with_accounts_the_token_only_delivers(site: PageSite) -> None:
    assert site.log_in("", TOKEN).status_code == 401
    for path in ("/api/v1/state", "/"):
        answer = site.client.get(path, headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code in {401, 303}


def test_a_new_token_ends_the_sessions_of_the_old_one(plain: PageSite) -> None:
    plain.log_in("", TOKEN)
    (plain.folder / "token").write_text("f" * 32)

    assert plain.client.get("/").status_code == 303


def test_without_token_and_accounts_this_machine_may_look(tmp_path: Path) -> None:
    site = PageSite(tmp_path, PageSettings(), with_token=False)

    assert site.client.get("/").status_code == 200
    assert site.give("pause", reason="no").status_code == 403
    assert site.log_in("", "anything").status_code == 401
    site.close()


def test_a_program_commands_by_its_token(site: PageSite) -> None:
    headers = {"Authorization": f"Bearer {PROGRAM}"}

    answer = site.client.post(
        "/api/v1/commands", headers=headers, json={"action": "pause", "reason": "maintenance"}
    )

    assert (answer.status_code, answer.json["accepted"], answer.json["by"]) == (
        200,
        True,
        "ci (api)",
    )


@pytest.mark.parametrize(
    "authorization",
    ["Bearer wrong", "Bearer", f"Basic {PROGRAM}", f"Bearer {PASSWORD}", "", "Bearer sha256:"],
)
def test_no_other_authorization_is_good(site: PageSite, authorization: str) -> None:
    site.log_in()

    answer = site.client.get("/api/v1/state", headers={"Authorization": authorization})

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def through(address: str, **headers: str) -> dict[str, object]:
    """Return how a request comes from *address*."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"environ_base": {"REMOTE_ADDR": address}, "headers": named}


def test_a_proxy_that_is_believed_names_who_comes(tmp_path: Path) -> None:
    site = PageSite(tmp_path, BEHIND_PROXY)

    page = site.client.get("/", **through(PROXY, X_Remote_User="alice"))
    assert "alice" in page.text
    assert "operator" in page.text
    viewer = site.anew().get("/", **through(PROXY, X_Remote_User="somebody"))
    assert "viewer" in viewer.text
    assert site.client.get("/", **through(PROXY)).status_code == 303
    site.close()


def test_where_a_proxy_names_people_the_token_only_delivers(tmp_path: Path) -> None:
    site = PageSite(tmp_path, BEHIND_PROXY)
    headers = {"Authorization": f"Bearer {TOKEN}"}

    assert site.client.get("/api/v1/state", headers=headers).status_code == 401
    assert site.log_in("", TOKEN).status_code == 401
    site.close()


@pytest.mark.parametrize("address", ["10.0.0.8", "127.0.0.1", "::1", "unknown"])
def test_nobody_else_is_believed(tmp_path: Path, address: str) -> None:
    site = PageSite(tmp_path, BEHIND_PROXY)

    answer = site.client.get("/", **through(address, X_Remote_User="alice"))

    assert answer.status_code == 303
    site.close()


@pytest.mark.parametrize(("given", "status"), [(SECRET, 200), ("guessed", 303), (None, 303)])
def test_a_proxy_with_a_secret_has_to_know_it(
    tmp_path: Path, given: str | None, status: int
) -> None:
    (tmp_path / "secret").write_text(SECRET)
    site = PageSite(tmp_path, replace(BEHIND_PROXY, proxy_secret_file=tmp_path / "secret"))
    headers = {"X_Remote_User": "alice"}
    if given:
        headers["X_Remediator_Proxy_Secret"] = given

    assert site.client.get("/", **through(PROXY, **headers)).status_code == status
    site.close()


def test_who_comes_through_a_proxy_needs_a_form_of_ours_as_well(tmp_path: Path) -> None:
    site = PageSite(tmp_path, BEHIND_PROXY)
    here = through(PROXY, X_Remote_User="alice")
    form = form_token(site.client.get("/", **here))
    data = {"action": "pause", "reason": "why not"}

    assert site.client.post("/commands", data=data, **here).status_code == 403
    assert site.client.post("/commands", data={**data, "form": form}, **here).status_code == 303
    site.close()


@pytest.mark.parametrize(
    ("address", "proto", "is_secure"),
    [(PROXY, "https", True), (PROXY, "http", False), ("10.0.0.8", "https", False)],
)
def test_the_cookie_is_secure_where_a_believed_proxy_speaks_tls(
    tmp_path: Path, address: str, proto: str, is_secure: bool
) -> None:
    page = PageSettings(tmp_path / "users", proxy_addresses=BEHIND_PROXY.proxy_addresses)
    site = PageSite(tmp_path, page)

    answer = site.client.get("/login", **through(address, X_Forwarded_Proto=proto))

    assert ("Secure" in answer.headers["Set-Cookie"]) == is_secure
    site.close()


def test_secure_cookies_can_be_asked_for(tmp_path: Path) -> None:
    site = PageSite(tmp_path, PageSettings(tmp_path / "users", secure_cookies=True))

    assert "Secure" in site.client.get("/login").headers["Set-Cookie"]
    site.close()


def test_behind_a_proxy_each_browser_has_tries_of_its_own(tmp_path: Path) -> None:
    page = PageSettings(tmp_path / "users", proxy_addresses=BEHIND_PROXY.proxy_addresses)
    site = PageSite(tmp_path, page)
    form = form_token(site.client.get("/login"))

    def try_from(address: str) -> int:
        seen = f"127.0.0.1, {address}"
        data = {"form": form, "name": address, "password": "wrong password"}
        where = through(PROXY, X_Forwarded_For=seen)
        return site.client.post("/login", data=data, **where).status_code

    assert [try_from("192.0.2.1") for _ in range(9)][-1] == 429
    assert try_from("192.0.2.2") == 401
    site.close()
