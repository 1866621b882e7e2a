"""`jamestronic login`, `logout` and `whoami`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jamestronic_sdk.cli._root import finish, output_of
from jamestronic_sdk.cli._session import acting, claims_of, client, kept_session, settings
from jamestronic_sdk.errors import ConfigurationError, SessionExpiredError, TransportError

if TYPE_CHECKING:
    from jamestronic_sdk.auth import Me
    from jamestronic_sdk.cli._kept import KeptSession
    from jamestronic_sdk.client import JamesTronic

__all__ = ["login", "logout", "whoami"]


def login(
    *,
    email: Annotated[str | None, typer.Option("--email", "-e", help="Who. Default: ask.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    code: Annotated[
        bool, typer.Option("--code", help="No password: mail a one-time code, then ask for it.")
    ] = False,
    keyring: Annotated[
        bool, typer.Option("--keyring", help="Keep the session in the system's keyring, not in a file.")
    ] = False,
) -> None:
    """Sign in, and stay signed in for the commands that follow."""
    if code and password_stdin:
        raise typer.BadParameter("--code and --password-stdin exclude each other.")
    project = settings()
    if project.is_service:
        raise ConfigurationError(
            "A service key needs no login.", next_step="Use the project's publishable key, or just go on."
        )
    if email is None:
        email = _ask("E-mail")
    store = kept_session(project, keyring=keyring)
    password = None if code else _password(from_stdin=password_stdin)

    async def work() -> None:
        out = output_of()
        async with client(project, store) as jt:
            if password is None:
                await jt.auth.send_code(email=email)
                out.note(f"A code is on its way to {email}, if there is such an account.")
                me = await jt.auth.verify_code(_ask("Code"), email=email)
            else:
                me = await jt.auth.sign_in(email=email, password=password)
            await _require_kept(jt, store)
            facts = await _facts(jt, me, store)
        who = f"{facts['name'] or email} ({facts['role']})"
        out.result(facts, f"Signed in to {project.host} as {who}.")

    finish(work)


async def _require_kept(jt: JamesTronic, store: KeptSession) -> None:
    """A session that could not be stored is ended: nobody could end it later."""
    try:
        if await store.load() is not None:
            return
    except ConfigurationError:
        await jt.auth.sign_out()
        raise
    except OSError as error:
        reason = type(error).__name__
    else:
        reason = "nothing was written"
    await jt.auth.sign_out()
    raise ConfigurationError(
        f"The session can't be kept in {store.path} ({reason}).",
        next_step="Make the folder writable, or choose another --session-file.",
    )


def logout(
    *,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="End the sessions of all other devices, too.")
    ] = False,
) -> None:
    """Sign out: end the session, and forget it on this machine."""
    project = settings()
    store = kept_session(project)

    async def work() -> None:
        out = output_of()
        if await store.load() is None:
            out.note(f"Nobody was signed in to {project.host}.")
            out.result({"signed_out": False, "project": project.url}, "")
            return
        try:
            async with client(project, store) as jt:
                await jt.auth.resume(renew=False)
                await jt.auth.sign_out("global" if everywhere else "local")
        except SessionExpiredError:
            out.note("The session had ended already.")
        except TransportError:
            out.note("Signed out on this machine; at the server the session lives on until it expires.")
            raise
        finally:
            await store.clear()
        out.result({"signed_out": True, "project": project.url}, f"Signed out of {project.host}.")

    finish(work)


def whoami() -> None:
    """Show who is signed in, their role, the project, and how long the session is good."""

    async def work() -> None:
        out = output_of()
        async with acting(renew=True) as jt:
            if not jt.auth.is_signed_in:
                facts: dict[str, Any] = {"project": jt.settings.url, "name": None, "role": "service"}
                out.fields(
                    facts, {"Project": jt.settings.url, "Acting as": "the service (every policy passed)"}
                )
                return
            store = kept_session(jt.settings)
            facts = await _facts(jt, jt.auth.me, store)
        out.fields(
            facts,
            {
                "Name": facts["name"],
                "E-mail": facts["email"],
                "Role": facts["role"],
                "Profile": facts["profile_id"],
                "Project": facts["project"],
                "Session": f"good; the token is renewed by itself at {facts['token_ends_at']}",
                "Kept in": facts["kept_in"],
            },
        )

    finish(work)


async def _facts(jt: JamesTronic, me: Me, store: KeptSession) -> dict[str, Any]:
    claims = claims_of(await jt.auth.access_token())
    ends = claims.get("exp")
    return {
        "name": me.profile.full_name,
        "email": claims.get("email") or None,
        "role": str(me.role),
        "profile_id": str(me.profile_id),
        "user_id": str(me.user_id),
        "project": jt.settings.url,
        "token_ends_at": datetime.fromtimestamp(ends, UTC).isoformat() if isinstance(ends, int) else None,
        "kept_in": "keyring" if await store.is_in_keyring() else str(store.path),
    }


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        secret = sys.stdin.readline().rstrip("\r\n")
        if not secret:
            raise typer.BadParameter("Standard input is empty.", param_hint="--password-stdin")
        return secret
    if not sys.stdin.isatty():
        raise typer.BadParameter("There is no terminal to ask for the password: use --password-stdin.")
    answer: str = typer.prompt("Password", hide_input=True, err=True)
    return answer


def _ask(what: str) -> str:
    """Ask on the terminal; without one, the next line of standard input is the answer."""
    if sys.stdin.isatty():
        answer: str = typer.prompt(what, err=True)
        return answer
    line = sys.stdin.readline().strip()
    if not line:
        raise typer.BadParameter(f"{what} is missing: give it as an option, or as a line of standard input.")
    return line
