"""The dashboard behind a proxy: names and ports, a base path, the login, unknown addresses. Without a port."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from dash import Dash
from hypothesis import given
from hypothesis import strategies as st

from dashboards import cli
from dashboards.web.address_options import allowed_hosts, base_path
from dashboards.web.app import create_app
from dashboards.web.attempts import MOST, SECONDS, Attempts
from dashboards.web.hosts import own_page
from dashboards.web.login import COOKIE, Login, session
from dashboards.web.pages import PAGES
from dashboards.web.security import Access, Guard
from dashboards.web.serve import guarded
from dashboards.web.snapshot import Snapshots
from lawn_tune.errors import UsageError
from tests.helpers.memory_source import MemorySource, make_cell
from tests.helpers.wsgi import TOKEN, ask, log_in

NAME = "lawn.example.org"
ACCESS = Access(hosts=frozenset({NAME}), token=TOKEN)
PREFIXES = ("", "/lawn", "/team/lawn")
CALLBACK = "/_dash-update-component"


def application(prefix: str) -> Dash:
    return create_app(Snapshots(MemorySource(planned=[make_cell("adam")]), base_path=prefix))


@pytest.fixture(scope="module")
def apps() -> dict[str, Dash]:
    """Base path → application."""
    return {prefix: application(prefix) for prefix in PREFIXES}


@pytest.fixture
def closed(apps: dict[str, Dash]) -> Guard:
    return guarded(apps[""], ACCESS)


# --- names and ports -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8050", f"https://{NAME}"),  # nginx's default: the address in proxy_pass
        ("127.0.0.1:8050", f"https://{NAME}:8443"),
        (NAME, f"https://{NAME}:8443"),  # $host, without the port
        (f"{NAME}:443", f"https://{NAME}"),  # $host:$server_port
        (f"{NAME}:8050", f"http://{NAME}:8050"),
        (f"{NAME.upper()}.", f"https://{NAME}"),
        ("127.0.0.1:80", "http://127.0.0.1"),
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("localhost:9000", "http://localhost:9000"),
        ("[::1]:8050", "http://[::1]:8050"),
    ],
)
def test_callbacks_of_its_own_pages_are_answered(apps: dict[str, Dash], host: str, origin: str) -> None:
    guard = guarded(apps[""], Access(hosts=frozenset({NAME})))
    body = json.dumps({"output": "x.y", "inputs": []}).encode()
    assert ask(guard, CALLBACK, "POST", body, host=host, origin=origin).status not in (403, 421)
    assert ask(guard, host=host).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1:8050", NAME, f"{NAME}:8050"])
@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "https://",
        "http://[",
        "https://evil.example",
        "http://127.0.0.1:9999",
        "http://localhost:8050",
        f"https://{NAME}.evil.example",
        f"https://evil.example/{NAME}",
        f"https://{NAME}@evil.example",
    ],
)
def test_callbacks_of_other_sites_are_refused_with_what_to_do(apps: dict[str, Dash], host: str, origin: str) -> None:
    guard = guarded(apps[""], Access(hosts=frozenset({NAME})))
    answer = ask(guard, CALLBACK, "POST", b"{}", host=host, origin=origin)
    assert answer.status == 403
    assert f"'{origin}'" in answer.text
    assert "--allow-host" in answer.text


@given(
    st.lists(
        st.sampled_from(["http", "://", NAME, "evil", ".", ":", "@", "/", "\\", "[", "]", "#", "80", " "]), max_size=8
    )
)
def test_an_origin_of_this_server_names_it_and_nothing_else(parts: list[str]) -> None:
    origin = "".join(parts)
    found = urlsplit(origin) if own_page(origin, NAME, {NAME}) else None
    assert found is None or found.hostname == NAME


# --- base path -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    "path", ["/", "/compare?space=digits", "/assets/lawn.js", "/_version?space=digits", "/nowhere"]
)
def test_a_proxy_may_pass_the_base_path_on_or_remove_it(apps: dict[str, Dash], prefix: str, path: str) -> None:
    guard = guarded(apps[prefix], Access())
    passed, removed = ask(guard, prefix + path), ask(guard, path)
    assert (passed.status, passed.headers) == (removed.status, removed.headers)
    config = b'id="_dash-config"'  # holds a set, in any order
    assert passed.body.split(config)[0] == removed.body.split(config)[0]
    assert passed.status == (404 if path == "/nowhere" else 200)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_address_in_a_page_is_below_the_base_path(apps: dict[str, Dash], prefix: str) -> None:
    guard = guarded(apps[prefix], Access())
    page = ask(guard, f"{prefix}/").text
    found = [unescape(address) for address in re.findall(r'(?:src|href)="([^"]*)"', page)]
    assert len(found) > 5
    for address in found:
        assert address.startswith(f"{prefix}/"), address
        assert ask(guard, address).status == 200, address
    layout = ask(guard, f"{prefix}/_dash-layout").text.replace("\\u002f", "/") + nav(guard, prefix)
    links = re.findall(r'"(?:href|src)": ?"(/[^"]*)"', layout)
    assert len(links) > 2 * sum(page.listed for page in PAGES)
    assert all(link.startswith(f"{prefix}/") for link in links)
    assert json.loads(page.split('id="lawn-looks">')[1].split("</script>")[0])["base"] == prefix
    assert ask(guard, f"{prefix}/budget?a=b").header("Location") == f"{prefix}/tuning-curve?a=b"


def nav(guard: Guard, prefix: str) -> str:
    """What a page's layout callback answers: its links among others."""
    outputs = [{"id": id_, "property": name} for id_, name in LAYOUT]
    place = {"place": {"path": "/", "space": "digits", "filters": {}}, "version": "1"}
    inputs = [{"id": "wanted", "property": "data", "value": place}]
    output = "..{}..".format("...".join(f"{id_}.{name}" for id_, name in LAYOUT))
    body = {"output": output, "outputs": outputs, "inputs": inputs, "state": [], "changedPropIds": ["wanted.data"]}
    answer = ask(guard, prefix + CALLBACK, "POST", json.dumps(body).encode())
    assert answer.status == 200
    return answer.text.replace("\\u002f", "/")


