"""Each page, light and dark, large and small: axe-core finds nothing serious, and nothing is cut off."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import pytest
from playwright.async_api import expect

if TYPE_CHECKING:
    from conftest import People, Side

Scheme: TypeAlias = Literal["light", "dark"]
SCHEMES: Final[tuple[Scheme, ...]] = ("light", "dark")
PAGES = ("door", "ada", "ben", "theo", "dana")


async def findings(side: Side, axe: str) -> list[str]:
    """What axe-core finds by all of its rules, as one line each."""
    await side.page.evaluate(axe)
    result: dict[str, Any] = await side.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{found['impact']} {found['id']}: {found['nodes'][0]['html'][:200]}"
        for found in result["violations"]
    ]


@pytest.mark.parametrize("size", ["desktop", "phone"])
async def test_every_page_is_accessible(people: People, axe: str, size: str) -> None:
    for name in PAGES:
        is_phone = size == "phone"
        side = await (people.at_the_door if name == "door" else partial(people.open, name))(is_phone=is_phone)
        if name == "door":
            await expect(side.page.get_by_role("heading", name="Come in as")).to_be_visible()
        for scheme in SCHEMES:
            await side.page.emulate_media(color_scheme=scheme)
            assert await findings(side, axe) == [], (name, scheme)
            assert await side.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
            await people.picture(side, scheme)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_what_opens_is_accessible(people: People, axe: str, scheme: Scheme) -> None:
    ada = await people.open("ada", is_phone=True)
    await ada.page.emulate_media(color_scheme=scheme)
    await ada.page.locator("#connection").click()
    await expect(ada.page.get_by_role("group", name="Connection")).to_be_visible()
    assert await findings(ada, axe) == []
    await people.picture(ada, "details")
    await ada.page.keyboard.press("Escape")
    await ada.page.locator('[data-column="open"] button.holder').first.click()
    await expect(ada.page.get_by_role("menu")).to_be_visible()
    assert await findings(ada, axe) == []
    await people.picture(ada, "menu")
    await ada.page.get_by_role("menu").get_by_text("Schedule", exact=True).click()
    await expect(ada.page.get_by_role("dialog")).to_be_visible()
    assert await findings(ada, axe) == []
    await people.picture(ada, "dialog")
