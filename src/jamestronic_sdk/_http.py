"""The wire: one pool of connections, and the one boundary to ``httpx``, ``postgrest`` and ``supabase_auth``.

Promises:
    What leaves this module is ours: an ``httpx.Response`` of a success, or an error of ``errors.py``.
    Each request gets the token of its moment; an expired one is renewed once and the request repeated once.
    A request that is cancelled or times out leaves no broken client: its connection is dropped, not reused.

Never:
    No redirect is followed: the API key is a header of its own, which httpx would send along.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar, cast

import anyio
import httpx
from pydantic import TypeAdapter, ValidationError
from supabase import AsyncClient, AsyncClientOptions
from supabase_auth import AsyncGoTrueClient, AsyncMemoryStorage
from supabase_auth.errors import (
    AuthApiError,
    AuthError,
    AuthRetryableError,
    AuthSessionMissingError,
    AuthUnknownError,
    AuthWeakPasswordError,
    CustomAuthError,
)
from typing_extensions import override

from jamestronic_sdk._telemetry import Operation, current_operation, operation, received
from jamestronic_sdk._wake import SleepWatch
from jamestronic_sdk.errors import (
    ClientClosedError,
    ConnectionFailedError,
    DataError,
    InvalidInputError,
    JamesTronicError,
    NotSignedInError,
    RequestTimeoutError,
    SessionExpiredError,
    api_error,
    auth_error,
)
from jamestronic_sdk.models import share_names
from jamestronic_sdk.retry import RetryBudget, RetryPolicy, retrying

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
    from contextlib import AbstractContextManager

    from postgrest.base_request_builder import RequestConfig

    from jamestronic_sdk._clock import Clock
    from jamestronic_sdk.models import Row
    from jamestronic_sdk.realtime.connection import Connection
    from jamestronic_sdk.settings import Settings

__all__ = ["Core", "Query", "TokenSource", "Wire", "parse", "total_of"]

_T = TypeVar("_T")

_log: Final = logging.getLogger("jamestronic_sdk.http")

_Outcome: TypeAlias = tuple[_T] | Exception | None
"""An answer in a box, an error, or None: it was ended before."""

# A dead address is noticed before the whole time-out is gone; TCP's second SYN goes out after 1 s, the
# third after 3 s, the fourth after 7 s.
_CONNECT_TIMEOUT: Final = 10.0

_LARGE_BODY: Final = 64 * 1024
"""Bytes: some hundred rows."""

# supabase-py's own numbers; more at once than httpx's default of 20 idle ones would be reconnects.
_LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=50, keepalive_expiry=30.0)

# An error body is a few hundred bytes; a proxy's error page may be anything.
_ERROR_BODY_LIMIT: Final = 64 * 1024

_DOOR_KEY: Final = "jamestronic"
"""Under which supabase_auth keeps a PKCE verifier in a door's own memory."""

_REQUEST_ID: Final = "X-Request-Id"

# Supabase's own, the one that proxies agree on (the local stack answers with ours), and Cloudflare's.
_REQUEST_ID_HEADERS: Final = ("sb-request-id", "x-request-id", "cf-ray")
_REQUEST_ID_FORM: Final = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")


# httpx logs whole addresses at INFO, and what people search for stands in them; the others log headers at
# DEBUG. A filter counts for its own logger only, so each is named.
_LIBRARY_LOGGERS: Final = (
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
    "hpack.hpack",
    "hpack.table",
)


class _QuietLibrary(logging.Filter):
    """Keeps query strings and headers of our own requests out of the log; ``_on_response`` logs the rest."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        return current_operation() is None


for _name in _LIBRARY_LOGGERS:
    logging.getLogger(_name).addFilter(_QuietLibrary())


class Query(Protocol):
    """Any of postgrest's builders: what they have in common is the request that they built."""

    @property
    def request(self) -> RequestConfig[httpx.AsyncClient]:
        """Method, path, parameters, headers and body."""
        ...


class TokenSource(Protocol):
    """Who may call; ``auth.py`` has the real one."""

    async def bearer(self) -> str:
        """A token that is good for a while."""
        ...

    async def renew(self, stale: str) -> str:
        """Another token than ``stale``, which the server called expired."""
        ...


@dataclass(frozen=True, slots=True)
class FixedToken:
    """One token and no way to renew it: the first look at who signs in, and the service key."""

    token: str = field(repr=False)

    async def bearer(self) -> str:
        """The token."""
        return self.token

    async def renew(self, stale: str) -> str:
        """Refuse."""
        del stale
        raise SessionExpiredError(
            "The token has expired, and there is no newer one.",
            next_step="Check the clock of this machine, and that the key is still valid.",
        )


