"""Each page, light and dark, large and small: axe-core finds nothing serious, and nothing is cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

if TYPE_CHECKING:
    from conftest import People, Side

PAGES = ("door", "ada", "ben", "theo", "dana")


async def findings(side: Side, axe: str) -> list[str]:
    """What axe-core finds, as one line each."""
    # Runs in the browser's own world, so that the page's security policy stays as it is.
    await side.page.evaluate(axe)
    result: dict[str, Any] = await side.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{found['impact']} {found['id']}: {found['nodes'][0]['html'][:200]}"
        for found in result["violations"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
async def test_every_page_is_accessible(people: People, axe: str, scheme: str, size: str) -> None:
    look = {"is_dark": scheme == "dark", "is_phone": size == "phone"}
    for name in PAGES:
        side = await (people.at_the_door(**look) if name == "door" else people.open(name, **look))
        if name == "door":
            await expect(side.page.get_by_role("heading", name="Come in as")).to_be_visible()
        assert await findings(side, axe) == []
        assert await side.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        await people.picture(side, "page")


async def test_menu_dialog_and_messages_are_accessible(people: People, axe: str) -> None:
    ada = await people.open("ada", is_phone=True)
    await ada.page.locator('[data-column="open"] button.holder').first.click()
    await expect(ada.page.get_by_role("menu")).to_be_visible()
    assert await findings(ada, axe) == []
    await people.picture(ada, "menu")
    await ada.page.get_by_role("menu").get_by_text("Schedule", exact=True).click()
    await expect(ada.page.get_by_role("dialog")).to_be_visible()
    assert await findings(ada, axe) == []
    await people.picture(ada, "dialog")
