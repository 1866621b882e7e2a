"""The `jamestronic` command, also as ``python -m jamestronic_sdk``; says which extra is missing."""

from __future__ import annotations

import sys

from jamestronic_sdk.errors import ToolMissingError

__all__ = ["main"]

_EXTRAS = {
    "rich": "cli",
    "typer": "cli",
    "aiohttp": "local",
    "bcrypt": "local",
    "jwt": "local",
    "psycopg": "local",
    "psycopg_pool": "local",
}


def main() -> None:
    """Run the command; ends the process with its exit code."""
    try:
        # Imported here, because what they need is optional; the parts of `local` come later still, as needed.
        from jamestronic_sdk.cli import run  # noqa: PLC0415 - see above

        run()
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        if extra is None:
            raise
        missing = ToolMissingError(
            f"This command needs the Python package `{error.name}`.",
            next_step=f"Run: pip install 'jamestronic_sdk[{'cli' if extra == 'cli' else 'cli,local'}]'",
        )
        sys.stderr.write(f"{type(missing).__name__}: {missing}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
