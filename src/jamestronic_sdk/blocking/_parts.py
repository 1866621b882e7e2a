"""Parts of the blocking client, written by ``scripts/blocking_parts.py`` from the async ones.

Promises:
    Each method is the async one of the same name and signature, awaited on the client's own thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic

from typing_extensions import override

from jamestronic_sdk._ticket_reads import MAX_PAGE
from jamestronic_sdk._unset import UNSET
from jamestronic_sdk.blocking._streams import AuthChanges, RowQuery
from jamestronic_sdk.models import TicketT

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime
    from typing import Unpack
    from uuid import UUID

    import jamestronic_sdk.admin as _admin
    import jamestronic_sdk.auth as _auth
    import jamestronic_sdk.factors as _factors
    import jamestronic_sdk.notes as _notes
    import jamestronic_sdk.profiles as _profiles
    import jamestronic_sdk.store.commands as _commands
    import jamestronic_sdk.table as _table
    import jamestronic_sdk.tickets as _tickets
    from jamestronic_sdk._filters import ProfileRef, TicketFilters, TicketOrder
    from jamestronic_sdk._session_keeper import Me, SignOutScope, TokenCallback
    from jamestronic_sdk._ticket_changes import TicketChanges, TicketDigest
    from jamestronic_sdk._unset import Unset
    from jamestronic_sdk.admin import Account
    from jamestronic_sdk.auth import CodePurpose, CodeSent, OAuthRequest
    from jamestronic_sdk.blocking._portal import Portal
    from jamestronic_sdk.factors import Challenge, Enrolment, FactorRef, FactorRows
    from jamestronic_sdk.models import (
        NewNote,
        NewTicket,
        Note,
        Profile,
        Role,
        Ticket,
        TicketPatch,
        TicketStatus,
    )
    from jamestronic_sdk.notes import NoteOrder, NoteRef, NoteRows
    from jamestronic_sdk.profiles import ProfileRows
    from jamestronic_sdk.table import ModelT, TableOperator, TableRow
    from jamestronic_sdk.tickets import TicketRef

__all__ = ["Admin", "Auth", "Factors", "Notes", "Profiles", "StoreCommands", "Table", "Tickets"]


class Admin:
    """Accounts and roles. Everything here needs the service key."""

    __slots__ = ("_face", "_portal")

    def __init__(self, face: _admin.Admin, portal: Portal) -> None:
        self._face: Final = face
        self._portal: Final = portal

    @override
    def __repr__(self) -> str:
        return self._portal.read(self._face.__repr__)

    def create_user(
        self, *, email: str, role: Role, password: str | None = None, full_name: str = ""
    ) -> Profile:
        """Make a confirmed account with a profile.

        Args:
            email: The address; it counts as confirmed.
            role: What the person may do.
            password: None makes an account that signs in by code or link only.
            full_name: The name to show.

        Returns:
            The new profile.

        Raises:
            PermissionDeniedError: This client has no service key.
            ConflictError: There is such an account.
            InvalidInputError: An argument is malformed; nothing was sent.
            NoProfileError: The account was made, but the database gave it no profile: is the SQL applied?
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(
            lambda: self._face.create_user(email=email, role=role, password=password, full_name=full_name)
        )

    def invite_user(self, *, email: str, role: Role) -> Profile:
        """Make an account and mail an invitation.

        Args:
            email: Where the invitation goes.
            role: What the person may do.

        Returns:
            The new profile.

        Raises:
            RateLimitedError: The project has sent too many mails.
            JamesTronicError: As ``create_user``.
        """
        return self._portal.run(lambda: self._face.invite_user(email=email, role=role))

    def list_users(self, *, page: int = 1, page_size: int = 50) -> list[Account]:
        """One page of accounts, the newest first.

        Args:
            page: From 1.
            page_size: Accounts per page, 1 to 1000. A shorter page is the last one.

        Raises:
            JamesTronicError: As ``create_user``.
        """
        return self._portal.run(lambda: self._face.list_users(page=page, page_size=page_size))

    def set_role(self, user_id: UUID | str, role: Role) -> Profile:
        """Give a person another role; it counts at once for data, and in tokens from the next renewal.

        Args:
            user_id: ``profiles.user_id``, not ``profiles.id``.
            role: What the person may do.

        Returns:
            The profile as it is now.

        Raises:
            NotFoundError: There is no such account.
            JamesTronicError: As ``create_user``.
        """
        return self._portal.run(lambda: self._face.set_role(user_id, role))

    def set_active(self, user_id: UUID | str, *, is_active: bool) -> Profile:
        """Deactivate a person, or activate them again; it counts at once, for sessions that are open, too.

        Args:
            user_id: ``profiles.user_id``.
            is_active: False: the person reads and writes nothing.

        Returns:
            The profile as it is now.

        Raises:
            NoProfileError: The account has no profile, or there is no such account.
            JamesTronicError: As ``create_user``.
        """
        return self._portal.run(lambda: self._face.set_active(user_id, is_active=is_active))

    def delete_user(self, user_id: UUID | str) -> None:
        """Delete an account; its profile is deactivated and kept, because tickets refer to it.

        Args:
            user_id: ``profiles.user_id``.

        Raises:
            NotFoundError: There is no such account.
            JamesTronicError: As ``create_user``.
        """
        self._portal.run(lambda: self._face.delete_user(user_id))


