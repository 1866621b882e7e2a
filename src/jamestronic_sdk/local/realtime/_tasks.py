"""A patch over a hole of structured concurrency: cancellations that get lost."""

from __future__ import annotations

import asyncio

__all__ = ["raise_if_cancelled"]


def raise_if_cancelled() -> None:
    """End the task if it was cancelled, although the last await came back as if nothing had happened.

    psycopg's pool waits with ``asyncio.wait_for``, which up to Python 3.11 loses a cancellation that comes
    together with the result (https://github.com/python/cpython/issues/86296); and a query that is broken
    off may end in an error that takes the cancellation's place. To be called after psycopg wherever the
    task would go on to wait for something else; only in tasks that hold no TaskGroup, because one whose
    child failed leaves the count of cancellations raised up to Python 3.12.

    Raises:
        asyncio.CancelledError: The task was cancelled.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
