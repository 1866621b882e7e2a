"""`jamestronic demo`: the web dashboard of the checkout, which is an example and not in the package."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from jamestronic_sdk.errors import ToolMissingError

__all__ = ["demo"]

_CHECKOUT: Final = Path(__file__).parents[3]
"""In a checkout its root; where the package is installed, nothing of ours."""


def demo(
    context: typer.Context,
    *,
    is_opened: Annotated[
        bool, typer.Option("--open/--no-open", help="Show it in a browser, or only say where it is.")
    ] = True,
) -> None:
    """Run the web dashboard of the checkout; it takes more options: --port, --host, --poll, --ephemeral.

    It shows the project of SUPABASE_URL; without that the local stack that runs here; without that one of its
    own, with invented people, removed at the end.
    """
    program = dashboard_of(_CHECKOUT)
    opening = ["--open"] if is_opened else []
    os.execv(sys.executable, [sys.executable, str(program), *opening, *context.args])  # noqa: S606 - our own program


def dashboard_of(checkout: Path) -> Path:
    """The dashboard of a checkout.

    Raises:
        ToolMissingError: It is not there: this is no checkout.
    """
    program = checkout / "examples" / "dashboard"
    if not (program / "__main__.py").is_file():
        raise ToolMissingError(
            "The dashboard is an example of the source repository, not a part of the installed package.",
            next_step="Get the source of this package, and run `make dashboard` there.",
        )
    return program