class Factors:
    """Second factors of the person who is signed in."""

    __slots__ = ("_face", "_portal")

    def __init__(self, face: _factors.Factors, portal: Portal) -> None:
        self._face: Final = face
        self._portal: Final = portal

    @override
    def __repr__(self) -> str:
        return self._portal.read(self._face.__repr__)

    def list(self) -> FactorRows:
        """The person's factors, also those that wait for their first code.

        Raises:
            NotSignedInError: Nobody is signed in.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(self._face.list)

    def enrol(self, name: str, *, issuer: str | None = None) -> Enrolment:
        """Begin a factor: show the QR code, then ``verify`` with the app's first code.

        Args:
            name: What the person calls it; unique among their factors.
            issuer: What the app shows as the service; None: the project's site.

        Raises:
            ConflictError: There is a factor of this name.
            PermissionDeniedError: The person has a verified factor, and this session has not shown it.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.enrol(name, issuer=issuer))

    def challenge(self, factor: FactorRef) -> Challenge:
        """Ask for a code; ``verify`` does it by itself, unless it is given one.

        Args:
            factor: The factor, its enrolment, its id, or the id's text.

        Raises:
            NotFoundError: The person has no such factor.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.challenge(factor))

    def verify(self, factor: FactorRef, code: str, *, challenge: Challenge | None = None) -> Me:
        """Show the second factor: this session is then ``aal2``; the person's sessions without it end.

        Args:
            factor: The factor, its enrolment, its id, or the id's text.
            code: The six digits that the app shows now.
            challenge: The challenge that it answers; None asks for one.

        Returns:
            The person, as before.

        Raises:
            InvalidCredentialsError: The code is wrong, or the challenge too old.
            NotFoundError: The person has no such factor.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.verify(factor, code, challenge=challenge))

    def unenrol(self, factor: FactorRef) -> None:
        """Remove a factor; a verified one needs a session that has shown a factor.

        Args:
            factor: The factor, its enrolment, its id, or the id's text.

        Raises:
            NotFoundError: The person has no such factor.
            PermissionDeniedError: This session has not shown a factor; ``verify`` first.
            JamesTronicError: See ``errors.py``.
        """
        self._portal.run(lambda: self._face.unenrol(factor))


