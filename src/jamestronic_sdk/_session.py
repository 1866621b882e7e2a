"""One session: its tokens, its person, and when the access token ends."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from supabase_auth import AsyncGoTrueClient
    from supabase_auth.types import Session as AuthSession

    from jamestronic_sdk._clock import Clock

__all__ = ["Session"]


class _Stored(BaseModel):
    """A session as text."""

    model_config: ClassVar[ConfigDict] = ConfigDict(defer_build=True, hide_input_in_errors=True)

    project: str
    user_id: UUID
    access_token: str
    refresh_token: str
    lifetime: float
    ends_wall: float


@dataclass(frozen=True, slots=True)
class Session:
    """One session and when its access token ends, on both of the machine's clocks.

    The lifetime counts from the moment the token arrived, so a clock that differs from the server's does
    no harm; the wall clock is there because the other one may stand still while the machine sleeps.
    """

    user_id: UUID
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    door: AsyncGoTrueClient = field(repr=False)
    lifetime: float
    ends_now: float
    ends_wall: float

    @classmethod
    def of(cls, answer: AuthSession, door: AsyncGoTrueClient, clock: Clock) -> Session:
        """From Auth's answer, at the moment it arrived."""
        lifetime = max(1.0, float(answer.expires_in))
        return cls(
            user_id=UUID(answer.user.id),
            access_token=answer.access_token,
            refresh_token=answer.refresh_token,
            door=door,
            lifetime=lifetime,
            ends_now=clock.now() + lifetime,
            ends_wall=clock.wall() + lifetime,
        )

    def remaining(self, clock: Clock) -> float:
        """Seconds that the access token is still good for; negative when it has expired."""
        return min(self.ends_now - clock.now(), self.ends_wall - clock.wall())

    def to_text(self, project: str) -> str:
        """For a ``SessionStore``."""
        return json.dumps(
            {
                "project": project,
                "user_id": str(self.user_id),
                "access_token": self.access_token,
                "refresh_token": self.refresh_token,
                "lifetime": self.lifetime,
                "ends_wall": self.ends_wall,
            }
        )

    @classmethod
    def from_text(cls, text: str, project: str, door: AsyncGoTrueClient, clock: Clock) -> Session | None:
        """From a ``SessionStore``; None for what is malformed or belongs to another project."""
        try:
            stored = _Stored.model_validate_json(text)
        except ValidationError:
            return None
        if stored.project != project:
            return None
        return cls(
            user_id=stored.user_id,
            access_token=stored.access_token,
            refresh_token=stored.refresh_token,
            door=door,
            lifetime=stored.lifetime,
            ends_now=clock.now() + stored.ends_wall - clock.wall(),
            ends_wall=stored.ends_wall,
        )

    def margin(self, wanted: float) -> float:
        """``wanted`` seconds, or less for a token that lives so short that it would always be stale."""
        return min(wanted, self.lifetime / 3)