class _State(Enum):
    NEW = "new"
    OPEN = "open"
    CLOSED = "closed"


class Core:
    """What all views of one client share: settings, connections, retry budget, time and randomness."""

    def __init__(
        self, settings: Settings, *, clock: Clock, rng: random.Random, budget: RetryBudget | None = None
    ) -> None:
        self.settings: Final = settings
        self.clock: Final = clock
        self.rng: Final = rng
        self.budget: Final = budget or RetryBudget()
        self._state = _State.NEW
        self._http: httpx.AsyncClient | None = None
        self._raw: AsyncClient | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self.sleep_watch: Final = SleepWatch(clock)
        self._background: set[asyncio.Task[None]] = set()
        self.connection: Connection | None = None
        """The socket that all stores share; made with the first one, because it imports websockets."""
        self._exchanges: set[anyio.CancelScope] = set()

    @property
    def is_open(self) -> bool:
        """Whether calls are possible."""
        return self._state is _State.OPEN

    @property
    def raw(self) -> AsyncClient:
        """The supabase client; raises ClientClosedError when this one is not open."""
        self.require_open()
        assert self._raw is not None  # noqa: S101 - the state says so
        return self._raw

    def require_open(self) -> None:
        """Raise ClientClosedError unless the client is open."""
        if self._state is _State.NEW:
            raise ClientClosedError(
                "The client is not open.", next_step="Use it inside `async with JamesTronic(...) as jt:`."
            )
        if self._state is _State.CLOSED:
            raise ClientClosedError("The client was closed.", next_step="Make a new one.")

    async def open(self, watchdog: Callable[[], Coroutine[object, object, None]]) -> None:
        """Make the pool and the supabase client, and start the watchdog; no I/O."""
        if self._state is not _State.NEW:
            raise ClientClosedError(
                "The client can be opened only once.", next_step="Make a new one for each `async with`."
            )
        self._http = httpx.AsyncClient(
            http2=True,
            follow_redirects=False,
            # The deadline of a call is an asyncio time-out around the whole of it; httpx would count each
            # read on its own, and a server that trickles would never time out.
            timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT),
            limits=_LIMITS,
            event_hooks={"request": [_on_request], "response": [_on_response]},
        )
        self._raw = AsyncClient(
            self.settings.url,
            self.settings.key.get_secret_value(),
            # One pool for all parts: the parts that supabase-py makes anew on auth events would leak theirs.
            AsyncClientOptions(
                httpx_client=self._http,
                auto_refresh_token=False,
                persist_session=False,
                postgrest_client_retry=False,
            ),
        )
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._state = _State.OPEN
        self.spawn(watchdog(), "jamestronic-session")
        self.spawn(self.sleep_watch.run(), "jamestronic-sleep-watch")

    def spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Run something that never raises beside the calls; it is cancelled when the client closes.

        Raises:
            ClientClosedError: The client is not open.
        """
        if not self.is_open:
            work.close()
        self.require_open()
        assert self._tasks is not None  # noqa: S101 - the state says so
        task = self._tasks.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def aclose(self) -> None:
        """End the watchdog and what is under way, and close the sockets, also when cancelled; idempotent."""
        if self._state is not _State.OPEN:
            self._state = _State.CLOSED
            return
        self._state = _State.CLOSED
        assert self._http is not None  # noqa: S101 - the state says so
        assert self._raw is not None  # noqa: S101 - the state says so
        assert self._tasks is not None  # noqa: S101 - the state says so
        for task in self._background:
            task.cancel()
        for scope in self._exchanges:
            scope.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)
            if self._raw.realtime.is_connected:
                await self._raw.realtime.close()
        finally:
            await self._http.aclose()

    async def exchange(self, call: Callable[[], Awaitable[_T]], timeout: float | None) -> _T:  # noqa: ASYNC109 - of one try
        """One exchange with a server, as a task of ours; raises what ``call`` raises.

        httpcore (1.0.9) shields the giving back of a connection, but with anyio's scopes only. asyncio's own
        cancellation, and ``asyncio.timeout`` is one, goes through those: the connection is then "active" for
        good, and a hundred of them are the whole pool. So what is cancelled here is a scope around the call.

        Raises:
            TimeoutError: It took too long.
            ClientClosedError: The client was closed meanwhile.
        """
        self.require_open()
        assert self._tasks is not None  # noqa: S101 - the state says so
        scope = anyio.CancelScope()
        if timeout is not None:
            scope.deadline = anyio.current_time() + timeout
        answered: asyncio.Future[_Outcome[_T]] = asyncio.get_running_loop().create_future()
        self._tasks.create_task(_exchange(call, scope, answered), name="jamestronic-exchange")
        self._exchanges.add(scope)
        try:
            outcome = await answered
        except asyncio.CancelledError:
            scope.cancel()  # the task puts the connection in order, and ends before the client does
            raise
        finally:
            self._exchanges.discard(scope)
        if isinstance(outcome, tuple):
            return outcome[0]
        if outcome is not None:
            raise outcome
        if not self.is_open:
            raise _closed_meanwhile()
        raise TimeoutError

    def door(self) -> AsyncGoTrueClient:
        """A client of Auth of its own, without a session: each sign-in gets one.

        supabase-py's own ``auth`` would change the headers of all parts before the person is known to have
        a profile, sends the old token along, and starts a task that nobody owns (2.34.1).
        """
        raw = self.raw
        return AsyncGoTrueClient(
            storage_key=_DOOR_KEY,
            storage=AsyncMemoryStorage(),
            url=str(raw.auth_url),
            headers=dict(self.key_headers()),
            auto_refresh_token=False,
            persist_session=False,
            flow_type="pkce",
            http_client=self._http,
        )

    async def verifier_of(self, door: AsyncGoTrueClient) -> str | None:
        """The PKCE verifier of what the door has asked for last."""
        storage = door._storage  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - 2.34.1 has no other way
        kept = await storage.get_item(f"{_DOOR_KEY}-code-verifier")
        return kept.partition("/")[0] if kept else None

    def key_headers(self) -> dict[str, str]:
        """The headers of a call that nobody is signed in for."""
        secret = self.settings.key.get_secret_value()
        return {"apiKey": secret, "Authorization": f"Bearer {secret}"}

    def authorize_raw(self, token: str | None) -> None:
        """Let the raw client speak for the person, or for nobody (None), from now on."""
        if self._raw is None:
            return
        bearer = token or self.settings.key.get_secret_value()
        self._raw.options.headers["Authorization"] = f"Bearer {bearer}"
        self._raw.postgrest.auth(bearer)


async def _exchange(
    call: Callable[[], Awaitable[_T]], scope: anyio.CancelScope, answered: asyncio.Future[_Outcome[_T]]
) -> None:
    """Tell what came of a call: its answer in a box, its error, or None when something ended it."""
    outcome: _Outcome[_T] = None
    try:
        with scope:
            try:
                outcome = (await call(),)
            except Exception as error:  # noqa: BLE001 - carried to the caller's task, and raised there
                outcome = error
    finally:
        if not answered.done():
            answered.set_result(outcome)


async def _on_request(request: httpx.Request) -> None:
    """Send the operation's id along."""
    under_way = current_operation()
    if under_way is not None:
        under_way.sent(request.method, request.url.path)
        request.headers[_REQUEST_ID] = under_way.request_id


