"""Errors: every row of the tables, pickling, and what never gets into a message."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from itertools import product
from pathlib import Path

import pytest
from client_support import SECRET, jwt

from jamestronic_sdk import errors
from jamestronic_sdk.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    JamesTronicError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    Retry,
    SchemaMissingError,
    ServerError,
    SessionExpiredError,
    TransportError,
    api_error,
    auth_error,
)

CLASSES = [
    one
    for _, one in inspect.getmembers(errors, inspect.isclass)
    if issubclass(one, JamesTronicError) and one.__module__ == errors.__name__
]


def test_all_classes_are_exported() -> None:
    assert {one.__name__ for one in CLASSES} <= set(errors.__all__)
    assert errors.__all__ == sorted(errors.__all__)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = {line.split("──")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "──" in line}
    assert {one.__name__ for one in CLASSES} == drawn | {"JamesTronicError"}


@pytest.mark.parametrize("cls", CLASSES)
def test_errors_pickle_and_copy_with_their_facts(cls: type[JamesTronicError]) -> None:
    error = cls("It broke.", next_step="Mend it.")
    if isinstance(error, ApiError):
        error = cls("It broke.", next_step="Mend it.", status=409, code="PT409", details='{"reason":"x"}')  # type: ignore[call-arg]
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own bytes
        assert type(again) is cls
        assert str(again) == "It broke. Mend it."
        assert vars(again) == vars(error)


@pytest.mark.parametrize("cls", CLASSES)
def test_str_is_one_line(cls: type[JamesTronicError]) -> None:
    assert "\n" not in str(cls("It broke."))


# (status, code, message) -> class; the rows of PostgREST's and PostgreSQL's tables.
API = [
    (403, "42501", "permission denied for table tickets", PermissionDeniedError),
    (401, "42501", "permission denied for table tickets", PermissionDeniedError),
    (403, "28000", "no", PermissionDeniedError),
    (403, "28P01", "no", PermissionDeniedError),
    (409, "23505", 'duplicate key value violates unique constraint "tickets_number_key"', ConflictError),
    (409, "23503", "violates foreign key constraint", ConflictError),
    (400, "23502", "null value", BadRequestError),
    (400, "23514", "violates check constraint", BadRequestError),
    (400, "22P02", "invalid input syntax", BadRequestError),
    (400, "22023", "role does not exist", BadRequestError),
    (405, "25006", "cannot execute INSERT in a read-only transaction", BadRequestError),
    (400, "P0001", "raised", BadRequestError),
    (500, "P0002", "no data", NotFoundError),
    (404, "42P01", 'relation "public.tickets" does not exist', SchemaMissingError),
    (400, "42703", "column tickets.version does not exist", SchemaMissingError),
    (404, "42883", "function public.assign_ticket(uuid) does not exist", SchemaMissingError),
    (404, "PGRST202", "Could not find the function public.assign_ticket", SchemaMissingError),
    (400, "PGRST204", "Could not find the 'x' column of 'tickets'", SchemaMissingError),
    (404, "PGRST205", "Could not find the table 'public.tickets'", SchemaMissingError),
    (406, "PGRST106", "The schema must be one of the following: public", SchemaMissingError),
    (406, "PGRST116", "JSON object requested", NotFoundError),
    (401, "PGRST302", "Anonymous access is disabled", PermissionDeniedError),
    (401, "PGRST301", "JWT expired", SessionExpiredError),
    (401, "PGRST303", "JWT expired", SessionExpiredError),
    (401, None, "JWT expired", SessionExpiredError),
    (401, "PGRST301", "JWSError JWSInvalidSignature", PermissionDeniedError),
    (401, "PGRST303", "JWT not in audience", PermissionDeniedError),
    (401, None, "Invalid API key", PermissionDeniedError),
    (503, "PGRST000", "no connection", ServerError),
    (503, "PGRST001", "no connection", ServerError),
    (503, "PGRST002", "no connection", ServerError),
    (504, "PGRST003", "pool time-out", ServerError),
    (400, "PGRST100", "query string", BadRequestError),
    (400, "PGRST102", "body", BadRequestError),
    (416, "PGRST103", "range", BadRequestError),
    (300, "PGRST203", "ambiguous", BadRequestError),
    (500, "PGRST300", "no jwt-secret", ServerError),
    (409, "PT409", "version_conflict", ConflictError),
    (404, "PT404", "ticket_not_found", NotFoundError),
    (403, "PT403", "role_not_allowed", PermissionDeniedError),
    (422, "PT422", "illegal_transition", BadRequestError),
    (429, "PT429", "slow down", RateLimitedError),
    (500, "57014", "canceling statement due to statement timeout", ServerError),
    (500, "40001", "could not serialize access", ServerError),
    (500, "40P01", "deadlock detected", ServerError),
    (503, "53300", "too many connections", ServerError),
    (413, "54001", "stack depth", ServerError),
    (500, "55P03", "lock timeout", ServerError),
    (503, "57P01", "terminating connection", ServerError),
    (503, "08006", "connection failure", ServerError),
    (500, "XX000", "internal", ServerError),
    (400, "42P17", "infinite recursion detected in policy", BadRequestError),
    (500, "42P17", "infinite recursion detected in policy", ServerError),
    (400, "21000", "UPDATE requires a WHERE clause", BadRequestError),
    (404, None, "", SchemaMissingError),
    (404, None, "the answer is not from PostgREST", NotFoundError),
    (None, "409", "from a client library that hides the status", ConflictError),
    (301, None, "moved", BadRequestError),
    (400, None, "x", BadRequestError),
    (408, None, "x", ServerError),
    (412, None, "x", ConflictError),
    (418, None, "x", BadRequestError),
    (425, None, "x", ServerError),
    (429, None, "x", RateLimitedError),
    (500, None, "x", ServerError),
    (502, None, "x", ServerError),
    (520, None, "x", ServerError),
    (None, None, "", BadRequestError),
]


@pytest.mark.parametrize(("status", "code", "message", "expected"), API)
def test_api_table(status: int | None, code: str | None, message: str, expected: type[Exception]) -> None:
    error = api_error(operation="tickets.list", status=status, code=code, message=message)
    assert type(error) is expected
    assert str(error).startswith("tickets.list: ")


AUTH = [
    (400, "invalid_credentials", errors.InvalidCredentialsError),
    (400, "email_not_confirmed", errors.InvalidCredentialsError),
    (400, "phone_not_confirmed", errors.InvalidCredentialsError),
    (403, "otp_expired", errors.InvalidCredentialsError),
    (400, "user_banned", errors.InvalidCredentialsError),
    (400, "bad_code_verifier", errors.InvalidCredentialsError),
    (400, "bad_oauth_callback", errors.InvalidCredentialsError),
    (422, "mfa_verification_failed", errors.InvalidCredentialsError),
    (422, "mfa_challenge_expired", errors.InvalidCredentialsError),
    (422, "mfa_ip_address_mismatch", errors.InvalidCredentialsError),
    (404, "flow_state_not_found", errors.InvalidCredentialsError),
    (422, "flow_state_expired", errors.InvalidCredentialsError),
    (403, "session_not_found", SessionExpiredError),
    (400, "session_expired", SessionExpiredError),
    (400, "refresh_token_not_found", SessionExpiredError),
    (400, "refresh_token_already_used", SessionExpiredError),
    (403, "user_not_found", SessionExpiredError),
    (403, "bad_jwt", SessionExpiredError),
    (400, "invalid_jwt", SessionExpiredError),
    (401, "no_authorization", errors.NotSignedInError),
    (422, "weak_password", BadRequestError),
    (422, "same_password", BadRequestError),
    (400, "validation_failed", BadRequestError),
    (422, "user_already_exists", ConflictError),
    (422, "email_exists", ConflictError),
    (422, "phone_exists", ConflictError),
    (409, "conflict", ServerError),
    (403, "not_admin", PermissionDeniedError),
    (422, "signup_disabled", PermissionDeniedError),
    (422, "email_provider_disabled", PermissionDeniedError),
    (422, "phone_provider_disabled", PermissionDeniedError),
    (400, "provider_disabled", PermissionDeniedError),
    (422, "otp_disabled", PermissionDeniedError),
    (403, "insufficient_aal", PermissionDeniedError),
    (404, "mfa_factor_not_found", errors.NotFoundError),
    (422, "mfa_factor_name_conflict", ConflictError),
    (403, "too_many_enrolled_mfa_factors", errors.BadRequestError),
    (422, "mfa_totp_enroll_not_enabled", PermissionDeniedError),
    (422, "mfa_totp_verify_not_enabled", PermissionDeniedError),
    (400, "reauthentication_needed", PermissionDeniedError),
    (504, "request_timeout", ServerError),
    (429, "over_request_rate_limit", RateLimitedError),
    (429, "over_email_send_rate_limit", RateLimitedError),
    (429, None, RateLimitedError),
    (401, None, PermissionDeniedError),
    (403, None, PermissionDeniedError),
    (404, None, NotFoundError),
    (500, "unexpected_failure", ServerError),
    (503, None, ServerError),
    (400, "something_new", BadRequestError),
    (None, None, BadRequestError),
]


@pytest.mark.parametrize(("status", "code", "expected"), AUTH)
def test_auth_table(status: int | None, code: str | None, expected: type[Exception]) -> None:
    error = auth_error(operation="auth.sign_in", status=status, code=code, message="no")
    assert type(error) is expected
    assert getattr(error, "code", None) == code
    assert getattr(error, "status", None) == status


def test_the_tables_have_no_untested_row() -> None:
    assert set(errors._API_CODES) <= {code for _, code, _, _ in API}
    assert set(errors._API_STATUSES) <= {status for status, code, _, _ in API if code is None} | {
        404,
        406,
        403,
        409,
    }
    assert set(errors._AUTH_CODES) | set(errors._AUTH_API_CODES) <= {code for _, code, _ in AUTH}


@pytest.mark.parametrize("cls", CLASSES)
def test_what_may_be_tried_again(cls: type[JamesTronicError]) -> None:
    expected = Retry.NEVER
    if issubclass(cls, ServerError | TransportError):
        expected = Retry.SOON
    elif issubclass(cls, RateLimitedError):
        expected = Retry.LATER
    assert cls("x").retry is expected


@pytest.mark.parametrize(
    ("message", "target", "file"),
    [
        ('relation "public.tickets" does not exist', "tickets", "010_schema.sql"),
        ('relation "public.profiles" does not exist', "profiles", "010_schema.sql"),
        ("Could not find the function public.assign_ticket", "assign_ticket", "050_commands.sql"),
        ("Could not find the function public.unassign_ticket", "unassign_ticket", "050_commands.sql"),
        ("", "set_ticket_status", "050_commands.sql"),
        ("function public.get_my_role() does not exist", None, "020_functions.sql"),
        ("something else", None, "supabase/sql:"),
    ],
)
def test_missing_sql_names_the_file(message: str, target: str | None, file: str) -> None:
    error = api_error(operation="x", status=404, code="PGRST202", message=message, target=target)
    assert isinstance(error, SchemaMissingError)
    assert file in str(error)


def test_conflict_says_the_current_version() -> None:
    details = '{"reason": "version_conflict", "current_version": 12}'
    error = api_error(operation="tickets.assign", status=409, code="PT409", message="x", details=details)
    assert isinstance(error, ConflictError)
    assert (error.reason, error.current_version) == ("version_conflict", 12)
    assert "Reload the ticket" in str(error)


@pytest.mark.parametrize("details", [None, "", "not json", "[1]", '{"reason": 1, "current_version": "x"}'])
def test_conflict_without_facts(details: str | None) -> None:
    error = ConflictError("x", details=details)
    assert (error.reason, error.current_version) == (None, None)


HOSTILE = [
    f"Bearer {SECRET}",
    jwt(sub="1"),
    f"sb_secret_{SECRET}",
    "ada@example.test",
    "+1 (555) 010-0199",
]


@pytest.mark.parametrize(("text", "code"), list(product(HOSTILE, ["P0001", "23514", "something_new", None])))
def test_no_secret_survives_in_a_message(text: str, code: str | None) -> None:
    message = f"it said {text} here\nsecond line {SECRET}"
    for error in (
        api_error(operation="x", status=400, code=code, message=message, details=message, hint=message),
        auth_error(operation="x", status=400, code=code, message=message),
    ):
        for shown in (str(error), repr(error), repr(vars(error))):
            assert text not in shown
            assert "second line" not in str(error)


def test_values_of_class_22_are_not_quoted() -> None:
    error = api_error(
        operation="x", status=400, code="22P02", message=f'invalid input syntax for type uuid: "{SECRET}"'
    )
    assert SECRET not in str(error)


def test_details_are_kept_for_our_own_codes_only() -> None:
    mine = api_error(operation="x", status=409, code="PT409", message="x", details='{"reason": "y"}')
    theirs = api_error(
        operation="x", status=409, code="23505", message="x", details=f"Key (phone)=({SECRET})"
    )
    assert isinstance(mine, ApiError)
    assert isinstance(theirs, ApiError)
    assert mine.details == '{"reason": "y"}'
    assert theirs.details is None


def test_a_megabyte_of_message_becomes_a_line() -> None:
    error = api_error(operation="x", status=500, message="a@b.c " * 200_000)
    assert len(str(error)) < 500


def test_authentication_errors_carry_code_and_status() -> None:
    error = auth_error(operation="auth.sign_in", status=400, code="invalid_credentials")
    assert isinstance(error, AuthenticationError)
    assert (error.code, error.status) == ("invalid_credentials", 400)
    assert (
        str(error)
        == "auth.sign_in: refused [invalid_credentials]. Check the e-mail address and the password."
    )


def test_the_documentation_names_every_error_and_what_trying_again_can_do() -> None:
    """``docs/errors.md``: one row for each class."""
    text = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (soon|later|never) \|", text, re.MULTILINE))
    assert rows == {cls.__name__: cls.retry.value for cls in CLASSES}