class Auth:
    """Who is signed in, and signing in and out; reach it as ``jt.auth``."""

    __slots__ = ("_face", "_portal")

    def __init__(self, face: _auth.Auth, portal: Portal) -> None:
        self._face: Final = face
        self._portal: Final = portal

    @override
    def __repr__(self) -> str:
        return self._portal.read(self._face.__repr__)

    @property
    def is_signed_in(self) -> bool:
        """Whether a person is signed in; a program with a service key is nobody."""
        return self._portal.read(lambda: self._face.is_signed_in)

    @property
    def me(self) -> Me:
        """The person who is signed in.

        Raises:
            NotSignedInError: Nobody is.
            SessionExpiredError: Somebody was, until the server ended the session.
        """
        return self._portal.read(lambda: self._face.me)

    def reload_me(self) -> Me:
        """Load profile and role anew, for example after an admin changed them.

        Raises:
            NoProfileError: The profile was deleted; the person stays signed in.
            InactiveProfileError: The profile was deactivated; the person stays signed in.
            JamesTronicError: The profile could not be loaded.
        """
        return self._portal.run(self._face.reload_me)

    def changes(self) -> AuthChanges:
        """A stream of what happens to the session from now on; close it, or use ``with``."""
        return AuthChanges(self._portal.read(self._face.changes), self._portal)

    def access_token(self) -> str:
        """The access token, good for at least 30 s more (a third of its life if that is shorter).

        With a service key and nobody signed in it is the key. One renewal serves all who wait.

        Raises:
            NotSignedInError: Nobody is signed in.
            SessionExpiredError: The server ended the session; sign in again.
            TransportError: The token has expired and no answer came; the session is kept.
            ApiError: The token has expired and Auth failed; the session is kept.
        """
        return self._portal.run(self._face.access_token)

    def bearer(self) -> str:
        """The token that a request carries; the same as ``access_token``."""
        return self._portal.run(self._face.bearer)

    def renew(self, stale: str) -> str:
        """Another token than ``stale``, which a server called expired.

        Raises:
            SessionExpiredError: There is none: the session ended, or the caller is a service key.
        """
        return self._portal.run(lambda: self._face.renew(stale))

    def on_token(self, callback: TokenCallback) -> Callable[[], None]:
        """Be told each new access token, and None when the person goes; answers the function that ends it.

        They go at sign-out, and when somebody else signs in, whose token follows.

        The callback runs on the event loop at once and must not block; what it raises is logged and
        ends nothing.
        """
        return self._portal.read(lambda: self._face.on_token(callback))

    @property
    def factors(self) -> Factors:
        """Second factors (TOTP) of the person who is signed in."""
        return Factors(self._portal.read(lambda: self._face.factors), self._portal)

    def sign_in(self, *, email: str, password: str) -> Me:
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
        return self._portal.run(lambda: self._face.sign_in(email=email, password=password))

    def sign_up(self, *, email: str, password: str, full_name: str = "") -> Me | None:
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
        return self._portal.run(
            lambda: self._face.sign_up(email=email, password=password, full_name=full_name)
        )

    def resume(self, *, renew: bool = True) -> Me | None:
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
        return self._portal.run(lambda: self._face.resume(renew=renew))

    def change_password(self, password: str) -> None:
        """Give the person who is signed in another password; ends all of their other sessions.

        Args:
            password: The new one.

        Raises:
            NotSignedInError: Nobody is signed in.
            BadRequestError: It is too weak, or the same as before.
            InvalidInputError: It is malformed; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        self._portal.run(lambda: self._face.change_password(password))

    def sign_out(self, scope: SignOutScope = "local") -> None:
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
        self._portal.run(lambda: self._face.sign_out(scope))

    def send_code(
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
        return self._portal.run(
            lambda: self._face.send_code(
                email=email, phone=phone, create_account=create_account, redirect_to=redirect_to
            )
        )

    def verify_code(
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
        return self._portal.run(
            lambda: self._face.verify_code(code, email=email, phone=phone, purpose=purpose)
        )

    def verify_link(self, token_hash: str, *, purpose: CodePurpose) -> Me:
        """Sign in with the ``token_hash`` of a link that was mailed; replaces whoever was signed in.

        Args:
            token_hash: The link's parameter of that name (the project's mail template puts it there).
            purpose: The link's parameter ``type`` says it: what the mail was sent for.

        Returns:
            The person, with profile and role.

        Raises:
            JamesTronicError: As ``verify_code``.
        """
        return self._portal.run(lambda: self._face.verify_link(token_hash, purpose=purpose))

    def send_password_reset(self, email: str, *, redirect_to: str | None = None) -> CodeSent:
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
        return self._portal.run(lambda: self._face.send_password_reset(email, redirect_to=redirect_to))

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
        return self._portal.read(
            lambda: self._face.begin_oauth(
                provider, redirect_to=redirect_to, scopes=scopes, parameters=parameters
            )
        )

    def exchange_code(self, code: str, *, verifier: str) -> Me:
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
        return self._portal.run(lambda: self._face.exchange_code(code, verifier=verifier))


class Notes:
    """Reads and writes of notes, on behalf of who is signed in."""

    __slots__ = ("_face", "_portal")

    def __init__(self, face: _notes.Notes, portal: Portal) -> None:
        self._face: Final = face
        self._portal: Final = portal

    @override
    def __repr__(self) -> str:
        return self._portal.read(self._face.__repr__)

    def list(
        self,
        ticket: TicketRef,
        *,
        is_internal: bool | None = None,
        after: Note | None = None,
        limit: int = MAX_PAGE,
    ) -> NoteRows:
        """The notes of a ticket that you may see, the oldest first.

        Args:
            ticket: The ticket, its id, or the id's text.
            is_internal: True: only internal ones; False: only those that customers see, too.
            after: Begin after this note: the last one of the page before, or of an earlier look.
            limit: At most so many, 1 to 1000.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(
            lambda: self._face.list(ticket, is_internal=is_internal, after=after, limit=limit)
        )

    def query(
        self,
        ticket: TicketRef | None = None,
        *,
        author: ProfileRef | None = None,
        is_internal: bool | None = None,
        order: NoteOrder = "oldest",
        limit: int | None = None,
    ) -> RowQuery[Note]:
        """The notes that you may see and that match all filters, to be walked: see ``RowQuery``.

        Args:
            ticket: Of this ticket; None: of all.
            author: Written by this person: the profile, its id, or the id's text.
            is_internal: True: only internal ones; False: only those that customers see, too.
            order: ``oldest`` or ``newest`` first; a note keeps its place.
            limit: At most so many; None: all.

        Raises:
            InvalidInputError: An argument is malformed; nothing is sent.
        """
        return RowQuery(
            self._portal.read(
                lambda: self._face.query(
                    ticket, author=author, is_internal=is_internal, order=order, limit=limit
                )
            ),
            self._portal,
        )

    def get(self, note: NoteRef) -> Note:
        """One note as it is now.

        Args:
            note: The note, its id, or the id's text.

        Raises:
            NotFoundError: It does not exist, or you may not see it.
            InvalidInputError: Not an id; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.get(note))

    def create(self, ticket: TicketRef, note: NewNote | None = None, /, **fields: object) -> Note:
        """Write a note in your own name.

        Args:
            ticket: The ticket, its id, or the id's text.
            note: What to write; or give its fields as keywords: ``create(ticket, body="...")``.
            **fields: The fields of ``NewNote``.

        Returns:
            The new row.

        Raises:
            InvalidInputError: A field is missing, malformed or unknown; nothing was sent.
            PermissionDeniedError: You may not see the ticket, or not write internal notes.
            TransportError: No answer came, also when tried again. Unless ``maybe_sent`` is False the note
                may have been written.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.create(ticket, note, **fields))

    def update(self, note: NoteRef, *, body: str | None = None, is_internal: bool | None = None) -> Note:
        """Change a note that you wrote; admins change any.

        Args:
            note: The note, its id, or the id's text.
            body: The new text; None keeps it.
            is_internal: Who may read it; None keeps it.

        Returns:
            The row after the change.

        Raises:
            InvalidInputError: Nothing to change, or malformed; nothing was sent.
            NotFoundError: It does not exist, or you may not see it.
            PermissionDeniedError: It is somebody else's.
            TransportError: No answer came; it is tried again only if nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.update(note, body=body, is_internal=is_internal))

    def delete(self, note: NoteRef) -> Note:
        """Remove a note for good, as an admin.

        Args:
            note: The note, its id, or the id's text.

        Returns:
            The row that is gone.

        Raises:
            NotFoundError: It does not exist (any more), or you may not see it.
            PermissionDeniedError: You are no admin.
            TransportError: No answer came; it is tried again only if nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.delete(note))


