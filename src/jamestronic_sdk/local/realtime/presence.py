"""Who is present in a room: keys, each with the metas of the connections that share it.

Promises:
    Pure: calls in, diffs out; nothing is sent here.
    A diff tells what changed and nothing else; one that changes nothing is None.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Diff", "Presences"]

Meta: TypeAlias = "dict[str, Any]"

_Owner = TypeVar("_Owner")


@dataclass(frozen=True, slots=True)
class Diff:
    """The payload of ``presence_diff``."""

    joins: Mapping[str, Meta] = field(default_factory=dict[str, Meta])
    """Key to the new meta."""
    leaves: Mapping[str, Meta] = field(default_factory=dict[str, Meta])
    """Key to the meta that is gone."""

    def payload(self) -> dict[str, object]:
        """As it is sent."""
        return {"joins": _listed(self.joins), "leaves": _listed(self.leaves)}


@dataclass(frozen=True, slots=True)
class _Presence:
    key: str
    payload: Mapping[str, Any]
    meta: Meta


class Presences(Generic[_Owner]):
    """The presences of one room, at most one per owner."""

    def __init__(self) -> None:
        self._of: dict[_Owner, _Presence] = {}

    def track(self, owner: _Owner, key: str, payload: Mapping[str, Any]) -> Diff | None:
        """The owner is present, with this payload; None if it was already, with the same.

        Args:
            owner: Who; compared by ``==``.
            key: What it is known by; others may share it.
            payload: An object; ``phx_ref`` and ``phx_ref_prev`` in it are replaced.
        """
        before = self._of.get(owner)
        if before is not None and before.payload == payload:
            return None
        meta: Meta = {**payload, "phx_ref": _reference()}
        meta.pop("phx_ref_prev", None)
        if before is not None:
            meta["phx_ref_prev"] = before.meta["phx_ref"]
        self._of[owner] = _Presence(key, payload, meta)
        return Diff({key: meta}, {} if before is None else {before.key: before.meta})

    def untrack(self, owner: _Owner) -> Diff | None:
        """The owner is gone; None if it was not present."""
        before = self._of.pop(owner, None)
        return None if before is None else Diff(leaves={before.key: before.meta})

    def state(self) -> dict[str, object]:
        """The payload of ``presence_state``."""
        metas: dict[str, list[Meta]] = {}
        for presence in self._of.values():
            metas.setdefault(presence.key, []).append(presence.meta)
        return {key: {"metas": each} for key, each in metas.items()}


def _listed(metas: Mapping[str, Meta]) -> dict[str, object]:
    return {key: {"metas": [meta]} for key, meta in metas.items()}


def _reference() -> str:
    """Unique, and of the form of Phoenix's."""
    return base64.b64encode(secrets.token_bytes(12)).decode()
