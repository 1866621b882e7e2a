"""A workshop of its own, its dashboard, and people who look at it in a real Chromium.

Environment:
    JAMESTRONIC_CHROMIUM: The browser's program, where it is not on the PATH.
    JAMESTRONIC_BROWSER=required: No browser is a failure, not a skip (for CI).
    JAMESTRONIC_SCREENSHOTS: Where the pictures go; by default ``build/screenshots``.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import uvicorn
from conftest_stacks import serving
from examples.dashboard.app import Demo, make_app
from examples.dashboard.desks import Desks
from examples.dashboard.main import Server, demo_people, switch_realtime
from examples.dashboard.scene import set_scene
from fault_proxy import Fault, FaultProxy
from playwright.async_api import Browser, BrowserContext, Locator, Page, async_playwright, expect

from jamestronic_sdk import JamesTronic, Settings, Ticket, Tickets
from jamestronic_sdk.local.seed import DEMO_PASSWORD, seed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
    from uuid import UUID

    from examples.dashboard.desks import Desk

    from jamestronic_sdk.local.stack import LocalSupabase

ROOT = Path(__file__).parents[2]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PASSED = pytest.StashKey[bool]()
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
POLL = 1.0
"""Seconds between reads while Realtime is cut: short, because a test waits for them."""
PATIENCE = 15_000
"""Milliseconds that a page has for what must become true: a busy machine's, not a person's."""


def find_chromium() -> str | None:
    """The browser's program."""
    return os.environ.get("JAMESTRONIC_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser its tests are skipped with one line a file, unless CI says that there must be one."""
    if find_chromium() is None and os.environ.get("JAMESTRONIC_BROWSER") != "required":
        for item in items:
            if "chromium" in getattr(item, "fixturenames", ()):
                item.add_marker(
                    pytest.mark.skip(reason=f"no Chromium: none of {', '.join(PROGRAMS)} (expected)")
                )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell the fixtures how the test went."""
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program; there is one, or JAMESTRONIC_BROWSER says that this is a failure."""
    found = find_chromium()
    assert found is not None, f"no Chromium: none of {', '.join(PROGRAMS)} is on the PATH"
    return found


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures are kept."""
    folder = Path(os.environ.get("JAMESTRONIC_SCREENSHOTS", ROOT / "build" / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def axe() -> str:
    """The accessibility checker's source."""
    return (ROOT / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


# --- the workshop and its dashboard -------------------------------------------------------------------


@dataclass
class Workshop:
    """A seeded stack, and a client with the service key."""

    stack: LocalSupabase
    service: JamesTronic
    ids: dict[str, UUID]

    def person(self, name: str) -> UUID:
        return self.ids[f"{name}@jamestronic.test"]

    async def ticket(self, title: str, *, technician: str | None = None, **fields: Any) -> Ticket:
        """A ticket of this test's own, which no other test touches."""
        made = await self.service.tickets.create(
            title=title, customer_id=self.person("customer"), **{"appliance_brand": "Bosch", **fields}
        )
        if technician is not None:
            made = await self.service.tickets.assign(made, self.person(technician))
        return made


@pytest.fixture(scope="session")
def workshop_stack(chromium: str) -> Iterator[LocalSupabase]:  # noqa: ARG001 - no stack without a browser
    """Not the stack that the other layers share: the admin's board would show their thousands of tickets."""
    with serving() as stack:
        yield stack


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def workshop(workshop_stack: LocalSupabase) -> AsyncIterator[Workshop]:
    ids = await seed(workshop_stack.url, workshop_stack.service_role_key)
    async with JamesTronic(workshop_stack.url, workshop_stack.service_role_key, env_file=None) as service:
        await set_scene(service, ids)
        yield Workshop(workshop_stack, service, ids)


@dataclass
class Dashboard:
    """The running dashboard."""

    url: str
    desks: Desks
    people: dict[str, tuple[str, list[dict[str, Any]]]] = field(default_factory=dict)
    """Name -> address and cookies of a desk that tests share: signing in is not what they are about."""
    idle: dict[tuple[str, bool], Side] = field(default_factory=dict)
    """Windows of earlier tests, by name and size: making one takes longer than going to a page."""

    def desk(self, name: str) -> Desk:
        """The desk that the tests share."""
        address = self.people[name][0]
        return next(desk for desk in self.desks._desks.values() if f"/d/{desk.id}/" in address)

    def before(
        self, patch: pytest.MonkeyPatch, name: str, call: str, act: Callable[[], Awaitable[object]]
    ) -> None:
        """Do something each time when that desk is about to ask the project for this, and not sooner."""
        tickets = self.desk(name)._jt.tickets
        real = getattr(Tickets, call)

        async def late(self: Tickets[Any], *args: Any, **named: Any) -> Any:
            if self is tickets:
                await act()
            return await real(self, *args, **named)

        patch.setattr(Tickets, call, late)


@asynccontextmanager
async def running(workshop: Workshop, project_url: str) -> AsyncIterator[Dashboard]:
    """A dashboard in this very process."""
    desks = Desks(Settings.load(project_url, workshop.stack.anon_key, env_file=None), poll_interval=POLL)
    demo = Demo(demo_people(), DEMO_PASSWORD, partial(switch_realtime, workshop.stack))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(uvicorn.Config(make_app(desks, demo), log_level="warning", lifespan="on"), desks)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve([listener]), name="dashboard")
            try:
                yield Dashboard(f"http://127.0.0.1:{listener.getsockname()[1]}", desks)
            finally:
                server.should_exit = True
                await serving


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def dashboard(workshop: Workshop) -> AsyncIterator[Dashboard]:
    async with running(workshop, workshop.stack.url) as dashboard:
        yield dashboard


@dataclass
class BadLine:
    """A dashboard whose project can be made unreachable."""

    proxy: FaultProxy
    dashboard: Dashboard

    def mend(self) -> None:
        """The project is reached, but for Realtime."""
        self.proxy.heal()
        self.proxy.inject("/realtime/", Fault("no realtime", status=503))

    def tear(self) -> None:
        """No answer of the data API arrives, whether the work was done or not."""
        self.proxy.inject("/rest/", Fault("refused", status=503), Fault("lost", status=503, does_work=True))


@pytest_asyncio.fixture(loop_scope="session")
async def bad_line(workshop: Workshop) -> AsyncIterator[BadLine]:
    """Behind a proxy that knows no Realtime, and whose data API fails when it is torn."""
    proxy = FaultProxy(workshop.stack.url, random.Random(7))  # noqa: S311 - faults by chance, the same each time
    async with proxy.serving(), running(workshop, proxy.url) as dashboard:
        line = BadLine(proxy, dashboard)
        line.mend()
        yield line


@pytest_asyncio.fixture(loop_scope="session")
async def cut_realtime(
    workshop: Workshop, dashboard: Dashboard
) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Cuts Realtime; at the end of the test it is back, and nobody's next try is far away."""
    yield workshop.stack.cut_realtime
    await workshop.stack.restore_realtime()
    dashboard.people.clear()
    dashboard.idle.clear()


# --- people -------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=[*ARGUMENTS, *sandbox])
        yield browser
        await browser.close()


class Side:
    """One person at one window; whatever the console says against the page fails the test."""

    def __init__(self, name: str, page: Page) -> None:
        self.name = name
        self.page = page
        self.address = ""
        """Of the shared desk whose window it is; a later test may have it then."""
        self.complaints: list[str] = []
        self.expected: list[str] = []
        """Patterns of complaints that belong to the test, such as a refused request."""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))

    async def put_away(self) -> None:
        """As if nothing had been done with the window."""
        await self.page.unroute_all()
        await self.page.emulate_media(color_scheme="light")
        await self.page.goto("about:blank")
        self.complaints.clear()
        self.expected.clear()

    def _on_console(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text}")

    @property
    def unexpected(self) -> list[str]:
        return [
            text for text in self.complaints if not any(re.search(pattern, text) for pattern in self.expected)
        ]

    def card(self, ticket: Ticket, *, within: str = "body") -> Locator:
        return self.page.locator(f'{within} li[data-key="{ticket.id}"]')

    def column(self, name: str, ticket: Ticket) -> Locator:
        return self.card(ticket, within=f'[data-column="{name}"]')

    async def sees(self, ticket: Ticket, *, within: str = "body") -> None:
        await expect(self.card(ticket, within=within)).to_be_visible(timeout=PATIENCE)

    async def misses(self, ticket: Ticket, *, within: str = "body") -> None:
        await expect(self.card(ticket, within=within)).to_have_count(0, timeout=PATIENCE)

    async def is_connected(self, kind: str, *, patience: int = PATIENCE) -> None:
        await expect(self.page.locator("#connection")).to_have_attribute("data-kind", kind, timeout=patience)

    async def is_told(self, text: str) -> None:
        await expect(self.page.locator(".toast", has_text=text)).to_be_visible(timeout=PATIENCE)

    async def choose(self, ticket: Ticket, item: str) -> None:
        """Pick from the ticket's menu on the board."""
        await self.card(ticket).locator("button.holder").click()
        await self.page.get_by_role("menu").get_by_text(item, exact=True).click()

    async def press(self, ticket: Ticket, text: str) -> None:
        """Press one of the ticket's buttons."""
        await self.card(ticket).get_by_role("button", name=f"{text} {ticket.label}").click()