class Profiles:
    """Reads of people, on behalf of who is signed in."""

    __slots__ = ("_face", "_portal")

    def __init__(self, face: _profiles.Profiles, portal: Portal) -> None:
        self._face: Final = face
        self._portal: Final = portal

    @override
    def __repr__(self) -> str:
        return self._portal.read(self._face.__repr__)

    @property
    def me(self) -> Profile:
        """The profile of the person who is signed in, as loaded at sign-in.

        Raises:
            NotSignedInError: Nobody is.
        """
        return self._portal.read(lambda: self._face.me)

    def get(self, profile: ProfileRef) -> Profile:
        """One person as they are now.

        Args:
            profile: The profile, its id, or the id's text.

        Raises:
            NotFoundError: There is none, or you may not see it.
            InvalidInputError: Not an id; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.get(profile))

    def list(
        self, *, role: Role | str | None = None, is_active: bool | None = None, limit: int = MAX_PAGE
    ) -> ProfileRows:
        """The first people that you may see, by name, in one request.

        Args:
            role: Only those with this role.
            is_active: True: only active ones; False: only deactivated ones.
            limit: At most so many, 1 to 1000.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.list(role=role, is_active=is_active, limit=limit))

    def query(
        self, *, role: Role | str | None = None, is_active: bool | None = None, limit: int | None = None
    ) -> RowQuery[Profile]:
        """The people that you may see, by name, to be walked: see ``RowQuery``.

        While it is walked, a person who is renamed may come twice or not at all.

        Args:
            role: Only those with this role.
            is_active: True: only active ones; False: only deactivated ones.
            limit: At most so many; None: all.

        Raises:
            InvalidInputError: An argument is malformed; nothing is sent.
        """
        return RowQuery(
            self._portal.read(lambda: self._face.query(role=role, is_active=is_active, limit=limit)),
            self._portal,
        )


