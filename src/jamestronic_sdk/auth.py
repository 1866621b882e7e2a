"""Ways in and out: passwords, one-time codes, links, other providers, and a second factor.

Promises:
    A person is signed in only with an active profile; else the sign-in is undone and says why.
    When a way in fails, whoever was signed in before still is.

Never:
    No token in a ``repr``, an error or a log. No session on disk unless asked for.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast, get_args
from urllib.parse import urlencode

from jamestronic_sdk._auth_changes import AuthChange, AuthChangeKind, AuthChanges
from jamestronic_sdk._inputs import checked_flag, checked_iterable, checked_text
from jamestronic_sdk._session import Session
from jamestronic_sdk._session_keeper import AHEAD, Me, SessionKeeper, SignOutScope, TokenCallback
from jamestronic_sdk.errors import (
    DataError,
    InactiveProfileError,
    InvalidInputError,
    NoProfileError,
    PermissionDeniedError,
    SessionExpiredError,
)
from jamestronic_sdk.factors import Factors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supabase_auth.types import SignInWithPasswordlessCredentials, VerifyOtpParams

    from jamestronic_sdk._http import Core
    from jamestronic_sdk.retry import RetryPolicy
    from jamestronic_sdk.sessions import SessionStore

__all__ = [
    "Auth",
    "AuthChange",
    "AuthChangeKind",
    "AuthChanges",
    "CodePurpose",
    "CodeSent",
    "Me",
    "OAuthRequest",
    "SignOutScope",
    "TokenCallback",
]

_log: Final = logging.getLogger("jamestronic_sdk.auth")

CodePurpose: TypeAlias = Literal["sign_in", "sign_up", "recovery", "invite"]
"""What a code or link was sent for."""

_EMAIL_TYPES: Final = {"sign_in": "email", "sign_up": "signup", "recovery": "recovery", "invite": "invite"}


@dataclass(frozen=True, slots=True)
class CodeSent:
    """A message is on its way, if there is such an account: Auth does not say whether there is."""

    verifier: str | None = field(repr=False)
    """For the link of a mail: with the ``code`` of the address that it leads to, ``exchange_code`` takes it.

    None for text messages. Treat it as a password.
    """


@dataclass(frozen=True, slots=True)
class OAuthRequest:
    """Where to send a person's browser, and what proves afterwards that it was sent from here."""

    url: str
    verifier: str = field(repr=False)
    """``exchange_code`` takes it; a web application keeps it in the person's own web session."""


