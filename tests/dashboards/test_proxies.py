"""docs/dashboard.md: every block in its own server, with the options that the page gives to the dashboard."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, expect

from dashboards.web.address_options import allowed_hosts, base_path, trusted_proxy
from dashboards.web.attempts import MOST
from dashboards.web.security import Access
from dashboards.web.snapshot import Snapshots
from tests.helpers import proxies
from tests.helpers.browser import serving, watched
from tests.helpers.memory_source import MemorySource, make_cell
from tests.helpers.proxies import DASHBOARD, NAME, Client, blocks, dashboard_options, replaced
from tests.helpers.wsgi import TOKEN

pytestmark = pytest.mark.long

Start = Callable[[str], tuple[Client, str]]
"""Recipe → a client of the dashboard behind it, and the base path."""

RECIPES = (
    "ssh",
    "nginx",
    "nginx, below a path",
    "nginx, without the path",
    "nginx, default headers",
    "caddy",
    "caddy, below a path",
)


UNNAMED = "default headers, no options"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda recipe: stack.enter_context(behind(recipe, tmp_path))


@contextmanager
def behind(recipe: str, folder: Path) -> Iterator[tuple[Client, str]]:
    """Runs the dashboard and a recipe of the page in front of it."""
    server, _, variant = recipe.partition(", ")
    sub_path = variant in ("below a path", "without the path")
    number = {"ssh": None, "nginx": 0, "caddy": 2}[server]
    options = {} if number is None else dashboard_options(number + sub_path)
    prefix = base_path(options.get("base_path", "/"))
    names = allowed_hosts(options.get("allow_host") or [], "127.0.0.1")
    access = Access() if variant == UNNAMED else Access(hosts=names, token=TOKEN)
    proxy = None if variant.startswith("default headers") else trusted_proxy(options.get("trusted_proxy"))
    source = Snapshots(MemorySource(planned=[make_cell("adam"), make_cell("adam-lawn")]), base_path=prefix)
    with serving(source, access, trusted_proxy=proxy) as address:
        local = address.removeprefix("http://")
        if server == "ssh":
            [block] = [block for block in blocks("sh") if block.startswith("ssh")]
            with proxies.ssh(block, local, folder) as port:
                yield Client(f"http://127.0.0.1:{port}"), prefix
            return
        block = replaced(blocks(server)[sub_path], {DASHBOARD: local})
        if variant == "without the path":
            block = replaced(block, {f"{local};": f"{local}/;"})
        if variant.startswith("default headers"):
            block = re.sub(r"\n *proxy_set_header[^\n]*", "", block)
        with getattr(proxies, server)(block, folder) as port:
            yield Client(f"https://{NAME}:{port}"), prefix


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_recipe_serves_the_dashboard(start: Start, recipe: str) -> None:
    client, prefix = start(recipe)
    asked = f"{prefix}/compare?space=digits"
    status, answer, _ = client.ask(asked)
    login = answer.headers["Location"]
    assert (status, login) == (303, f"{prefix}/login?{urlencode({'next': '/compare?space=digits'})}")

    form = urlencode({"token": TOKEN}).encode()
    status, answer, _ = client.ask(login, "POST", form, Content_Type="application/x-www-form-urlencoded")
    assert (status, answer.headers["Location"]) == (303, asked)
    client.cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert ("Secure" in attributes) is client.secure
    assert f"Path={prefix or '/'}" in attributes

    status, _, page = client.ask(asked)
    assert status == 200
    for file in re.findall(r'(?:src|href)="([^"]*)"', page.decode()):
        assert client.ask(file.replace("&amp;", "&"))[0] == 200, file
    assert client.ask(f"{prefix}/nowhere")[0] == 404
    assert laid_out(client, prefix)["title"]["children"] == "Compare"
    assert client.ask(f"{prefix}/_version?space=digits", Accept="application/json")[0] == 200


def laid_out(client: Client, prefix: str) -> dict[str, dict[str, object]]:
    """What the callback answers that lays out a page."""
    outputs = [("page", "children"), ("title", "children"), ("nav", "children"), ("laid-out", "data")]
    place = {"path": "/compare", "space": "digits", "filters": {}}
    body = {
        "output": "..{}..".format("...".join(map(".".join, outputs))),
        "outputs": [{"id": id_, "property": name} for id_, name in outputs],
        "inputs": [{"id": "wanted", "property": "data", "value": {"place": place, "version": "1"}}],
        "state": [],
        "changedPropIds": ["wanted.data"],
    }
    callback, kind = f"{prefix}/_dash-update-component", "application/json"
    status, _, content = client.ask(callback, "POST", json.dumps(body).encode(), Content_Type=kind)
    assert status == 200, content
    response: dict[str, dict[str, object]] = json.loads(content)["response"]
    return response


@pytest.mark.parametrize(
    ("trusted", "believed"), [(None, False), ("127.0.0.2", False), ("127.0.0.1", True), ("*", True)]
)
def test_only_a_trusted_proxy_is_believed(trusted: str | None, believed: bool) -> None:
    form = urlencode({"token": TOKEN}).encode()
    with serving(MemorySource(), Access(token=TOKEN), trusted_proxy=trusted) as address:
        client = Client(address)
        sent = {"Content_Type": "application/x-www-form-urlencoded", "X_Forwarded_Proto": "https"}
        _, answer, _ = client.ask("/login", "POST", form, **sent)
        assert ("Secure" in answer.headers["Set-Cookie"].split("; ")) is believed
        for number in range(MOST):
            client.ask("/", Authorization="Bearer wrong", X_Forwarded_For=f"10.0.0.{number}")
        status, _, _ = client.ask("/", Authorization=f"Bearer {TOKEN}", X_Forwarded_For="10.0.1.1")
        assert status == (200 if believed else 429)
        assert client.ask("/login", X_Forwarded_Host="evil.example", Forwarded="host=evil.example")[0] == 200


@pytest.mark.parametrize("recipe", ["nginx", "caddy"])
def test_nobody_escapes_the_limit_of_wrong_tokens_by_a_header(start: Start, recipe: str) -> None:
    client, _ = start(recipe)
    for number in range(MOST):
        forged = {"X_Forwarded_For": f"10.0.0.{number}", "Forwarded": f"for=10.0.0.{number}"}
        assert client.ask("/", "GET", b"", Authorization="Bearer wrong", **forged)[0] in (303, 401)
    assert client.ask("/", Authorization=f"Bearer {TOKEN}")[0] == 429


def test_a_page_below_a_path_works_in_a_browser(start: Start, chromium: Browser) -> None:
    client, prefix = start("nginx, below a path")
    with chromium.new_context(ignore_https_errors=True) as context:
        site = watched(context, client.origin)
        page = site.page
        page.goto(f"{client.origin}{prefix}/compare?space=digits")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        site.settled()
        assert page.url == f"{client.origin}{prefix}/compare?space=digits"
        expect(page.get_by_role("heading", level=1)).to_have_text("Compare")
        expect(page.locator("#live")).to_have_text("Live")
        page.get_by_role("navigation", name="Pages").get_by_role("link", name="Cell").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Cell")
        assert page.url == f"{client.origin}{prefix}/cell?space=digits"
        site.settled()
        ticked = page.evaluate("window.dash_clientside.lawn.ticked([{ key: 'k' }])")  # a link that the browser makes
        assert ticked[1] == f"{prefix}/dynamics?space=digits&trial=k"
        assert [cookie["secure"] for cookie in context.cookies()] == [True]
        assert not site.problems


def test_a_refusal_is_shown_in_place_of_live(start: Start, chromium: Browser) -> None:
    """The server cannot know that the name is its own; the page is empty, and shows why and what to do."""
    client, _ = start(f"nginx, {UNNAMED}")
    with chromium.new_context(ignore_https_errors=True) as context:
        page = watched(context, client.origin).page
        page.goto(client.origin)
        live = page.locator("#live")
        expect(live).to_contain_text(f"Not live: This request comes from another site, '{client.origin}'")
        expect(live).to_contain_text("--allow-host")
        with page.expect_response("**/_version*"):  # what is answered later does not hide it
            pass
        expect(live).to_contain_text("Not live: This request comes from another site")