class Table:
    """A table, or those rows of it that ``where`` leaves; each method answers a new one, or asks the server.

    ::

        cheap = jt.table("parts").where("price", "lt", 5).order("name")
        rows = cheap.limit(10).select("id, name")
        jt.table("parts").where("id", "eq", part_id).update({"price": 4})
    """

    __slots__ = ("_face", "_portal")

    def __init__(self, face: _table.Table, portal: Portal) -> None:
        self._face: Final = face
        self._portal: Final = portal

    @override
    def __repr__(self) -> str:
        return self._portal.read(self._face.__repr__)

    def where(self, column: str, operator: TableOperator, value: object) -> Table:
        """Only rows of which a column compares so; several conditions must all hold.

        Args:
            column: A column's name.
            operator: See ``TableOperator``.
            value: A text, number, UUID, date or aware ``datetime``; see ``TableOperator`` for the others.

        Raises:
            InvalidInputError: An argument is malformed.
        """
        return Table(self._portal.read(lambda: self._face.where(column, operator, value)), self._portal)

    def order(self, column: str, *, descending: bool = False) -> Table:
        """In the order of a column; a second call orders rows that are equal in the first.

        Args:
            column: A column's name.
            descending: The greatest first.

        Raises:
            InvalidInputError: It is no plain name.
        """
        return Table(self._portal.read(lambda: self._face.order(column, descending=descending)), self._portal)

    def limit(self, rows: int) -> Table:
        """At most so many rows.

        Args:
            rows: 1 to 1000.

        Raises:
            InvalidInputError: It is out of range.
        """
        return Table(self._portal.read(lambda: self._face.limit(rows)), self._portal)

    def select(self, columns: str = "*") -> list[TableRow]:
        """The rows, at most as many as ``limit`` or the server's own limit says (1000 on Supabase).

        Args:
            columns: PostgREST's ``select``: names with commas, and related tables with their columns in
                parentheses, for example ``"id, name, maker(name)"``.

        Raises:
            InvalidInputError: ``columns`` is no text.
            SchemaMissingError: There is no such table or column.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.select(columns))

    def select_as(self, model: type[ModelT]) -> list[ModelT]:
        """The rows, validated.

        Args:
            model: A pydantic model; its fields are columns.

        Raises:
            DataError: A row does not fit.
            JamesTronicError: As ``select``.
        """
        return self._portal.run(lambda: self._face.select_as(model))

    def count(self) -> int:
        """How many rows there are, whatever ``limit`` says; counted exactly by the database.

        Raises:
            JamesTronicError: As ``select``.
        """
        return self._portal.run(self._face.count)

    def insert(
        self, rows: Mapping[str, object] | Iterable[Mapping[str, object]], *, idempotent: bool = False
    ) -> list[TableRow]:
        """Add a row, or several: all or none.

        Args:
            rows: Columns by name; JSON values, UUIDs and dates.
            idempotent: Whether inserting twice is the same as once (a trigger or rule sees to it): then it
                is repeated after a lost answer, else only when nothing was sent.

        Returns:
            The new rows.

        Raises:
            InvalidInputError: A row is malformed, or there is none, or conditions are given.
            ConflictError: A key is taken.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.insert(rows, idempotent=idempotent))

    def update(self, values: Mapping[str, object], *, idempotent: bool = False) -> list[TableRow]:
        """Change the rows that ``where`` leaves.

        Args:
            values: The new values by column; JSON values, UUIDs and dates.
            idempotent: As in ``insert``.

        Returns:
            The rows after the change; those that you may not change are not among them.

        Raises:
            InvalidInputError: No condition is given, or a value is malformed.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.update(values, idempotent=idempotent))

    def delete(self, *, idempotent: bool = False) -> list[TableRow]:
        """Remove the rows that ``where`` leaves.

        Args:
            idempotent: As in ``insert``; the rows that a lost answer told are then not among the answer.

        Returns:
            The rows that are gone.

        Raises:
            InvalidInputError: No condition is given.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.delete(idempotent=idempotent))


