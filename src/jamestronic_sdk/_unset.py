"""The difference between "not given" and ``None``."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, TypeAlias

from typing_extensions import override

__all__ = ["UNSET", "Unset"]


class _Sentinel(Enum):
    UNSET = "UNSET"

    @override
    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final = _Sentinel.UNSET
"""The argument was not given: keep what was, or take the default."""

Unset: TypeAlias = Literal[_Sentinel.UNSET]