LAYOUT = (("page", "children"), ("title", "children"), ("nav", "children"), ("laid-out", "data"))


@pytest.mark.parametrize(
    ("text", "path"),
    [("/", ""), ("", ""), ("/lawn", "/lawn"), ("/lawn/", "/lawn"), ("/team/lawn-2", "/team/lawn-2"), ("/~me", "/~me")],
)
def test_a_base_path_may_end_with_a_slash(text: str, path: str) -> None:
    assert base_path(text) == path


WRONG_PATHS = ("lawn", "//", "/a//b", "/../x", "/a/..", "/ä", "/a b", "/a?b", "/a\n", "https://x")
WRONG_NAMES = ("", "https://x", "x:80", "x/y", "*.x", "a b", "-x", "[::1]:80", "x\n", "..")


@pytest.mark.parametrize(
    ("options", "where"),
    [
        *[({"base_path": path}, "base-path") for path in WRONG_PATHS],
        *[({"allow_host": [name]}, "allow-host") for name in WRONG_NAMES],
        *[({"trusted_proxy": a}, "trusted-proxy") for a in ("", "localhost", "10.0.0.0/8", "127.0.0.1:80")],
    ],
    ids=str,
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_refused_with_what_is_allowed(options: dict[str, Any], where: str) -> None:
    with pytest.raises(UsageError, match=f"--{where} '") as refused:
        cli.dashboard(storage="sqlite:////nowhere/ledger.db", **options)
    assert "Give" in (refused.value.hint or "")


def test_names_are_compared_as_browsers_send_them() -> None:
    names = allowed_hosts(["GPU-Box.lan.", "bücher.example", "10.0.0.7", "[fd00::1]"], "127.0.0.1")
    assert names == {"gpu-box.lan", "xn--bcher-kva.example", "10.0.0.7", "fd00::1"}
    assert allowed_hosts([], "gpu-box.lan") == {"gpu-box.lan"}


# --- unknown addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/compare/",
        "/a/b",
        "//x",
        "/favicon.ico",
        "/assets/none.js",
        "/static/x",
        "/_version/x",
        "/_dash-layout/x",
        "/_dash-component-suites/dash/none.js",
        "/_dash-component-suites/none/x.js",
        "/_dash-component-suites/",
        "/\xff\xfe",
    ],
)
def test_an_unknown_address_is_not_found(apps: dict[str, Dash], path: str, caplog: pytest.LogCaptureFixture) -> None:
    assert ask(guarded(apps[""], Access()), path).status == 404
    assert not caplog.records  # such requests must not fill the log


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_every_page_is_found(apps: dict[str, Dash], page: Any) -> None:
    assert ask(guarded(apps[""], Access()), page.path).status == 200


# --- login -----------------------------------------------------------------------------------------------------------

ASKED = ("/", "/compare?space=digits&batch=64", "/cell?cell=digits%2Fadam%2Fbs64", "/nowhere", "/a%20b?x=%F0%9F%A6%8A")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("asked", ASKED)
def test_the_login_leads_to_the_address_that_was_asked_for(apps: dict[str, Dash], prefix: str, asked: str) -> None:
    guard = guarded(apps[prefix], ACCESS)
    path, _, query = asked.partition("?")
    raw = path.replace("%20", " ")  # a server decodes the path
    login = ask(guard, prefix + raw + ("?" + query if query else ""), accept="text/html").header("Location")
    assert login.startswith(f"{prefix}/login")
    assert log_in(guard, "a wrong one", login).status == 401
    answer = log_in(guard, TOKEN, login)
    assert (answer.status, answer.header("Location")) == (303, prefix + asked)
    cookie = answer.header("Set-Cookie")
    assert f"; Path={prefix or '/'};" in f"{cookie};"


