"""One tour for every stock client: what a customer who signs up does, and what they must find.

Sign-up, sign-in, refresh; functions, reads and writes under row level security, upsert, embedding; changes,
broadcast, presence, private channels. It needs the package's SQL and nothing else, and it makes its own rows.
"""

from __future__ import annotations

from typing import Any

FACTS: dict[str, Any] = {
    "signed_in": True,
    "refreshed": True,
    "role": "customer",
    "written": ["Mine", True],
    "forged": "42501",
    "read": ["Mine"],
    "foreign_write": [],
    "upserted": ["First", "First", "Second"],
    "embedded": [{"title": "Mine", "customer": {"full_name": "Ada"}, "ticket_notes": [{"body": "Second"}]}],
    "subscribed": "ok",
    "change": ["UPDATE", "Mine, changed"],
    "joined": ["SUBSCRIBED", "SUBSCRIBED"],
    "broadcast": ["ok", {"x": 1.5}],
    "presence": [["ada", "Ada"], ["ada"], "ada"],
    "private": ["SUBSCRIBED", True],
    "signed_out": None,
}
"""What a tour finds. ``forged`` is a row in another's name, ``foreign_write`` an update of another's row;
``change`` comes after a change of a row that the customer may not see."""
