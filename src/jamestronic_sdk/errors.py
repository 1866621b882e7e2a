"""One tree of typed errors, and the only place that knows SQLSTATEs, PostgREST and Auth codes.

::

    JamesTronicError
    ├── ConfigurationError (ValueError)        a setting is missing or malformed
    ├── InvalidInputError (ValueError)         an argument is malformed; nothing was sent
    ├── ClientClosedError (RuntimeError)       the client is not open: before `async with`, or after it
    ├── BlockingCallError (RuntimeError)       a blocking call in a place that must not wait for it
    ├── AuthenticationError                    who you are is not settled
    │   ├── InvalidCredentialsError            wrong e-mail, password or code
    │   ├── NotSignedInError                   the call needs a signed-in person
    │   ├── SessionExpiredError                sign in again
    │   ├── NoProfileError                     the Auth user has no row in `profiles`
    │   └── InactiveProfileError               the profile is deactivated
    ├── ApiError                               the data API or Auth answered with an error
    │   ├── BadRequestError                    the database refused the input
    │   ├── PermissionDeniedError              a grant or row level security said no
    │   ├── NotFoundError                      no such row, or not visible to you
    │   ├── ConflictError                      version conflict, unique or foreign key
    │   ├── RateLimitedError                   too many requests
    │   ├── SchemaMissingError                 the SQL of this package was not applied
    │   └── ServerError                        5xx
    ├── TransportError                         no answer came
    │   ├── ConnectionFailedError (ConnectionError)
    │   └── RequestTimeoutError (TimeoutError)
    ├── DataError (ValueError)                 an answer that does not fit the model
    ├── StoreError
    │   └── StoreClosedError                   the store was closed
    ├── SqlError                               the SQL files: missing, malformed, not exportable
    └── LocalStackError                        `jamestronic local`
        ├── PortInUseError
        ├── ToolMissingError                   PostgreSQL, PostgREST or Node is not there
        └── AlreadyRunningError

Promises:
    Facts are attributes; ``str`` fits a line, says what happened and the next step; every error pickles.

Never:
    No token, password, e-mail, phone or row content in any of them.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, Final, cast

from typing_extensions import override

from jamestronic_sdk._redact import scrub

__all__ = [
    "AlreadyRunningError",
    "ApiError",
    "AuthenticationError",
    "BadRequestError",
    "BlockingCallError",
    "ClientClosedError",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailedError",
    "DataError",
    "InactiveProfileError",
    "InvalidCredentialsError",
    "InvalidInputError",
    "JamesTronicError",
    "LocalStackError",
    "NoProfileError",
    "NotFoundError",
    "NotSignedInError",
    "PermissionDeniedError",
    "PortInUseError",
    "RateLimitedError",
    "RequestTimeoutError",
    "Retry",
    "SchemaMissingError",
    "ServerError",
    "SessionExpiredError",
    "SqlError",
    "StoreClosedError",
    "StoreError",
    "ToolMissingError",
    "TransportError",
    "api_error",
    "auth_error",
]


class Retry(Enum):
    """What trying the same call again can do; ``JamesTronicError.retry``."""

    SOON = "soon"
    """Transient: back off by fractions of a second."""
    LATER = "later"
    """A limit or an outage: wait long, or as ``Retry-After`` says."""
    NEVER = "never"
    """The same call will fail again."""


class JamesTronicError(Exception):
    """The root of every error that this package raises.

    Args:
        message: One line: what happened, what state is left.
        next_step: One line: what to do now; part of ``str``.
    """

    retry: Retry = Retry.NEVER

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(message)
        self.message: Final = message
        self.next_step: Final = next_step

    @override
    def __str__(self) -> str:
        return f"{self.message} {self.next_step}" if self.next_step else self.message

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, dict(self.__dict__)))


def _rebuild(
    cls: type[JamesTronicError], args: tuple[object, ...], state: dict[str, object]
) -> JamesTronicError:
    """Undo ``__reduce__``: keyword-only constructors do not fit the default protocol."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(JamesTronicError, ValueError):
    """A setting is missing or malformed; the message names the variable."""


class InvalidInputError(JamesTronicError, ValueError):
    """An argument is malformed or out of range; nothing was sent. The message names the argument."""


class ClientClosedError(JamesTronicError, RuntimeError):
    """The client is not open: it was used before ``async with``, or after it was closed."""