class People:
    """Lets people in, each in a browser profile of their own."""

    def __init__(self, browser: Browser, dashboard: Dashboard, pictures: Path, test: str) -> None:
        self.sides: list[Side] = []
        self._browser = browser
        self._dashboard = dashboard
        self._pictures = pictures
        self._test = test
        self._contexts: list[BrowserContext] = []
        self._pictured: set[Side] = set()

    async def context(self, *, is_phone: bool = False) -> BrowserContext:
        made = await self._browser.new_context(
            viewport=PHONE if is_phone else DESKTOP,
            has_touch=is_phone,
            color_scheme="light",
            reduced_motion="reduce",
        )
        made.set_default_timeout(PATIENCE)
        self._contexts.append(made)
        return made

    async def at_the_door(self, *, of: Dashboard | None = None, **options: bool) -> Side:
        """Somebody who has not signed in."""
        side = Side("door", await (await self.context(**options)).new_page())
        self.sides.append(side)
        await side.page.goto((of or self._dashboard).url)
        return side

    async def sign_in(self, side: Side, name: str, *, kind: str = "live") -> Side:
        """By the button with the person's name; the page is live when this returns."""
        await side.page.get_by_role("button", name=name).click()
        await side.is_connected(kind)
        side.name = name.partition(" ")[0].lower()
        return side

    async def open(self, name: str, **options: bool) -> Side:
        """A window of a person who is signed in; live when this returns."""
        known = self._dashboard.people.get(name)
        if known is None:
            side = await self.sign_in(await self.at_the_door(**options), FULL_NAMES[name])
            side.address, side.name = side.page.url, name
            self._dashboard.people[name] = (side.address, await side.page.context.cookies())
            return side
        key = (name, options.get("is_phone", False))
        side = self._dashboard.idle.pop(key, None)
        if side is None:
            context = await self.context(**options)
            await context.add_cookies(known[1])
            side = await self.window(name, context)
            side.address = known[0]
        else:
            self.sides.append(side)
            self._contexts.append(side.page.context)
            await side.page.goto(known[0])
        await side.is_connected("live")
        return side

    async def window(self, name: str, context: BrowserContext) -> Side:
        """One more window in the same browser profile."""
        side = Side(name, await context.new_page())
        self.sides.append(side)
        await side.page.goto(self._dashboard.people[name][0])
        return side

    async def picture(self, side: Side, what: str) -> None:
        """Keep a picture."""
        self._pictured.add(side)
        await side.page.screenshot(path=self._pictures / f"{self._test}-{side.name}-{what}.png")

    async def leave(self, *, is_good: bool) -> None:
        """Where something went wrong keep what everybody saw at the end; close what no later test may have."""
        for side in self.sides:
            if not side.page.is_closed() and side not in self._pictured and not is_good:
                await self.picture(side, "end")
        async with asyncio.TaskGroup() as tasks:
            for context in self._contexts:
                tasks.create_task(self._put_away(context, is_good=is_good))

    async def _put_away(self, context: BrowserContext, *, is_good: bool) -> None:
        side = next((one for one in self.sides if [one.page] == context.pages), None)
        known = None if side is None else self._dashboard.people.get(side.name)
        if side is None or known is None or side.address != known[0] or not is_good:
            await context.close()
            return
        is_phone = side.page.viewport_size == PHONE
        await side.put_away()
        self._dashboard.idle[side.name, is_phone] = side


FULL_NAMES = {
    "ada": "Ada Okafor",
    "ben": "Ben Sørensen",
    "cleo": "Cleo Marín",
    "theo": "Theo Lindqvist",
    "dana": "Dana Whitfield",
}


@pytest_asyncio.fixture(loop_scope="session")
async def people(
    browser: Browser, dashboard: Dashboard, screenshots: Path, request: pytest.FixtureRequest
) -> AsyncIterator[People]:
    test = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")
    people = People(browser, dashboard, screenshots, test)
    yield people
    complaints = {side.name: side.unexpected for side in people.sides if side.unexpected}
    await people.leave(is_good=not complaints and request.node.stash.get(PASSED, False))
    assert complaints == {}