class Auth(SessionKeeper):
    """Who is signed in, and signing in and out; reach it as ``jt.auth``."""

    def __init__(
        self, core: Core, timeout: float | None, policy: RetryPolicy, store: SessionStore | None
    ) -> None:
        super().__init__(core, timeout, policy, store)
        self._factors: Final = Factors(self)

    @property
    def factors(self) -> Factors:
        """Second factors (TOTP) of the person who is signed in."""
        return self._factors

    # -- in and out --------------------------------------------------------------------------------

    async def sign_in(self, *, email: str, password: str) -> Me:
        """Sign in with e-mail address and password; replaces whoever was signed in.

        When it raises, whoever was signed in before still is, and the new session, if there was one, is
        revoked. Cancelling is safe in the same way, but a new session then lives on until it expires.

        Args:
            email: The address; upper and lower case are the same.
            password: At most 72 bytes (Auth's limit).

        Returns:
            The person, with profile and role.

        Raises:
            InvalidInputError: An argument is empty or not a string; nothing was sent.
            InvalidCredentialsError: Address or password is wrong, not confirmed, or blocked.
            NoProfileError: The account has no profile.
            InactiveProfileError: The profile is deactivated.
            SchemaMissingError: The database lacks this package's SQL; the message names the file.
            TransportError: No answer came.
            ApiError: Auth or the data API refused otherwise.
        """
        operation = "auth.sign_in"
        address = checked_text(email, "email", limit=320).strip()
        secret = checked_text(password, "password", limit=1000)
        async with self._alone(operation):
            door = self._core.door()
            answer = await self._wire.ask_auth(
                lambda: door.sign_in_with_password({"email": address, "password": secret}),
                operation=operation,
            )
            if answer.session is None:
                raise DataError(f"{operation}: Auth answered without a session.")
            return await self._enter(answer.session, door, operation)

    async def sign_up(self, *, email: str, password: str, full_name: str = "") -> Me | None:
        """Make an account of one's own; the database gives it the profile of a customer.

        Args:
            email: The address.
            password: At least as long as the project asks for, at most 72 bytes.
            full_name: The name to show.

        Returns:
            The person, signed in; None when the project first wants the address confirmed.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            ConflictError: There is such an account. A project that confirms addresses does not say so.
            BadRequestError: The password is too weak, or the address malformed.
            PermissionDeniedError: The project takes no sign-ups.
            JamesTronicError: As ``sign_in``.
        """
        operation = "auth.sign_up"
        address = checked_text(email, "email", limit=320).strip()
        secret = checked_text(password, "password", limit=1000)
        data = {"full_name": checked_text(full_name, "full_name", limit=200)} if full_name else {}
        async with self._alone(operation):
            door = self._core.door()
            answer = await self._wire.ask_auth(
                lambda: door.sign_up({"email": address, "password": secret, "options": {"data": data}}),
                operation=operation,
            )
            if answer.session is None:
                return None
            return await self._enter(answer.session, door, operation)

    async def resume(self, *, renew: bool = True) -> Me | None:
        """Take up the session that the ``session_store`` holds from an earlier run.

        Args:
            renew: True: renew it at once, which proves that the server still knows it. False: only if its
                token ends within a minute; for short programs that start often.

        Returns:
            The person; None when nothing usable is stored.

        Raises:
            ConfigurationError: The store can't be read.
            SessionExpiredError: It ended on the server; it is forgotten. Sign in again.
            NoProfileError: The account has no profile any more; the session is revoked and forgotten.
            InactiveProfileError: The profile was deactivated; the same.
            TransportError: No answer came; the stored session is kept.
            JamesTronicError: As ``sign_in``.
        """
        operation = "auth.resume"
        checked_flag(renew, "renew")
        self._core.require_open()
        text = await self._stored()
        if text is None:
            return None
        clock = self._core.clock
        async with self._alone(operation):
            session = Session.from_text(text, self._core.settings.url, self._core.door(), clock)
            if session is None:
                return None
            try:
                if not renew and session.remaining(clock) >= session.margin(AHEAD):
                    with contextlib.suppress(SessionExpiredError, PermissionDeniedError):
                        return await self._welcome(session, operation)
                    # The token is not as good as it looks, for example after its keys were rotated.
                session = await self._refreshed(session, operation)
                await self._keep(session)
                return await self._welcome(session, operation)
            except SessionExpiredError as error:
                await self._forget_stored()
                raise SessionExpiredError(
                    "The stored session has ended on the server.",
                    next_step="Sign in again.",
                    code=error.code,
                    status=error.status,
                ) from error
            except (NoProfileError, InactiveProfileError):
                await self._forget_stored()
                await self._undo(session)
                raise

    async def change_password(self, password: str) -> None:
        """Give the person who is signed in another password; ends all of their other sessions.

        Args:
            password: The new one.

        Raises:
            NotSignedInError: Nobody is signed in.
            BadRequestError: It is too weak, or the same as before.
            InvalidInputError: It is malformed; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        operation = "auth.change_password"
        secret = checked_text(password, "password", limit=1000)
        async with self._alone(operation):
            door = (await self._held(operation)).door
            await self._wire.ask_auth(
                lambda: door.update_user({"password": secret}), operation=operation, replayable=True
            )

    async def sign_out(self, scope: SignOutScope = "local") -> None:
        """End sessions; nothing happens when nobody is signed in.

        For ``local`` and ``global`` this program is signed out first, whatever the server answers.

        Args:
            scope: ``local`` ends this session, ``others`` all but this one, ``global`` all of the person.

        Raises:
            InvalidInputError: Unknown scope.
            TransportError: No answer came: this program is signed out (except for ``others``), but the
                session may live on at the server until it expires.
            ApiError: Auth refused; the same holds.
        """
        if scope not in get_args(SignOutScope):
            raise InvalidInputError("scope must be 'local', 'others' or 'global'.")
        self._core.require_open()
        async with self._lock:
            session = self._session
            if session is None:
                self._ended = None
                return
            if scope != "others":
                self._leave(None)
                await self._forget_stored()
            await self._revoke(session, scope)

    # -- codes, links, providers --------------------------------------------------------------------

    async def send_code(
        self,
        *,
        email: str | None = None,
        phone: str | None = None,
        create_account: bool = False,
        redirect_to: str | None = None,
    ) -> CodeSent:
        """Mail or text a one-time code; ``verify_code`` signs in with it.

        Args:
            email: Where a mail goes; or give ``phone``.
            phone: Where a text message goes, in the form ``+15550100``.
            create_account: Make an account if there is none.
            redirect_to: Where the mail's link leads in the end; None: to the project's site.

        Raises:
            InvalidInputError: Not exactly one of ``email`` and ``phone``, or malformed; nothing was sent.
            PermissionDeniedError: There is no such account, or the project does not send such codes.
            RateLimitedError: A message was sent a moment ago, or too many were.
            JamesTronicError: See ``errors.py``.
        """
        operation = "auth.send_code"
        door = self._core.door()
        options: dict[str, object] = {"should_create_user": checked_flag(create_account, "create_account")}
        if redirect_to is not None:
            options["email_redirect_to"] = checked_text(redirect_to, "redirect_to", limit=2000)
        to = _recipient(email, phone)

        asked = cast("SignInWithPasswordlessCredentials", {**to, "options": options})
        await self._wire.ask_auth(lambda: door.sign_in_with_otp(asked), operation=operation)
        return CodeSent(await self._core.verifier_of(door) if "email" in to else None)

    async def verify_code(
        self,
        code: str,
        *,
        email: str | None = None,
        phone: str | None = None,
        purpose: CodePurpose = "sign_in",
    ) -> Me:
        """Sign in with a code that was mailed or texted; replaces whoever was signed in.

        Args:
            code: As the person read it.
            email: Where it was mailed; or give ``phone``.
            phone: Where it was texted.
            purpose: What it was sent for. After ``recovery`` and ``invite`` call ``change_password``.

        Returns:
            The person, with profile and role.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            InvalidCredentialsError: The code is wrong, used or too old.
            JamesTronicError: As ``sign_in``.
        """
        operation = "auth.verify_code"
        kind = _EMAIL_TYPES[_purpose(purpose)]
        to = _recipient(email, phone)
        asked = {**to, "token": checked_text(code, "code", limit=100).strip()}
        asked["type"] = kind if "email" in to else "sms"
        return await self._verify(asked, operation)

    async def verify_link(self, token_hash: str, *, purpose: CodePurpose) -> Me:
        """Sign in with the ``token_hash`` of a link that was mailed; replaces whoever was signed in.

        Args:
            token_hash: The link's parameter of that name (the project's mail template puts it there).
            purpose: The link's parameter ``type`` says it: what the mail was sent for.

        Returns:
            The person, with profile and role.

        Raises:
            JamesTronicError: As ``verify_code``.
        """
        kind = _EMAIL_TYPES[_purpose(purpose)]
        token = checked_text(token_hash, "token_hash", limit=1000).strip()
        return await self._verify({"token_hash": token, "type": kind}, "auth.verify_link")

    async def send_password_reset(self, email: str, *, redirect_to: str | None = None) -> CodeSent:
        """Mail a code and link for who forgot their password.

        With the code ``verify_code(..., purpose="recovery")`` signs in, or with the link's ``exchange_code``;
        then ``change_password``.

        Args:
            email: The account's address.
            redirect_to: Where the link leads in the end; None: to the project's site.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            RateLimitedError: A message was sent a moment ago, or too many were.
            JamesTronicError: See ``errors.py``.
        """
        operation = "auth.send_password_reset"
        address = checked_text(email, "email", limit=320).strip()
        where = None if redirect_to is None else checked_text(redirect_to, "redirect_to", limit=2000)
        door = self._core.door()
        await self._wire.ask_auth(
            lambda: door.reset_password_for_email(address, {"redirect_to": where} if where else {}),
            operation=operation,
        )
        return CodeSent(await self._core.verifier_of(door))

    def begin_oauth(
        self,
        provider: str,
        *,
        redirect_to: str | None = None,
        scopes: Iterable[str] = (),
        parameters: Mapping[str, str] | None = None,
    ) -> OAuthRequest:
        """The address where a person signs in with another provider (PKCE); no I/O.

        The provider sends the browser back to ``redirect_to`` with ``?code=``, which ``exchange_code`` takes.

        Args:
            provider: Its name in the project's settings, for example ``google``.
            redirect_to: Your address, allowed in the project's settings; None: the project's site.
            scopes: What to ask the provider for, beyond its default.
            parameters: More for the provider, for example ``login_hint``.

        Raises:
            InvalidInputError: An argument is malformed.
        """
        if not isinstance(cast("object", parameters), Mapping | None):
            raise InvalidInputError("parameters must be a mapping of strings.")
        asked = {
            checked_text(name, "parameters", limit=100): checked_text(value, "parameters", limit=1000)
            for name, value in dict(parameters or {}).items()
        }
        asked["provider"] = checked_text(provider, "provider", limit=100)
        if redirect_to is not None:
            asked["redirect_to"] = checked_text(redirect_to, "redirect_to", limit=2000)
        several = checked_iterable(scopes, "scopes")
        if wanted := [checked_text(scope, "scopes", limit=200) for scope in several]:
            asked["scopes"] = " ".join(wanted)
        verifier = secrets.token_urlsafe(48)  # 64 characters of those that RFC 7636 allows
        digest = hashlib.sha256(verifier.encode()).digest()
        asked["code_challenge"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        asked["code_challenge_method"] = "s256"
        return OAuthRequest(f"{self._core.settings.url}/auth/v1/authorize?{urlencode(asked)}", verifier)

    async def exchange_code(self, code: str, *, verifier: str) -> Me:
        """Sign in with the ``code`` that a browser came back with; replaces whoever was signed in.

        Args:
            code: The parameter ``code`` of your ``redirect_to``; good once, for five minutes.
            verifier: Of the ``OAuthRequest`` or ``CodeSent`` that began it.

        Returns:
            The person, with profile and role.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            InvalidCredentialsError: The code is wrong, used or too old, or was begun with another verifier.
            JamesTronicError: As ``sign_in``.
        """
        operation = "auth.exchange_code"
        given = checked_text(code, "code", limit=1000).strip()
        proof = checked_text(verifier, "verifier", limit=200)
        async with self._alone(operation):
            door = self._core.door()
            answer = await self._wire.ask_auth(
                lambda: door.exchange_code_for_session(
                    {"auth_code": given, "code_verifier": proof, "redirect_to": ""}
                ),
                operation=operation,
            )
            if answer.session is None:
                raise DataError(f"{operation}: Auth answered without a session.")
            return await self._enter(answer.session, door, operation)

    async def _verify(self, asked: Mapping[str, str], operation: str) -> Me:
        async with self._alone(operation):
            door = self._core.door()
            answer = await self._wire.ask_auth(
                lambda: door.verify_otp(cast("VerifyOtpParams", dict(asked))), operation=operation
            )
            if answer.session is None:
                raise DataError(f"{operation}: Auth answered without a session.")
            return await self._enter(answer.session, door, operation)


def _recipient(email: str | None, phone: str | None) -> dict[str, str]:
    if (email is None) == (phone is None):
        raise InvalidInputError("Give email or phone, and not both.")
    if email is not None:
        return {"email": checked_text(email, "email", limit=320).strip()}
    return {"phone": checked_text(phone, "phone", limit=40).strip()}


def _purpose(purpose: CodePurpose) -> CodePurpose:
    if purpose not in get_args(CodePurpose):
        raise InvalidInputError(f"purpose must be one of {', '.join(get_args(CodePurpose))}.")
    return purpose
