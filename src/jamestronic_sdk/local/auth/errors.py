"""Every refusal of the Auth server: one table of status, code and text, and the two shapes of its body.

Promises:
    Clients match on ``code``; texts follow hosted Auth where clients are known to show them.

Never:
    No password, token, e-mail or phone in any of them.
"""

from __future__ import annotations

import datetime as dt
from enum import Enum
from typing import Any, Final

from aiohttp import web
from typing_extensions import override

from jamestronic_sdk.errors import JamesTronicError

__all__ = ["API_VERSION_HEADER", "AuthApiProblem", "Problem", "api_version", "problem_response"]

API_VERSION_HEADER: Final = "X-Supabase-Api-Version"
ERROR_CODE_HEADER: Final = "x-sb-error-code"
_NEWEST_VERSION: Final = dt.date(2024, 1, 1)


class AuthApiProblem(JamesTronicError):  # noqa: N818 - it is the answer, not a fault of ours
    """A refusal that becomes the answer to a request.

    Attributes:
        status: The HTTP status.
        code: Auth's error code; None when a hook refused, which has no code of its own.
        extra: More members of the body.
        headers: More headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str | None,
        message: str,
        *,
        extra: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status: Final = status
        self.code: Final = code
        self.extra: Final = extra or {}
        self.headers: Final = headers or {}


class Problem(Enum):
    """Status, code and text of each refusal."""

    INVALID_CREDENTIALS = 400, "invalid_credentials", "Invalid login credentials"
    UNSUPPORTED_GRANT_TYPE = 400, "invalid_credentials", "unsupported_grant_type"
    BANNED_AT_SIGN_IN = 400, "user_banned", "User is banned"
    BANNED_AT_REFRESH = 400, "user_banned", "Invalid Refresh Token: User Banned"
    BANNED_WITH_TOKEN = 403, "user_banned", "User is banned"
    EMAIL_NOT_CONFIRMED = 400, "email_not_confirmed", "Email not confirmed"
    PHONE_NOT_CONFIRMED = 400, "phone_not_confirmed", "Phone not confirmed"
    EMAIL_TO_BE_VERIFIED = 422, "email_not_confirmed", "Please verify your email first."
    PHONE_TO_BE_VERIFIED = 422, "phone_not_confirmed", "Please verify your phone first."
    USER_ALREADY_EXISTS = 422, "user_already_exists", "User already registered"
    EMAIL_EXISTS = 422, "email_exists", "A user with this email address has already been registered"
    PHONE_EXISTS = 422, "phone_exists", "Phone number already registered by another user"
    WEAK_PASSWORD = 422, "weak_password", "Password is too weak."
    SAME_PASSWORD = 422, "same_password", "New password should be different from the old password."
    VALIDATION_FAILED = 400, "validation_failed", "The request is not valid"
    BAD_JSON = 400, "bad_json", "Could not parse request body as JSON"
    SIGNUP_DISABLED = 422, "signup_disabled", "Signups not allowed for this instance"
    EMAIL_LOGIN_DISABLED = 422, "email_provider_disabled", "Email logins are disabled"
    EMAIL_SIGNUP_DISABLED = 400, "email_provider_disabled", "Email signups are disabled"
    PHONE_LOGIN_DISABLED = 422, "phone_provider_disabled", "Phone logins are disabled"
    PHONE_SIGNUP_DISABLED = 400, "phone_provider_disabled", "Phone signups are disabled"
    PHONE_UNSUPPORTED = 400, "phone_provider_disabled", "Unsupported phone provider"
    PROVIDER_DISABLED = 400, "provider_disabled", "Provider is not enabled"
    WEB3_DISABLED = 422, "web3_provider_disabled", "Web3 provider is disabled"
    SAML_DISABLED = 404, "saml_provider_disabled", "SAML 2.0 is disabled"
    MANUAL_LINKING_DISABLED = 404, "manual_linking_disabled", "Manual linking is disabled"
    ANONYMOUS_DISABLED = 422, "anonymous_provider_disabled", "Anonymous sign-ins are disabled"
    INVALID_EMAIL_FORMAT = 422, "validation_failed", "Invalid email format"
    OTP_DISABLED = 422, "otp_disabled", "Signups not allowed for otp"
    OTP_EXPIRED = 403, "otp_expired", "Token has expired or is invalid"
    LINK_EXPIRED = 403, "otp_expired", "Email link is invalid or has expired"
    REAUTHENTICATION_NEEDED = 400, "reauthentication_needed", "Password update requires reauthentication"
    REAUTHENTICATION_NOT_VALID = 422, "reauthentication_not_valid", "Nonce has expired or is invalid"
    FLOW_STATE_NOT_FOUND = 404, "flow_state_not_found", "invalid flow state, no valid flow state found"
    FLOW_STATE_EXPIRED = 422, "flow_state_expired", "invalid flow state, flow state has expired"
    FLOW_STATE_OF_LINK_NOT_FOUND = 400, "flow_state_not_found", "No associated flow state found."
    FLOW_STATE_ALREADY_USED = 400, "flow_state_already_used", "State has already been used"
    BAD_CODE_VERIFIER = (
        400,
        "bad_code_verifier",
        "code challenge does not match previously saved code verifier",
    )
    BAD_OAUTH_CALLBACK = 400, "bad_oauth_callback", "OAuth callback with missing authorization code missing"
    BAD_OAUTH_STATE = 400, "bad_oauth_state", "OAuth state not found or expired"
    TOTP_DISABLED = 422, "mfa_totp_enroll_not_enabled", "MFA enroll is disabled for TOTP"
    TOTP_VERIFY_DISABLED = 422, "mfa_totp_verify_not_enabled", "MFA verification is disabled for TOTP"
    MFA_PHONE_DISABLED = 422, "mfa_phone_enroll_not_enabled", "MFA enroll is disabled for Phone"
    MFA_WEBAUTHN_DISABLED = 422, "mfa_webauthn_enroll_not_enabled", "MFA enroll is disabled for WebAuthn"
    MFA_NAME_CONFLICT = (
        422,
        "mfa_factor_name_conflict",
        "A factor with the friendly name for this user already exists",
    )
    MFA_TOO_MANY = (
        422,
        "too_many_enrolled_mfa_factors",
        "Maximum number of verified factors reached, unenroll to continue",
    )
    MFA_CHALLENGE_NOT_FOUND = (
        422,
        "mfa_factor_not_found",
        "MFA factor with the provided challenge ID not found",
    )
    MFA_CHALLENGE_EXPIRED = (
        422,
        "mfa_challenge_expired",
        "MFA challenge has expired, verify against another challenge or create a new challenge.",
    )
    MFA_IP_MISMATCH = 422, "mfa_ip_address_mismatch", "Challenge and verify IP addresses mismatch."
    MFA_VERIFICATION_FAILED = 422, "mfa_verification_failed", "Invalid TOTP code entered"
    AAL2_TO_ENROLL = 403, "insufficient_aal", "AAL2 required to enroll a new factor"
    AAL2_TO_UNENROLL = 422, "insufficient_aal", "AAL2 required to unenroll verified factor"
    AAL2_TO_UPDATE = (
        401,
        "insufficient_aal",
        "AAL2 session is required to update email or password when MFA is enabled.",
    )
    FACTOR_NOT_FOUND = 404, "mfa_factor_not_found", "Factor not found"
    FACTOR_ID_NOT_UUID = 404, "validation_failed", "factor_id must be an UUID"
    EMAIL_RATE_LIMIT = 429, "over_email_send_rate_limit", "email rate limit exceeded"
    SMS_RATE_LIMIT = 429, "over_sms_send_rate_limit", "SMS rate limit exceeded"
    REQUEST_RATE_LIMIT = 429, "over_request_rate_limit", "Request rate limit reached"
    NO_AUTHORIZATION = 401, "no_authorization", "This endpoint requires a valid Bearer token"
    BAD_JWT = 403, "bad_jwt", "invalid JWT"
    SUB_NOT_UUID = 400, "bad_jwt", "invalid claim: sub claim must be a UUID"
    TOKEN_USER_GONE = 403, "user_not_found", "User from sub claim in JWT does not exist"
    TOKEN_SESSION_GONE = (
        403,
        "session_not_found",
        "Session from session_id claim in JWT does not exist",
    )
    NOT_ADMIN = 403, "not_admin", "User not allowed"
    ANONYMOUS_NOT_ALLOWED = (
        403,
        "no_authorization",
        "Anonymous user not allowed to perform these actions",
    )
    ANONYMOUS_PASSWORD = (
        422,
        "validation_failed",
        "Updating password of an anonymous user without an email or phone is not allowed",
    )
    USER_NOT_FOUND = 404, "user_not_found", "User not found"
    USER_ID_NOT_UUID = 404, "validation_failed", "user_id must be an UUID"
    REFRESH_TOKEN_NOT_FOUND = (
        400,
        "refresh_token_not_found",
        "Invalid Refresh Token: Refresh Token Not Found",
    )
    REFRESH_TOKEN_ALREADY_USED = (
        400,
        "refresh_token_already_used",
        "Invalid Refresh Token: Already Used",
    )
    SESSION_EXPIRED = 400, "session_expired", "Invalid Refresh Token: Session Expired"
    SESSION_INACTIVE = 400, "session_expired", "Invalid Refresh Token: Session Expired (Inactivity)"
    SESSION_NOT_FOUND = 400, "session_not_found", "Invalid Refresh Token: No Valid Session Found"
    CONFLICT = (
        409,
        "conflict",
        "Too many concurrent token refresh requests on the same session or refresh token",
    )
    BODY_TOO_LARGE = 413, "request_entity_too_large", "Request body too large"
    REQUEST_TIMEOUT = (
        504,
        "request_timeout",
        "Processing this request timed out, please retry after a moment.",
    )
    NOT_FOUND = 404, "not_found", "Auth has no such endpoint"
    METHOD_NOT_ALLOWED = 405, "method_not_allowed", "Auth has no such method on this endpoint"
    NOT_IMPLEMENTED = 501, "not_implemented", "The local Auth server does not have this yet"
    UNEXPECTED_FAILURE = (
        500,
        "unexpected_failure",
        "Unexpected failure, please check server logs for more information",
    )

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        self.message = message

    def error(
        self,
        message: str | None = None,
        *,
        extra: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> AuthApiProblem:
        """The exception to raise; ``message`` replaces the table's text."""
        return AuthApiProblem(self.status, self.code, message or self.message, extra=extra, headers=headers)

    @override
    def __str__(self) -> str:
        return f"{self.status} {self.code}"


def api_version(request: web.Request) -> dt.date | None:
    """The newest version that both sides speak, or None for the first one, which had no name."""
    text = request.headers.get(API_VERSION_HEADER, "")
    try:
        asked = dt.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=dt.UTC).date()
    except ValueError:
        return None
    return _NEWEST_VERSION if asked >= _NEWEST_VERSION else None


def problem_response(request: web.Request, problem: AuthApiProblem) -> web.Response:
    """The answer that says it, in the shape of the API version that the client asked for."""
    code = problem.code or ("unexpected_failure" if problem.status == 500 else "unknown")
    headers = dict(problem.headers)
    if problem.code is not None:
        headers[ERROR_CODE_HEADER] = problem.code
    version = api_version(request)
    body: dict[str, Any]
    if version is None:
        body = {"code": problem.status, "error_code": code, "msg": problem.message}
    else:
        headers[API_VERSION_HEADER] = version.isoformat()
        body = {"code": code, "message": problem.message}
    return web.json_response(body | problem.extra, status=problem.status, headers=headers)