class Tickets(Generic[TicketT]):
    """Reads and commands of tickets, on behalf of who is signed in; RLS decides what is seen."""

    __slots__ = ("_face", "_portal")

    def __init__(self, face: _tickets.Tickets[TicketT], portal: Portal) -> None:
        self._face: Final = face
        self._portal: Final = portal

    @override
    def __repr__(self) -> str:
        return self._portal.read(self._face.__repr__)

    def list(
        self, *, order: TicketOrder = "newest", limit: int = 100, **filters: Unpack[TicketFilters]
    ) -> builtins.list[TicketT]:
        """The first tickets that you may see and that match all filters, in one request.

        Args:
            order: ``newest`` or ``oldest`` first, by number; ``recently_updated`` or
                ``least_recently_updated`` first.
            limit: At most so many, 1 to 1000.
            **filters: See ``TicketFilters``.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.list(order=order, limit=limit, **filters))

    def query(
        self, *, order: TicketOrder = "newest", limit: int | None = None, **filters: Unpack[TicketFilters]
    ) -> RowQuery[TicketT]:
        """The tickets that you may see and that match all filters, to be walked: see ``RowQuery``.

        Args:
            order: As in ``list``. While it is walked by time of update, a row that is updated meanwhile
                may come twice or not at all.
            limit: At most so many; None: all.
            **filters: See ``TicketFilters``.

        Raises:
            InvalidInputError: An argument is malformed; nothing is sent.
        """
        return RowQuery(
            self._portal.read(lambda: self._face.query(order=order, limit=limit, **filters)), self._portal
        )

    def fetch_all(self, **filters: Unpack[TicketFilters]) -> builtins.list[TicketT]:
        """All tickets that you may see and that match all filters, by number; all or nothing.

        Read page by page after the last number seen, so rows that come or go meanwhile move no page; a
        large table is read in several parts at once. It is not one moment's snapshot: each row is as it
        was when its page was read.

        Args:
            **filters: See ``TicketFilters``.

        Raises:
            InvalidInputError: An argument is malformed; nothing was sent.
            JamesTronicError: One page failed; what was read is dropped.
        """
        return self._portal.run(lambda: self._face.fetch_all(**filters))

    def changes(self, cursor: str | None = None) -> TicketChanges[TicketT]:
        """What changed for you since a cursor, as of one moment, all pages together.

        For programs that follow tickets across restarts; ``ticket_store`` does it for you while it runs.

        Args:
            cursor: Of the call before; None reads everything that you may see.

        Returns:
            ``kind`` is ``snapshot`` when everything was read, also because the cursor was too old or belongs
            to another person or role; then what you held before is obsolete.

        Raises:
            SchemaMissingError: The database lacks ``060_sync.sql``.
            JamesTronicError: See ``errors.py``; the cursor stays good.
        """
        return self._portal.run(lambda: self._face.changes(cursor))

    def digest(self) -> TicketDigest:
        """Count and checksum over the tickets that you may see: equal means that you hold the same.

        Raises:
            SchemaMissingError: The database lacks ``060_sync.sql``.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(self._face.digest)

    def versions(self) -> builtins.list[tuple[UUID, int]]:
        """Id and version of every ticket that you may see: what you need to find what you lack.

        Raises:
            JamesTronicError: One page failed; what was read is dropped.
        """
        return self._portal.run(self._face.versions)

    def get(self, ticket: TicketRef) -> TicketT:
        """One ticket as it is now.

        Args:
            ticket: The ticket, its id, or the id's text.

        Raises:
            NotFoundError: It does not exist, or you may not see it.
            InvalidInputError: Not an id; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.get(ticket))

    def get_many(self, tickets: Iterable[TicketRef]) -> builtins.list[TicketT]:
        """Several tickets as they are now, in the order asked for; those that you may not see are left out.

        Args:
            tickets: Tickets, ids, or texts of ids; repeats are answered once.

        Raises:
            InvalidInputError: One of them is no id; nothing was sent.
            JamesTronicError: See ``errors.py``; nothing is answered then.
        """
        return self._portal.run(lambda: self._face.get_many(tickets))

    def create(self, ticket: NewTicket | None = None, /, **fields: object) -> TicketT:
        """Open a ticket.

        Args:
            ticket: What to open; or give its fields as keywords: ``create(title="...", priority="high")``.
            **fields: The fields of ``NewTicket``.

        Returns:
            The new row, with number and version.

        Raises:
            InvalidInputError: A field is missing, malformed or unknown; nothing was sent.
            PermissionDeniedError: Your role may not open tickets, or not such ones.
            TransportError: No answer came, also when tried again. Unless ``maybe_sent`` is False the
                ticket may have been opened.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(lambda: self._face.create(ticket, **fields))

    def update(
        self,
        ticket: TicketRef,
        patch: TicketPatch | None = None,
        /,
        *,
        expected_version: int | None = None,
        **fields: object,
    ) -> TicketT:
        """Change plain columns of a ticket; status and people have commands of their own.

        Args:
            ticket: The ticket, its id, or the id's text.
            patch: What to change; or give it as keywords: ``update(ticket, title="...")``.
            expected_version: Fail if the ticket has another version by now; None: do it anyway.
            **fields: The fields of ``TicketPatch``.

        Returns:
            The row after the change.

        Raises:
            ConflictError: The version is another; ``current_version`` says which.
            NotFoundError: There is no such ticket, or you may not see it.
            PermissionDeniedError: Your role may not change it, or not these columns.
            InvalidInputError: A field is malformed or unknown, or none was given; nothing was sent.
            TransportError: No answer came; it is tried again only if nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(
            lambda: self._face.update(ticket, patch, expected_version=expected_version, **fields)
        )

    def assign(
        self,
        ticket: TicketRef,
        technician: ProfileRef,
        *,
        expected_version: int | None = None,
        idempotency_key: UUID | str | None = None,
    ) -> TicketT:
        """Give a ticket to a technician; an ``open`` one becomes ``assigned``.

        Args:
            ticket: The ticket, its id, or the id's text.
            technician: The technician's profile, its id, or the id's text.
            expected_version: Fail if the ticket has another version by now; None: do it anyway.
            idempotency_key: A UUID that is the same when a program repeats the same wish, for example
                after a restart: the first answer comes again, nothing is done twice (for a day). None
                makes one for this call and its retries.

        Returns:
            The row after the change.

        Raises:
            ConflictError: The version is another; ``current_version`` says which.
            NotFoundError: There is no such ticket, or you may not see it.
            PermissionDeniedError: Your role may not assign.
            BadRequestError: The profile is not an active technician, or the ticket is closed.
            InvalidInputError: An argument is malformed; nothing was sent.
            JamesTronicError: See ``errors.py``.
        """
        return self._portal.run(
            lambda: self._face.assign(
                ticket, technician, expected_version=expected_version, idempotency_key=idempotency_key
            )
        )

    def unassign(
        self,
        ticket: TicketRef,
        *,
        expected_version: int | None = None,
        idempotency_key: UUID | str | None = None,
    ) -> TicketT:
        """Take a ticket away from its technician; unless it is finished it becomes ``open``.

        Args:
            ticket: The ticket, its id, or the id's text.
            expected_version: As in ``assign``.
            idempotency_key: As in ``assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return self._portal.run(
            lambda: self._face.unassign(
                ticket, expected_version=expected_version, idempotency_key=idempotency_key
            )
        )

    def claim(
        self,
        ticket: TicketRef,
        *,
        expected_version: int | None = None,
        idempotency_key: UUID | str | None = None,
    ) -> TicketT:
        """Take an unassigned ticket for yourself, as a technician.

        Args:
            ticket: The ticket, its id, or the id's text.
            expected_version: As in ``assign``.
            idempotency_key: As in ``assign``.

        Returns:
            The row after the change.

        Raises:
            ConflictError: Somebody else was faster; ``reason`` says so.
            JamesTronicError: As in ``assign``.
        """
        return self._portal.run(
            lambda: self._face.claim(
                ticket, expected_version=expected_version, idempotency_key=idempotency_key
            )
        )

    def release(
        self,
        ticket: TicketRef,
        *,
        expected_version: int | None = None,
        idempotency_key: UUID | str | None = None,
    ) -> TicketT:
        """Put your ticket back into the pool, as its technician.

        Args:
            ticket: The ticket, its id, or the id's text.
            expected_version: As in ``assign``.
            idempotency_key: As in ``assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return self._portal.run(
            lambda: self._face.release(
                ticket, expected_version=expected_version, idempotency_key=idempotency_key
            )
        )

    def set_status(
        self,
        ticket: TicketRef,
        status: TicketStatus | str,
        *,
        expected_version: int | None = None,
        idempotency_key: UUID | str | None = None,
    ) -> TicketT:
        """Move a ticket to another status.

        Args:
            ticket: The ticket, its id, or the id's text.
            status: The status after the change.
            expected_version: As in ``assign``.
            idempotency_key: As in ``assign``.

        Returns:
            The row after the change.

        Raises:
            BadRequestError: The step is not allowed from the present status.
            JamesTronicError: As in ``assign``.
        """
        return self._portal.run(
            lambda: self._face.set_status(
                ticket, status, expected_version=expected_version, idempotency_key=idempotency_key
            )
        )

    def schedule_transport(
        self,
        ticket: TicketRef,
        transporter: ProfileRef,
        scheduled_at: datetime,
        *,
        expected_version: int | None = None,
        idempotency_key: UUID | str | None = None,
    ) -> TicketT:
        """Have the device of a ticket moved.

        Args:
            ticket: The ticket, its id, or the id's text.
            transporter: The transporter's profile, its id, or the id's text.
            scheduled_at: When; an aware ``datetime``.
            expected_version: As in ``assign``.
            idempotency_key: As in ``assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return self._portal.run(
            lambda: self._face.schedule_transport(
                ticket,
                transporter,
                scheduled_at,
                expected_version=expected_version,
                idempotency_key=idempotency_key,
            )
        )