async def _on_response(response: httpx.Response) -> None:
    """Note what is known before the body is read; the libraries in between keep it to themselves."""
    under_way = current_operation()
    if under_way is not None:
        under_way.status = response.status_code
        under_way.server_id = _id_of(response)
        under_way.retry_after = response.headers.get("retry-after")
        _log.debug(
            "%s: %s %s answered %d",
            under_way.name,
            response.request.method,
            response.request.url.path,
            response.status_code,
            extra={"operation": under_way.name, "request_id": under_way.server_id or under_way.request_id},
        )


def _id_of(response: httpx.Response) -> str | None:
    """What the gateway called the request; None when it did not say, or something that is no id."""
    headers = response.headers
    found = next((headers[name] for name in _REQUEST_ID_HEADERS if name in headers), "")
    return found if _REQUEST_ID_FORM.fullmatch(found) else None


def _sent_id() -> str | None:
    """What the operation that is under way calls its requests."""
    under_way = current_operation()
    return under_way.request_id if under_way is not None else None


def _quotable(error: Exception) -> Exception | None:
    """The error, to be the cause of ours; None for those whose text may quote a header."""
    return None if isinstance(error, httpx.ProtocolError) else error


def _closed_meanwhile() -> ClientClosedError:
    return ClientClosedError("The client was closed before an answer came.", next_step="Make a new one.")