class BlockingCallError(JamesTronicError, RuntimeError):
    """A call of ``jamestronic_sdk.blocking`` where waiting is impossible; nothing was sent.

    On an event loop's thread it would stop that loop, inside a callback that runs on the client's own
    thread it would wait for itself, and after ``fork`` the thread that does the work is not there.
    """


class AuthenticationError(JamesTronicError):
    """Who you are is not settled.

    Attributes:
        code: Auth's error code when it gave one.
        status: HTTP status, or None when no answer is behind it.
        request_id: As in ``ApiError``; None when no request is behind it.
    """

    def __init__(
        self,
        message: str,
        *,
        next_step: str | None = None,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.code: Final = code
        self.status: Final = status
        self.request_id: Final = request_id


class InvalidCredentialsError(AuthenticationError):
    """The e-mail, password or code is wrong."""


class NotSignedInError(AuthenticationError):
    """The call needs a signed-in person."""


class SessionExpiredError(AuthenticationError):
    """The session ended on the server; sign in again."""


class NoProfileError(AuthenticationError):
    """The Auth user has no row in ``profiles``."""


class InactiveProfileError(AuthenticationError):
    """The profile is deactivated: it can sign in, but reads and writes nothing."""


class ApiError(JamesTronicError):
    """The data API or Auth answered with an error.

    Attributes:
        status: HTTP status, or None where the client library hides it.
        code: SQLSTATE, ``PTxyz``, ``PGRSTnnn`` or an Auth code.
        details: PostgREST's ``details`` (the SDK puts only machine-readable details there).
        hint: PostgREST's ``hint``.
        request_id: What the gateway called the request; when it did not say, what was sent as
            ``X-Request-Id``.
        operation: What was tried, for example ``tickets.assign``.
        retry_after: Seconds that the server asked to wait, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        next_step: str | None = None,
        status: int | None = None,
        code: str | None = None,
        details: str | None = None,
        hint: str | None = None,
        request_id: str | None = None,
        operation: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.status: Final = status
        self.code: Final = code
        self.details: Final = details
        self.hint: Final = hint
        self.request_id: Final = request_id
        self.operation: Final = operation
        self.retry_after: Final = retry_after


class BadRequestError(ApiError):
    """The database or the API refused the input."""


class PermissionDeniedError(ApiError):
    """A grant, a policy or a trigger said no."""


class NotFoundError(ApiError):
    """No such row, or it is not visible to you: RLS makes the two look the same."""


class ConflictError(ApiError):
    """Somebody was faster (``PT409``), or a unique or foreign key stands in the way."""

    @property
    def reason(self) -> str | None:
        """What our SQL said, for example ``version_conflict``; None for a plain constraint."""
        value = self._details().get("reason")
        return value if isinstance(value, str) else None

    @property
    def current_version(self) -> int | None:
        """The version that the ticket has now, when the database said so."""
        value = self._details().get("current_version")
        return value if isinstance(value, int) else None

    def _details(self) -> dict[str, object]:
        try:
            parsed: object = json.loads(self.details or "")
        except ValueError:
            return {}
        return cast("dict[str, object]", parsed) if isinstance(parsed, dict) else {}


class RateLimitedError(ApiError):
    """Too many requests; ``retry_after`` in seconds when the server said."""

    retry = Retry.LATER


class SchemaMissingError(ApiError):
    """A table, column or function of ``supabase/sql`` is not there."""


class ServerError(ApiError):
    """The server failed (5xx)."""

    retry = Retry.SOON


class TransportError(JamesTronicError):
    """No answer came.

    Attributes:
        maybe_sent: Whether the server may have carried the request out. False when no connection was
            made: then nothing happened, and even a plain write may be repeated.
        request_id: What was sent as ``X-Request-Id``; None when no request is behind it.
    """

    retry = Retry.SOON

    def __init__(
        self,
        message: str,
        *,
        next_step: str | None = None,
        maybe_sent: bool = True,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.maybe_sent: Final = maybe_sent
        self.request_id: Final = request_id


class ConnectionFailedError(TransportError, ConnectionError):
    """The service could not be reached, or the connection broke."""


class RequestTimeoutError(TransportError, TimeoutError):
    """No answer within the time-out."""


class DataError(JamesTronicError, ValueError):
    """An answer that does not fit the model."""


class StoreError(JamesTronicError):
    """The TicketStore could not do what was asked."""


class StoreClosedError(StoreError):
    """The store was closed; make a new one."""


class SqlError(JamesTronicError):
    """The SQL files are missing, malformed, or can't be exported."""


class LocalStackError(JamesTronicError):
    """The local stack could not do what was asked; what it had started is stopped again."""


class PortInUseError(LocalStackError):
    """A port that the local stack was told to use is taken."""


class ToolMissingError(LocalStackError):
    """PostgreSQL, PostgREST or Node is not there; the message says how to get it."""


class AlreadyRunningError(LocalStackError):
    """A local stack already runs on that data directory."""


# --- codes -----------------------------------------------------------------------------------------
# One row per code. SQLSTATEs: PostgreSQL, appendix A. PGRST codes: postgrest.org, "Errors". `PTxyz` is
# PostgREST's way for a function to choose the HTTP status; ours are raised in 050_commands.sql.

_API_CODES: Final[dict[str, type[ApiError]]] = {
    "42501": PermissionDeniedError,  # insufficient_privilege, also "new row violates row-level security"
    "28000": PermissionDeniedError,  # invalid_authorization_specification
    "28P01": PermissionDeniedError,  # invalid_password
    "23505": ConflictError,  # unique_violation
    "23503": ConflictError,  # foreign_key_violation
    "23502": BadRequestError,  # not_null_violation
    "23514": BadRequestError,  # check_violation
    "25006": BadRequestError,  # read_only_sql_transaction
    "P0001": BadRequestError,  # raise_exception
    "P0002": NotFoundError,  # no_data_found
    "42P01": SchemaMissingError,  # undefined_table
    "42703": SchemaMissingError,  # undefined_column
    "42883": SchemaMissingError,  # undefined_function
    "PGRST106": SchemaMissingError,  # schema not exposed
    "PGRST116": NotFoundError,  # not exactly one row
    "PGRST202": SchemaMissingError,  # function unknown
    "PGRST204": SchemaMissingError,  # column unknown on write
    "PGRST205": SchemaMissingError,  # table unknown (v13+)
    "PGRST302": PermissionDeniedError,  # anonymous access disabled
}

_API_STATUSES: Final[dict[int, type[ApiError]]] = {
    401: PermissionDeniedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    406: NotFoundError,
    408: ServerError,
    409: ConflictError,
    412: ConflictError,
    425: ServerError,
    429: RateLimitedError,
}

_SERVER_CLASSES: Final = frozenset({"08", "40", "53", "54", "55", "57", "58", "XX"})
"""SQLSTATE classes that speak of the server's state, not of the request: connection, rollback, resources,
limits, locks, intervention, system, internal."""

_EXPIRED_JWT_CODES: Final = frozenset({"PGRST301", "PGRST303"})

_SQL_FILES: Final[dict[str, str]] = {
    "unassign_ticket": "050_commands.sql",
    "assign_ticket": "050_commands.sql",
    "claim_ticket": "050_commands.sql",
    "release_ticket": "050_commands.sql",
    "set_ticket_status": "050_commands.sql",
    "schedule_transport": "050_commands.sql",
    "get_my_role": "020_functions.sql",
    "get_my_profile_id": "020_functions.sql",
    "sync_tickets": "060_sync.sql",
    "tickets_digest": "060_sync.sql",
    "ticket_notes": "010_schema.sql",
    "profiles": "010_schema.sql",
    "tickets": "010_schema.sql",
}


def is_expired_jwt(status: int | None, code: str | None, message: str) -> bool:
    """Whether the data API refused the token for its age: refresh once, then repeat once.

    PostgREST up to 12 says PGRST301, from 13 on PGRST303; both share their code with other refusals.
    """
    return (status == 401 or code in _EXPIRED_JWT_CODES) and "expired" in message.lower()


def api_error(
    *,
    operation: str,
    status: int | None = None,
    code: str | None = None,
    message: str = "",
    details: str | None = None,
    hint: str | None = None,
    request_id: str | None = None,
    retry_after: float | None = None,
    target: str | None = None,
) -> JamesTronicError:
    """The typed error for an error body of the data API.

    Args:
        operation: What was tried, for example ``tickets.list``.
        status: HTTP status, if known.
        code: The body's ``code``.
        message: The body's ``message``. It may quote values: only its first line is used, without what
            looks like a secret, an e-mail address or a phone number.
        details: The body's ``details``; kept for ``PTxyz`` codes only, where it is ours (JSON).
        hint: The body's ``hint``.
        request_id: The gateway's request id.
        retry_after: Seconds from the ``Retry-After`` header.
        target: The table or function that was called; names the SQL file when it is missing.
    """
    if is_expired_jwt(status, code, message):
        return SessionExpiredError(
            f"{operation}: the access token has expired.",
            next_step="Sign in again.",
            code=code,
            status=status,
            request_id=request_id,
        )
    cls = _api_class(status, code, message)
    return cls(
        _safe_message(operation, status, code, message),
        next_step=_next_step(cls, operation, code, f"{message} {target or ''}"),
        status=status if status is not None else _status_of(code),
        code=code,
        details=details if code is not None and code.startswith("PT") else None,
        hint=scrub(hint) if hint else None,
        request_id=request_id,
        operation=operation,
        retry_after=retry_after,
    )


def _status_of(code: str | None) -> int | None:
    """The HTTP status inside ``PTxyz``, or a bare status (client libraries put it in ``code``)."""
    digits = code.removeprefix("PT") if code else ""
    return int(digits) if len(digits) == 3 and digits.isascii() and digits.isdigit() else None


def _api_class(status: int | None, code: str | None, message: str) -> type[ApiError]:
    if code is not None and code in _API_CODES:
        return _API_CODES[code]
    if code is None and status == 404 and not message:
        # PostgREST 12 answers `{}` to a write on a table that it does not know.
        return SchemaMissingError
    if code is not None and ((len(code) == 5 and code[:2] in _SERVER_CLASSES) or code.startswith("PGRST00")):
        return ServerError
    effective = _status_of(code) or status or 400
    if effective in _API_STATUSES:
        return _API_STATUSES[effective]
    return ServerError if effective >= 500 else BadRequestError


def _safe_message(operation: str, status: int | None, code: str | None, message: str) -> str:
    """What the server said, without what may quote a row."""
    if code is not None and code.startswith("22"):
        said = "a value has the wrong form"  # 22P02 and its kin quote the value
    else:
        lines = message.strip().splitlines()
        said = scrub(lines[0]) if lines else "refused"
    facts = code or (f"HTTP {status}" if status is not None else "no code")
    return f"{operation}: {said.rstrip('.')} [{facts}]."


def _next_step(cls: type[ApiError], operation: str, code: str | None, text: str) -> str | None:  # noqa: PLR0911 - a table in prose
    if cls is SchemaMissingError:
        missing = next((file for name, file in _SQL_FILES.items() if name in text), None)
        file = f"supabase/sql/{missing}" if missing else "supabase/sql"
        return f"Apply {file}: `jamestronic sql export`, then `npx supabase db push`."
    if code in _EXPIRED_JWT_CODES:
        return "Check that SUPABASE_URL and SUPABASE_KEY are of the same project, then sign in again."
    if cls is ConflictError and code == "PT409":
        return "Reload the ticket and decide again."
    if cls is PermissionDeniedError:
        return "Check SUPABASE_KEY, the signed-in role, and that the SQL of this version is applied."
    if cls is NotFoundError and operation.startswith(("tickets.", "profiles.", "notes.")):
        return "It does not exist, or your role may not see it."
    if cls in {ServerError, RateLimitedError}:
        return "Try again later."
    return None


_AUTH_CODES: Final[dict[str, tuple[type[AuthenticationError], str]]] = {
    "invalid_credentials": (InvalidCredentialsError, "Check the e-mail address and the password."),
    "email_not_confirmed": (InvalidCredentialsError, "Confirm the e-mail address first."),
    "phone_not_confirmed": (InvalidCredentialsError, "Confirm the phone number first."),
    "otp_expired": (InvalidCredentialsError, "Ask for a new code."),
    "user_banned": (InvalidCredentialsError, "An admin has blocked this account."),
    "bad_code_verifier": (InvalidCredentialsError, "Start the sign-in again."),
    "flow_state_not_found": (InvalidCredentialsError, "Start the sign-in again."),
    "flow_state_expired": (InvalidCredentialsError, "Start the sign-in again."),
    "bad_oauth_callback": (InvalidCredentialsError, "Start the sign-in again."),
    "mfa_verification_failed": (InvalidCredentialsError, "Use the code that the app shows now."),
    "mfa_challenge_expired": (InvalidCredentialsError, "Ask for a new challenge."),
    "mfa_ip_address_mismatch": (InvalidCredentialsError, "Ask for a new challenge."),
    "session_not_found": (SessionExpiredError, "Sign in again."),
    "session_expired": (SessionExpiredError, "Sign in again."),
    "refresh_token_not_found": (SessionExpiredError, "Sign in again."),
    "refresh_token_already_used": (SessionExpiredError, "Sign in again."),
    "user_not_found": (SessionExpiredError, "Sign in again."),
    "bad_jwt": (SessionExpiredError, "Sign in again."),
    "invalid_jwt": (SessionExpiredError, "Sign in again."),
    "no_authorization": (NotSignedInError, "Sign in first."),
}

_AUTH_API_CODES: Final[dict[str, tuple[type[ApiError], str]]] = {
    "weak_password": (BadRequestError, "Choose a longer password, one that is not in a list of leaked ones."),
    "same_password": (BadRequestError, "Choose another password than the present one."),
    "validation_failed": (BadRequestError, "Check the form of the e-mail address, phone number or code."),
    "user_already_exists": (ConflictError, "Sign in instead."),
    "email_exists": (ConflictError, "Use another e-mail address."),
    "phone_exists": (ConflictError, "Use another phone number."),
    "conflict": (ServerError, "Try again later."),
    "not_admin": (PermissionDeniedError, "Use the service key."),
    "signup_disabled": (PermissionDeniedError, "Ask an admin to create the account."),
    "email_provider_disabled": (PermissionDeniedError, "Enable e-mail sign-in in the project's settings."),
    "phone_provider_disabled": (PermissionDeniedError, "Enable sign-in by phone in the project's settings."),
    "provider_disabled": (PermissionDeniedError, "Enable the provider in the project's settings."),
    "otp_disabled": (PermissionDeniedError, "There is no such account; create_account=True makes one."),
    "insufficient_aal": (PermissionDeniedError, "Show the second factor first: jt.auth.factors.verify."),
    "mfa_factor_not_found": (NotFoundError, "List the factors with jt.auth.factors.list."),
    "mfa_factor_name_conflict": (ConflictError, "Choose another name."),
    "too_many_enrolled_mfa_factors": (BadRequestError, "Remove a factor first."),
    "mfa_totp_enroll_not_enabled": (PermissionDeniedError, "Enable TOTP in the project's settings."),
    "mfa_totp_verify_not_enabled": (PermissionDeniedError, "Enable TOTP in the project's settings."),
    "reauthentication_needed": (PermissionDeniedError, "Sign in again, then repeat."),
    "request_timeout": (ServerError, "Try again later."),
}


def auth_error(
    *,
    operation: str,
    status: int | None = None,
    code: str | None = None,
    message: str = "",
    request_id: str | None = None,
    retry_after: float | None = None,
) -> JamesTronicError:
    """The typed error for an error body of Auth.

    Args:
        operation: What was tried, for example ``auth.sign_in``.
        status: HTTP status.
        code: Auth's error code, for example ``invalid_credentials``.
        message: Auth's text; used, scrubbed, only where the code is unknown.
        request_id: What the request was called.
        retry_after: Seconds from the ``Retry-After`` header, if there was one.
    """
    facts = code or (f"HTTP {status}" if status is not None else "no code")
    if code is not None and code in _AUTH_CODES:
        person, next_step = _AUTH_CODES[code]
        return person(
            f"{operation}: refused [{facts}].",
            next_step=next_step,
            code=code,
            status=status,
            request_id=request_id,
        )
    cls, step, said = _auth_class(status, code, message)
    return cls(
        f"{operation}: {said} [{facts}].",
        next_step=step,
        status=status,
        code=code,
        request_id=request_id,
        operation=operation,
        retry_after=retry_after,
    )


def _auth_class(status: int | None, code: str | None, message: str) -> tuple[type[ApiError], str | None, str]:
    """Class, next step and text for what is not about the person's session."""
    if code is not None and code in _AUTH_API_CODES:
        return (*_AUTH_API_CODES[code], "refused")
    if status == 429 or (code or "").startswith("over_"):
        return RateLimitedError, "Wait a minute.", "too many requests"
    if status is not None and status >= 500:
        return ServerError, "Try again later.", "Auth failed"
    if status in {401, 403}:
        return PermissionDeniedError, "Check SUPABASE_KEY.", "not allowed"
    if status == 404 and code is None:
        return NotFoundError, "Check SUPABASE_URL: no Auth service answers there.", "not found"
    lines = message.strip().splitlines()
    return BadRequestError, None, scrub(lines[0]).rstrip(".") if lines else "refused"