OUTSIDE = (
    "//evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example", "evil.example", "data:,x",
    "/\t/evil.example", "/\n/evil.example", " //evil.example", "///evil.example", "/%0d%0aSet-Cookie:x", "",
)  # fmt: skip


@pytest.mark.parametrize("asked", OUTSIDE)
def test_the_login_leads_to_no_other_server(closed: Guard, asked: str) -> None:
    answer = log_in(closed, TOKEN, f"/login?next={quote(asked)}")
    assert answer.status == 303
    assert answer.header("Location") in ("/", "/%0d%0aSet-Cookie:x")


@given(st.text(alphabet=st.sampled_from("/\\.:@?#%&=\t\n\r ae\u3002ä\0"), max_size=12))
def test_no_address_after_the_login_is_elsewhere(asked: str) -> None:
    guard = Guard(lambda environ, start: [], Access(token=TOKEN), "")
    location = log_in(guard, TOKEN, f"/login?next={quote(asked)}").header("Location")
    seen = re.sub(r"[\t\n\r]", "", location).replace("\\", "/").strip()  # as browsers read it
    assert seen.startswith("/")
    assert not seen.startswith("//")
    assert not urlsplit(seen).netloc


def test_a_very_long_address_is_forgotten_and_the_login_works(closed: Guard) -> None:
    login = ask(closed, "/?x=" + "%2F" * 2_000, accept="text/html").header("Location")
    assert login == "/login"
    long = ask(closed, "/?x=" + "a" * 3_000, accept="text/html").header("Location")
    assert parse_qs(urlsplit(long).query)["next"] == ["/?x=" + "a" * 3_000]


@pytest.mark.parametrize(
    ("headers", "secure"),
    [
        ({"origin": f"https://{NAME}", "host": NAME}, True),
        ({"origin": f"http://{NAME}", "host": NAME}, False),
        ({}, False),
        ({"x_forwarded_proto": "https"}, False),  # not from a trusted proxy
        ({"forwarded": "proto=https"}, False),
    ],
    ids=str,
)
def test_the_cookie_is_secure_where_the_browser_uses_tls(closed: Guard, headers: dict[str, str], secure: bool) -> None:
    attributes = log_in(closed, TOKEN, **headers).header("Set-Cookie").split("; ")
    assert ("Secure" in attributes) is secure


# --- wrong tokens ----------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limited(clock: Clock) -> Guard:
    """A server without pages, whose time stands still."""
    guard = Guard(lambda environ, start: (start("200 OK", []), [b""])[1], ACCESS, "")
    guard._login = Login(TOKEN, attempts=Attempts(clock))
    return guard


def bearer(guard: Guard, token: str, address: str) -> int:
    return ask(guard, authorization=f"Bearer {token}", remote_addr=address).status


@pytest.mark.parametrize("by_form", [True, False])
def test_after_ten_wrong_tokens_none_is_looked_at_for_a_minute(limited: Guard, clock: Clock, by_form: bool) -> None:
    def send(token: str, address: str = "10.0.0.1") -> int:
        sent = log_in(limited, token, remote_addr=address).status if by_form else bearer(limited, token, address)
        return 200 if sent == 303 else sent

    assert [send("wrong") for _ in range(MOST)] == [401] * MOST
    assert send("wrong") == send(TOKEN) == 429
    assert bearer(limited, TOKEN, "10.0.0.1") == log_in(limited, TOKEN, remote_addr="10.0.0.1").status == 429
    assert send(TOKEN, "10.0.0.2") == 200  # others are not affected
    cookie = f"{COOKIE}={session(TOKEN)}"
    assert ask(limited, cookie=cookie, remote_addr="10.0.0.1").status == 200  # nor is who has logged in
    wait = int(log_in(limited, TOKEN, remote_addr="10.0.0.1").header("Retry-After"))
    assert wait == SECONDS
    clock.now += wait - 1
    assert send(TOKEN) == 429
    clock.now += 1
    assert send(TOKEN) == 200


@given(st.lists(st.floats(0, 30), max_size=60))
def test_in_any_minute_at_most_ten_wrong_tokens_are_looked_at(pauses: list[float]) -> None:
    clock = Clock()
    attempts, looked = Attempts(clock), list[float]()
    for pause in pauses:
        clock.now += pause
        if not attempts.wait("10.0.0.1"):
            attempts.note("10.0.0.1")
            looked.append(clock.now)
    for first, last in zip(looked, looked[MOST:], strict=False):
        assert last - first >= SECONDS - 1e-9


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("nonsense", None, True),
    ],
)
def test_a_client_is_an_ipv4_address_or_64_bits_of_an_ipv6_one(one: str, other: str | None, same: bool) -> None:
    attempts = Attempts()
    for _ in range(MOST):
        attempts.note(one)
    assert bool(attempts.wait(other)) is same


def test_addresses_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboards.web.attempts.MAX_ADDRESSES", 3)
    attempts = Attempts()
    for number in range(10):
        attempts.note(f"10.0.0.{number}")
    assert list(attempts._times) == ["10.0.0.7", "10.0.0.8", "10.0.0.9"]