@dataclass(frozen=True, slots=True)
class Wire:
    """Sends requests on behalf of somebody, with one time-out and one retry policy."""

    core: Core
    tokens: TokenSource
    timeout: float | None
    """Seconds for each try as a whole; None waits for ever."""
    policy: RetryPolicy

    def with_tokens(self, tokens: TokenSource) -> Wire:
        """The same wire for somebody else."""
        return replace(self, tokens=tokens)

    def operation(self, name: str) -> AbstractContextManager[Operation]:
        """What requests of a public operation are told and traced as; opened around several of them."""
        return operation(name, self.core.settings.url, self.core.clock)

    async def send(
        self,
        build: Callable[[AsyncClient], Query],
        *,
        operation: str,
        target: str,
        replayable: bool,
    ) -> httpx.Response:
        """Send what ``build`` builds; answer the successful response.

        Args:
            build: Called for each try, because a builder keeps the token of the moment it was made.
            operation: For messages, for example ``tickets.list``.
            target: The table or function, to name the SQL file when it is missing.
            replayable: Whether carrying it out twice is the same as once; else it is repeated only if
                nothing was sent.

        Raises:
            JamesTronicError: One of ``errors.py``.
        """

        async def once() -> httpx.Response:
            self.core.require_open()
            token = await self.tokens.bearer()
            try:
                return await self._once(build, token, operation, target)
            except SessionExpiredError:
                # The server refused the token before it did anything, so writes may be repeated, too.
                token = await self.tokens.renew(token)
                return await self._once(build, token, operation, target)

        with self.operation(operation):
            response = await self._retrying(once, operation=operation, replayable=replayable)
            received(len(response.content))
            return response

    async def ask_auth(
        self, call: Callable[[], Awaitable[_T]], *, operation: str, replayable: bool = False
    ) -> _T:
        """Await a call of ``supabase_auth``; raises only errors of ``errors.py``."""

        async def once() -> _T:
            self.core.require_open()
            try:
                return await self.core.exchange(call, self.timeout)
            except TimeoutError as error:
                raise self._timed_out(operation) from error
            except ValidationError as error:
                raise data_error(operation, error) from None  # pydantic's message quotes the tokens
            except AuthError as error:
                raise self._from_auth(error, operation) from None  # Auth's message may quote an address
            except ClientClosedError:
                raise
            except (httpx.HTTPError, RuntimeError) as error:
                raise self._from_httpx(error, operation) from _quotable(error)

        with self.operation(operation):
            return await self._retrying(once, operation=operation, replayable=replayable)

    async def _retrying(self, call: Callable[[], Awaitable[_T]], *, operation: str, replayable: bool) -> _T:
        return await retrying(
            call,
            operation=operation,
            replayable=replayable,
            policy=self.policy,
            budget=self.core.budget,
            clock=self.core.clock,
            rng=self.core.rng,
        )

    async def _once(
        self, build: Callable[[AsyncClient], Query], token: str, operation: str, target: str
    ) -> httpx.Response:
        request = build(self.core.raw).request
        request.headers["Authorization"] = f"Bearer {token}"
        try:
            response = await self.core.exchange(lambda: request.send(httpx.Headers()), self.timeout)
        except TimeoutError as error:
            raise self._timed_out(operation) from error
        except ClientClosedError:
            raise
        except httpx.InvalidURL:
            # Longer than any URL that httpx sends, 64 kB.
            raise InvalidInputError(
                f"{operation}: the conditions are too long, all together.", next_step="Ask in several parts."
            ) from None
        except (httpx.HTTPError, RuntimeError) as error:
            raise self._from_httpx(error, operation) from _quotable(error)
        if response.is_success:
            return response
        raise self._from_response(response, operation, target)

    def _timed_out(self, operation: str, *, maybe_sent: bool = True) -> RequestTimeoutError:
        return RequestTimeoutError(
            f"{operation}: no answer from {self.core.settings.host} in time.",
            next_step="Try again, or give a longer timeout.",
            maybe_sent=maybe_sent,
            request_id=_sent_id(),
        )

    def _from_httpx(self, error: httpx.HTTPError | RuntimeError, operation: str) -> JamesTronicError:
        host = self.core.settings.host
        if not self.core.is_open:
            return _closed_meanwhile()
        match error:
            case httpx.ConnectTimeout() | httpx.ConnectError():
                return ConnectionFailedError(
                    f"{operation}: {host} can't be reached.",
                    next_step="Check SUPABASE_URL and the network; a local stack: `jamestronic local start`.",
                    maybe_sent=False,
                    request_id=_sent_id(),
                )
            case httpx.PoolTimeout():
                return self._timed_out(operation, maybe_sent=False)
            case httpx.TimeoutException():
                return self._timed_out(operation)
            case httpx.HTTPError():
                return ConnectionFailedError(
                    f"{operation}: the connection to {host} broke ({type(error).__name__}).",
                    next_step="Try again.",
                    request_id=_sent_id(),
                )
            case _:
                raise error

    def _from_auth(self, error: AuthError, operation: str) -> JamesTronicError:
        match error:
            case AuthRetryableError() if error.status == 0:
                cause = error.__cause__
                if isinstance(cause, httpx.HTTPError | RuntimeError):
                    return self._from_httpx(cause, operation)
                return ConnectionFailedError(
                    f"{operation}: no answer from {self.core.settings.host}.", request_id=_sent_id()
                )
            case AuthSessionMissingError():
                return NotSignedInError(f"{operation}: nobody is signed in.", next_step="Sign in first.")
            case AuthUnknownError():
                # Its `original_error` is the JSON parser's; the answer hangs at the cause.
                cause = error.__cause__
                status = cause.response.status_code if isinstance(cause, httpx.HTTPStatusError) else None
                code, message = None, "the answer is not from Auth"
            case AuthWeakPasswordError() | AuthApiError() | CustomAuthError():
                status, code, message = error.status, error.code, error.message
            case _:
                status, code, message = None, error.code, error.message
        under_way = current_operation()
        return auth_error(
            operation=operation,
            status=status,
            code=code,
            message=message,
            request_id=(under_way.server_id if under_way else None) or _sent_id(),
            retry_after=retry_after(
                under_way.retry_after if under_way else None, wall=self.core.clock.wall()
            ),
        )

    def _from_response(self, response: httpx.Response, operation: str, target: str) -> JamesTronicError:
        body = _error_body(response)

        def text(name: str) -> str | None:
            value = body.get(name) if body is not None else None
            return value if isinstance(value, str) and value else None

        return api_error(
            operation=operation,
            status=response.status_code,
            code=text("code"),
            message=(text("message") or "") if body is not None else "the answer is not from PostgREST",
            details=text("details"),
            hint=text("hint"),
            request_id=_id_of(response) or _sent_id(),
            retry_after=retry_after(response.headers.get("retry-after"), wall=self.core.clock.wall()),
            target=target,
        )