class StoreCommands:
    """The commands of ``jt.tickets``, through a store: ``store.commands.claim(ticket)``.

    ``expected_version`` is by default the version that the store shows, so that nobody decides about a row
    that has changed meanwhile; None means: whatever it is by now. Who comes too late gets
    ``ConflictError``, and the store's readers get ``TicketConflicted`` with both rows.
    """

    __slots__ = ("_face", "_portal")

    def __init__(self, face: _commands.StoreCommands, portal: Portal) -> None:
        self._face: Final = face
        self._portal: Final = portal

    @override
    def __repr__(self) -> str:
        return self._portal.read(self._face.__repr__)

    def assign(
        self,
        ticket: TicketRef,
        technician: ProfileRef,
        *,
        expected_version: int | Unset | None = UNSET,
        idempotency_key: UUID | str | None = None,
    ) -> Ticket:
        """Give a ticket to a technician; an ``open`` one becomes ``assigned``.

        Args:
            ticket: The ticket, its id, or the id's text.
            technician: The technician's profile, its id, or the id's text.
            expected_version: Not given: the version that the store shows. None: whatever it is by now.
            idempotency_key: As in ``jt.tickets.assign``.

        Returns:
            The row after the change.

        Raises:
            ConflictError: Somebody was faster; the store looks the ticket up by itself.
            StoreClosedError: The store is closed.
            JamesTronicError: As in ``jt.tickets.assign``; the row is shown as it was.
        """
        return self._portal.run(
            lambda: self._face.assign(
                ticket, technician, expected_version=expected_version, idempotency_key=idempotency_key
            )
        )

    def unassign(
        self,
        ticket: TicketRef,
        *,
        expected_version: int | Unset | None = UNSET,
        idempotency_key: UUID | str | None = None,
    ) -> Ticket:
        """Take a ticket from its technician; work that was begun becomes ``open``.

        Args:
            ticket: The ticket, its id, or the id's text.
            expected_version: As in ``assign``.
            idempotency_key: As in ``jt.tickets.assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return self._portal.run(
            lambda: self._face.unassign(
                ticket, expected_version=expected_version, idempotency_key=idempotency_key
            )
        )

    def claim(
        self,
        ticket: TicketRef,
        *,
        expected_version: int | Unset | None = UNSET,
        idempotency_key: UUID | str | None = None,
    ) -> Ticket:
        """Take an unassigned ticket for yourself, as a technician.

        Args:
            ticket: The ticket, its id, or the id's text.
            expected_version: As in ``assign``.
            idempotency_key: As in ``jt.tickets.assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return self._portal.run(
            lambda: self._face.claim(
                ticket, expected_version=expected_version, idempotency_key=idempotency_key
            )
        )

    def release(
        self,
        ticket: TicketRef,
        *,
        expected_version: int | Unset | None = UNSET,
        idempotency_key: UUID | str | None = None,
    ) -> Ticket:
        """Put your ticket back into the pool, as its technician.

        Args:
            ticket: The ticket, its id, or the id's text.
            expected_version: As in ``assign``.
            idempotency_key: As in ``jt.tickets.assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return self._portal.run(
            lambda: self._face.release(
                ticket, expected_version=expected_version, idempotency_key=idempotency_key
            )
        )

    def set_status(
        self,
        ticket: TicketRef,
        status: TicketStatus | str,
        *,
        expected_version: int | Unset | None = UNSET,
        idempotency_key: UUID | str | None = None,
    ) -> Ticket:
        """Move a ticket to another status.

        Args:
            ticket: The ticket, its id, or the id's text.
            status: The status after the change.
            expected_version: As in ``assign``.
            idempotency_key: As in ``jt.tickets.assign``.

        Returns:
            The row after the change.

        Raises:
            BadRequestError: The step is not allowed from the present status.
            JamesTronicError: As in ``assign``.
        """
        return self._portal.run(
            lambda: self._face.set_status(
                ticket, status, expected_version=expected_version, idempotency_key=idempotency_key
            )
        )

    def schedule_transport(
        self,
        ticket: TicketRef,
        transporter: ProfileRef,
        scheduled_at: datetime,
        *,
        expected_version: int | Unset | None = UNSET,
        idempotency_key: UUID | str | None = None,
    ) -> Ticket:
        """Have the device of a ticket moved.

        Args:
            ticket: The ticket, its id, or the id's text.
            transporter: The transporter's profile, its id, or the id's text.
            scheduled_at: When; an aware ``datetime``.
            expected_version: As in ``assign``.
            idempotency_key: As in ``jt.tickets.assign``.

        Returns:
            The row after the change.

        Raises:
            JamesTronicError: As in ``assign``.
        """
        return self._portal.run(
            lambda: self._face.schedule_transport(
                ticket,
                transporter,
                scheduled_at,
                expected_version=expected_version,
                idempotency_key=idempotency_key,
            )
        )

    def update(
        self,
        ticket: TicketRef,
        patch: TicketPatch | None = None,
        /,
        *,
        expected_version: int | Unset | None = UNSET,
        **fields: object,
    ) -> Ticket:
        """Change plain columns of a ticket; status and people have commands of their own.

        Args:
            ticket: The ticket, its id, or the id's text.
            patch: What to change; or give it as keywords: ``update(ticket, title="...")``.
            expected_version: As in ``assign``.
            **fields: The fields of ``TicketPatch``.

        Returns:
            The row after the change.

        Raises:
            InvalidInputError: A field is malformed or unknown, or none was given; nothing was sent.
            JamesTronicError: As in ``assign``.
        """
        return self._portal.run(
            lambda: self._face.update(ticket, patch, expected_version=expected_version, **fields)
        )
