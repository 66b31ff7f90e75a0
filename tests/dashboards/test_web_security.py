"""The checks of every request and the headers of every answer: hosts, tokens, sizes, methods. Without a port."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

import pytest
from dash import Dash

from dashboards.web.app import create_app
from dashboards.web.hosts import is_loopback
from dashboards.web.login import COOKIE, session
from dashboards.web.security import Access, Guard
from dashboards.web.serve import guarded
from dashboards.web.snapshot import Snapshots
from lawn_tune.errors import LedgerError
from lawn_tune.storage import masked
from tests.helpers.memory_source import MemorySource, demo_source
from tests.helpers.wsgi import TOKEN, Answer, ask, log_in

CANARY = "pa55-canary-w0rd"
URL = f"postgresql://reader:{CANARY}@db.example/lawn?sslpassword={CANARY}"


@pytest.fixture(scope="module")
def source() -> Snapshots:
    return Snapshots(demo_source(epochs=10), storage=f"--storage '{masked(URL)}'", shown=masked(URL))


@pytest.fixture(scope="module")
def app(source: Snapshots) -> Dash:
    return create_app(source)


@pytest.fixture
def guard(app: Dash) -> Guard:
    return guarded(app, Access())


@pytest.fixture
def closed(app: Dash) -> Guard:
    return guarded(app, Access(hosts=frozenset({"gpu-box.lan"}), token=TOKEN))


# --- headers ---------------------------------------------------------------------------------------------------------

PLOTLY = "/_dash-component-suites/plotly/package_data/plotly.min.js"

PATHS = (
    "/",
    "/lab?space=x",
    "/_version?space=movielens_100k",
    "/assets/lawn.js",
    "/_dash-layout",
    "/nothing.js",
    PLOTLY,
    "/login",
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [{}, {"host": "evil.example"}, {"content_length": "99999999"}], ids=str)
def test_every_answer_carries_the_headers(guard: Guard, closed: Guard, path: str, headers: dict[str, Any]) -> None:
    for one in (guard, closed):
        answer = ask(one, path, **headers)
        assert answer.header("X-Content-Type-Options") == "nosniff"
        assert answer.header("X-Frame-Options") == "DENY"
        assert answer.header("Referrer-Policy") == ("same-origin" if path == "/login" else "no-referrer")
        assert answer.header("Cross-Origin-Resource-Policy") == "same-origin"
        assert answer.header("Cache-Control") in ("no-store", "private, max-age=31536000")
        rules = dict(rule.split(" ", 1) for rule in answer.header("Content-Security-Policy").split("; "))
        assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
        assert rules["connect-src"] == rules["form-action"] == "'self'"
        assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "https:"} & set(rules["script-src"].split())


def test_no_inline_script_is_without_its_hash(guard: Guard) -> None:
    page = ask(guard, "/").text
    inline = page.count("<script>") + page.count('type="application/javascript"')
    assert inline == ask(guard, "/").header("Content-Security-Policy").count("'sha256-") == 1
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def drawing(guard: Guard) -> str:
    """Where Dash finds Plotly when a page has a figure."""
    return ask(guard, PLOTLY).header("Location")


def test_only_bundles_are_kept_by_browsers(guard: Guard) -> None:
    page = ask(guard, "/").text
    bundles = [part.split('"')[0] for part in page.split('<script src="')[1:]]
    for path in (*bundles, drawing(guard)):
        answer = ask(guard, path)
        assert answer.status == 200, path
        kept = path.startswith(("/_dash-component-suites/", "/assets/plotly-"))
        assert answer.header("Cache-Control") == ("private, max-age=31536000" if kept else "no-store")
    for path in (PLOTLY, "/_dash-component-suites/dash/dcc/gone.js"):
        assert ask(guard, path).header("Cache-Control") == "no-store", "it may lead elsewhere after an update"


# --- compression -----------------------------------------------------------------------------------------------------


def test_the_first_load_is_small_and_unpacks_to_the_same(guard: Guard) -> None:
    """All scripts of a page with figures and tables; whoever does not accept gzip gets them as they are."""
    page = ask(guard, "/", accept_encoding="gzip, br")
    bundles = [part.split('"')[0] for part in gzip.decompress(page.body).decode().split('<script src="')[1:]]
    assert not [path for path in bundles if "plotly" in path], "it is loaded after the words"
    assert [path for path in bundles if PLOTLY.removeprefix("/") in ask(guard, path).text], "Dash loads it from there"
    assert drawing(guard).startswith("/assets/plotly-cartesian-"), "else Dash loads the whole of Plotly"
    later = [f"/_dash-component-suites/{name}.js" for name in ("dash/dcc/async-graph", "dash_ag_grid/async-community")]
    total = 0
    for path in [*bundles, *later, drawing(guard)]:
        packed, plain = ask(guard, path, accept_encoding="gzip"), ask(guard, path, accept_encoding="gzip;q=0")
        assert plain.header("Content-Encoding") == ""
        assert (plain.status, packed.status, packed.header("Vary")) == (200, 200, "Accept-Encoding")
        body = gzip.decompress(packed.body) if packed.header("Content-Encoding") else packed.body
        assert body == plain.body
        assert int(packed.header("Content-Length")) == len(packed.body)
        total += len(packed.body)
    assert total < 2_000_000


def test_answers_that_are_small_or_no_text_are_sent_as_they_are(guard: Guard) -> None:
    for path in ("/_version?space=nowhere", "/assets/theme.js"):
        assert ask(guard, path, accept_encoding="gzip").header("Content-Encoding") == ""


# --- hosts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8050", "LOCALHOST:1", "127.0.0.1:8050", "[::1]:8050", "10.0.0.7:80"]
)
def test_loopback_names_and_addresses_are_answered(guard: Guard, host: str) -> None:
    assert ask(guard, host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8050",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        None,
        "[",
        "gpu-box.lan",
    ],
)
def test_other_names_are_refused_with_what_to_do(guard: Guard, host: str | None) -> None:
    answer = ask(guard, host=host)
    assert answer.status == 421
    assert "--allow-host" in answer.text


def test_an_allowed_name_is_answered(closed: Guard) -> None:
    assert ask(closed, host="GPU-box.lan:8050").status == 401
    assert ask(closed, host="other.lan").status == 421


# --- methods, sizes, origins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
@pytest.mark.parametrize("path", ["/", "/_version", "/_dash-layout", "/login", "/api/studies"])
def test_nothing_is_written(guard: Guard, method: str, path: str) -> None:
    answer = ask(guard, path, method=method, body=b"{}")
    assert answer.status == 405
    assert answer.header("Allow") == "GET, HEAD"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_length": "1000001"}, 413),
        ({"content_length": "-1"}, 400),
        ({"content_length": "ten"}, 400),
        ({"content_length": None, "transfer_encoding": "chunked"}, 411),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
    ],
    ids=str,
)
def test_what_is_too_large_or_from_elsewhere_is_refused(guard: Guard, headers: dict[str, Any], status: int) -> None:
    assert ask(guard, "/_dash-update-component", method="POST", body=b"{}", **headers).status == status


def test_long_addresses_are_refused(guard: Guard) -> None:
    assert ask(guard, "/?space=" + "x" * 9_000).status == 414


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"output": "../../etc/passwd.children"}', b"\xff\xfe"])
def test_bodies_that_make_no_sense_get_an_answer_without_a_traceback(guard: Guard, body: bytes) -> None:
    answer = ask(guard, "/_dash-update-component", method="POST", body=body)
    assert 400 <= answer.status <= 500
    for word in ("Traceback", 'File "', "dash.exceptions", "KeyError"):
        assert word not in answer.text


@pytest.mark.parametrize(
    "path", ["/_dash-component-suites/dash/../../etc/passwd", "/assets/../web/app.py", "/assets/%2e%2e/cli.py"]
)
def test_no_file_but_its_own_is_served(guard: Guard, path: str) -> None:
    answer = ask(guard, path)
    assert "import" not in answer.text or answer.status >= 400


@pytest.mark.parametrize("path", ["/_reload-hash", "/_mcp", "/_dash-health", "/_favicon.ico", "/_dash-ws"])
def test_doors_for_developers_are_shut(guard: Guard, path: str) -> None:
    assert ask(guard, path).status == 404


def test_debugging_is_off(guard: Guard) -> None:
    config = json.loads(ask(guard).text.split('id="_dash-config" type="application/json">')[1].split("</script>")[0])
    assert not config["ui"]
    assert not config["props_check"]
    assert "hot_reload" not in config


# --- token -----------------------------------------------------------------------------------------------------------


def test_without_the_token_nothing_is_shown(closed: Guard) -> None:
    for path in ("/", "/_version?space=movielens_100k", "/_dash-layout", "/assets/lawn.js", "/_dash-dependencies"):
        answer = ask(closed, path)
        assert answer.status == 401, path
        assert answer.header("WWW-Authenticate").startswith("Bearer")
        assert "movielens" not in answer.text
    assert ask(closed, "/_dash-update-component", method="POST", body=b"{}").status == 401
    assert ask(closed, accept="text/html").header("Location") == "/login"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": f"Bearer {TOKEN}"}, 200),
        ({"authorization": f"bearer  {TOKEN} "}, 200),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"cookie": f"{COOKIE}={session(TOKEN)}"}, 200),
        ({"cookie": f"a=b; {COOKIE}={session(TOKEN)}; c=d"}, 200),
        ({"cookie": f"{COOKIE}={TOKEN}"}, 401),
        ({"cookie": f"{COOKIE}={session(TOKEN + 'x')}"}, 401),
        ({"cookie": f"{COOKIE}="}, 401),
        ({"cookie": "\x80;;=,"}, 401),
        ({"authorization": "Bearer \xff\xfe"}, 401),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_token_opens_and_nothing_else_does(closed: Guard, headers: dict[str, Any], status: int) -> None:
    assert ask(closed, **headers).status == status


def test_a_token_in_the_address_opens_nothing(closed: Guard) -> None:
    for query in (f"token={TOKEN}", f"access_token={TOKEN}", f"{COOKIE}={session(TOKEN)}"):
        assert ask(closed, f"/?{query}").status == 401


def test_logging_in_sets_a_cookie_that_scripts_and_other_sites_do_not_get(closed: Guard) -> None:
    assert "<form" in ask(closed, "/login").text
    answer = log_in(closed, TOKEN)
    assert (answer.status, answer.header("Location")) == (303, "/")
    value, *attributes = answer.header("Set-Cookie").split("; ")
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert TOKEN not in answer.header("Set-Cookie")
    assert ask(closed, cookie=value).status == 200


def test_a_wrong_token_is_shown_and_not_repeated(closed: Guard) -> None:
    for wrong in ("", "x", TOKEN + "!", "<script>alert(1)</script>"):
        answer = log_in(closed, wrong)
        assert answer.status == 401
        assert "Wrong token." in answer.text
        assert not answer.header("Set-Cookie")
        assert "<script>" not in answer.text
    assert log_in(closed, TOKEN, origin="https://evil.example").status == 403
    assert ask(closed, "/login", method="POST", body=b"x" * 5_000).status == 413


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("gpu-box.lan", False),
        ("", False),
    ],
)
def test_which_addresses_are_this_machine_alone(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


# --- secrets and errors ----------------------------------------------------------------------------------------------


class Failing(MemorySource):
    """A ledger whose database has gone, with an error that no layer foresaw."""

    def version(self, space: str) -> str:
        raise LedgerError(f"ledger {masked(URL)}: connection refused", "Check that the server runs.")

    def trials(self, space: str) -> Any:
        raise RuntimeError(f"could not connect to {URL}")


def callbacks(guard: Guard, space: str) -> list[tuple[str, Answer]]:
    """Every callback of the application, called as the browser does."""
    found: list[Mapping[str, Any]] = json.loads(ask(guard, "/_dash-dependencies").text)
    answers = []
    for one in found:
        if one["clientside_function"]:
            continue
        output = one["output"]
        several = output.startswith("..")
        outputs = [_output(part) for part in output[2:-2].split("...")] if several else _output(output)
        paths = {"/", "/compare", "/cell", "/dynamics", "/tuning-curve", "/progress", "/trial"}
        for path in sorted(paths):
            place = {"path": path, "space": space, "filters": {}}
            values = {"here": place, "version": "1", "wanted": {"place": place, "version": "1"}}
            inputs = [{**i, "value": values.get(i["id"])} for i in one["inputs"]]
            state = [{**i, "value": None} for i in one["state"]]
            body = {"output": output, "outputs": outputs, "inputs": inputs, "state": state, "changedPropIds": []}
            sent = json.dumps(body).encode()
            answers.append((output, ask(guard, "/_dash-update-component", method="POST", body=sent)))
    return answers


def _output(text: str) -> dict[str, Any]:
    id_, _, prop = text.rpartition(".")
    return {"id": json.loads(id_) if id_.startswith("{") else id_, "property": prop}


def test_no_answer_holds_the_databases_password(guard: Guard, source: Snapshots) -> None:
    answers = [(path, ask(guard, path)) for path in PATHS] + callbacks(guard, "movielens_100k")
    assert sum(answer.status == 200 for _, answer in answers) > len(PATHS)
    assert any("db.example" in answer.text for _, answer in answers)  # the ledger's address is shown
    for name, answer in answers:
        assert CANARY not in answer.text, name
        assert all(CANARY not in value for _, value in answer.headers)


def test_errors_are_reported_without_secrets_or_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    failing = Failing(planned=demo_source(epochs=10).planned)
    guard = guarded(create_app(Snapshots(failing, shown=masked(URL))), Access())
    answers = [(path, ask(guard, path)) for path in PATHS] + callbacks(guard, "movielens_100k")
    assert ask(guard, "/_version?space=movielens_100k").status == 503
    assert "connection refused" in ask(guard, "/_version?space=movielens_100k").text
    for name, answer in answers:
        assert CANARY not in answer.text, name
        assert "Traceback" not in answer.text, name
    assert any("connection refused" in answer.text for _, answer in answers)