def _error_body(response: httpx.Response) -> dict[str, object] | None:
    """The JSON object of an error answer; None when it is something else."""
    if len(response.content) > _ERROR_BODY_LIMIT:
        return None
    try:
        parsed: object = json.loads(response.content)
    except ValueError:
        return None
    return cast("dict[str, object]", parsed) if isinstance(parsed, dict) else None


def retry_after(value: str | None, *, wall: float) -> float | None:
    """Seconds of a ``Retry-After`` header, in either of its forms; None when absent or malformed.

    Args:
        value: The header: seconds, or an HTTP date (RFC 9110, 10.2.3).
        wall: The time now, in seconds since 1970.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - wall)
    except (ValueError, OverflowError):
        return None


def data_error(operation: str, error: ValidationError) -> DataError:
    """The typed error for an answer that does not fit: which fields and why, never their content."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    shown = ", ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'answer'} ({problem['type']})"
        for problem in problems[:3]
    )
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
    return DataError(
        f"{operation}: the answer does not fit the model: {shown}{more}.",
        next_step="Check that the SQL of this version is applied.",
    )


def parse(
    adapter: TypeAdapter[_T],
    response: httpx.Response,
    operation: str,
    rows_of: Callable[[_T], Iterable[Row]] | None = None,
) -> _T:
    """The validated body, straight from the bytes: no dictionaries in between.

    ``rows_of``: the rows in it, which share what they can while the collector rests.
    """
    body = response.content
    try:
        with _collector_at_rest() if len(body) > _LARGE_BODY else nullcontext():
            found = adapter.validate_json(body)
            if rows_of is not None:
                share_names(rows_of(found))
            return found
    except ValidationError as error:
        raise data_error(operation, error) from None


@contextmanager
def _collector_at_rest() -> Generator[None]:
    """Make many objects at once without the cyclic collector looking at each few hundred of them.

    None of them is garbage yet, and looking takes longer than making them: a page of 1,000 tickets is
    read in 7 instead of 17 ms (measured). It rests for that one call, in which nothing is awaited.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def total_of(response: httpx.Response) -> int | None:
    """The total of a ``Content-Range`` header (``0-9/573``); None when the server did not count."""
    _, _, total = response.headers.get("content-range", "").partition("/")
    return int(total) if total.isascii() and total.isdigit() else None
