"""What `doctor` looks at, one row a check, each with what to do.

Promises:
    A check that can't be made, because an earlier one failed, is not made: the first failure is the cause.
    Reads only; nothing is joined or written that others could notice.

Never:
    No key, token or password in a row.
"""

from __future__ import annotations

import asyncio
import platform
import ssl
import stat
import sys
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, LiteralString, cast
from urllib.parse import urlsplit
from uuid import UUID

import httpx

from jamestronic_sdk import sql
from jamestronic_sdk._clock import SYSTEM_CLOCK
from jamestronic_sdk.cli._realtime_check import RealtimeProbe
from jamestronic_sdk.cli._session import claims_of, client, kept_session, settings
from jamestronic_sdk.errors import JamesTronicError, NotSignedInError, SqlError
from jamestronic_sdk.models import Role
from jamestronic_sdk.realtime.channels import OVERVIEW_CHANNEL, person_topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from jamestronic_sdk.client import JamesTronic
    from jamestronic_sdk.settings import Settings

__all__ = ["Check", "Examination", "State"]

_SKEW: Final = 10.0
"""Seconds: beyond them the age of tickets and the latencies of events are told wrongly. Access tokens are
no matter: their lifetime is counted from their arrival."""

_CERTIFICATE_DAYS: Final = 14
"""Certificates are usually renewed 30 days before they end; two weeks before, something is wrong."""

_DEPENDENCIES: Final = ("supabase", "realtime", "postgrest", "httpx", "websockets", "pydantic")

_NOBODY: Final = UUID(int=0)

_APPLY: Final = "Apply it: `jamestronic sql export`, then `npx supabase db push`."

# One function or table of each file that can be seen from outside, and the arguments that find it.
_PROBES: Final[tuple[tuple[str, str, dict[str, str] | None], ...]] = (
    ("010_schema.sql", "tickets", None),
    ("010_schema.sql", "profiles", None),
    ("010_schema.sql", "ticket_notes", None),
    ("020_functions.sql", "get_my_role", {}),
    ("050_commands.sql", "claim_ticket", {"ticket_id": str(_NOBODY)}),
    ("060_sync.sql", "tickets_digest", {}),
)
_MISSING: Final = frozenset({"PGRST202", "PGRST205", "42P01", "42883"})

_RLS_OFF: Final[LiteralString] = """
select c.relname from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname = 'public' and c.relname in ('tickets', 'profiles', 'ticket_notes') and not c.relrowsecurity
"""
_PUBLISHED: Final[LiteralString] = """
select 1 from pg_catalog.pg_publication_tables
where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = 'tickets'
"""
_POLICIES: Final[LiteralString] = """
select count(*) from pg_catalog.pg_policies
where schemaname = 'public' and tablename in ('tickets', 'profiles', 'ticket_notes')
"""


class State(StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One row."""

    name: str
    state: State
    detail: str
    next_step: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "name": self.name,
            "state": self.state.value,
            "detail": self.detail,
            "next_step": self.next_step,
        }


class Examination:
    """All checks, in the order in which one depends on the other.

    Args:
        tell: Takes each row as soon as it is known.
        database_url: Of a role that may read the catalogue; None looks from outside only.
        patience: Seconds for each answer.
    """

    def __init__(self, tell: Callable[[Check], None], *, database_url: str | None, patience: float) -> None:
        self._tell: Final = tell
        self._database_url: Final = database_url
        self._patience: Final = patience

    def _ok(self, name: str, detail: str) -> bool:
        self._tell(Check(name, State.OK, detail))
        return True

    def _warn(self, name: str, detail: str, next_step: str | None = None) -> bool:
        self._tell(Check(name, State.WARN, detail, next_step))
        return True

    def _fail(self, name: str, detail: str, next_step: str | None = None) -> bool:
        self._tell(Check(name, State.FAIL, detail, next_step))
        return False

    async def run(self) -> None:
        """Make the checks."""
        self._versions()
        try:
            project = settings()
        except JamesTronicError as error:
            self._fail("settings", error.message, error.next_step)
        else:
            self._ok("settings", f"{project.url}, {_kind_of_key(project)}")
            if await self._address(project):
                await self._services(project)
        if self._database_url:
            await self._database(self._database_url)

    # -- here ---------------------------------------------------------------------------------------

    def _versions(self) -> None:
        found: list[str] = []
        missing: list[str] = []
        for name in ("jamestronic_sdk", *_DEPENDENCIES):
            try:
                found.append(f"{name} {metadata.version(name)}")
            except metadata.PackageNotFoundError:
                missing.append(name)
        python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
        detail = ", ".join((python, *found))
        lost = [name for name in missing if name != "jamestronic_sdk"]
        if lost:
            self._fail("versions", f"{detail}; missing: {', '.join(lost)}", "pip install jamestronic_sdk")
        elif sys.version_info < (3, 11):  # noqa: UP036 - says so where somebody forced the installation
            self._fail("versions", detail, "Use Python 3.11 or newer.")
        else:
            self._ok("versions", detail)

    # -- the way there --------------------------------------------------------------------------------

    async def _address(self, project: Settings) -> bool:
        """Name, connection and certificate."""
        parts = urlsplit(project.url)
        host, is_secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if is_secure else 80)
        if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
            return self._ok(
                "address", "A proxy is set in the environment; the project is reached through it."
            )
        try:
            async with asyncio.timeout(self._patience):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, proto=6)
        except (OSError, TimeoutError):
            return self._fail(
                "address",
                f"The name {host} is not known.",
                "Check SUPABASE_URL and the network; a paused project has no address: restore it.",
            )
        self._ok("address", f"{host} is {found[0][4][0]}")
        return await self._connection(host, port, is_secure=is_secure)

    async def _connection(self, host: str, port: int, *, is_secure: bool) -> bool:
        context = ssl.create_default_context() if is_secure else None
        try:
            async with asyncio.timeout(self._patience):
                _, writer = await asyncio.open_connection(host, port, ssl=context)
        except ssl.SSLCertVerificationError as error:
            return self._fail(
                "connection",
                f"The certificate of {host} is not trusted: {error.verify_message}.",
                "Check this machine's clock and certificates, and who answers in between.",
            )
        except (OSError, TimeoutError) as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
            return self._fail(
                "connection",
                f"Nothing answers at {host}:{port} ({why}).",
                "Check SUPABASE_URL, firewall and proxy; for a local stack: jamestronic local start",
            )
        peer: Any = writer.get_extra_info("peercert")
        tls: Any = writer.get_extra_info("ssl_object")
        writer.transport.abort()
        if not is_secure:
            if host in {"localhost", "127.0.0.1", "::1"}:
                return self._ok("connection", f"Port {port} answers, without TLS on this machine.")
            return self._warn("connection", "No TLS: passwords travel in the clear.", "Use https://.")
        left = (ssl.cert_time_to_seconds(peer["notAfter"]) - SYSTEM_CLOCK.wall()) / 86400 if peer else None
        detail = f"{tls.version() if tls else 'TLS'}" + (
            f", certificate good for {left:.0f} days" if left else ""
        )
        if left is not None and left < _CERTIFICATE_DAYS:
            return self._warn("connection", detail, "It should have been renewed: ask who runs the project.")
        return self._ok("connection", detail)

    # -- what answers ---------------------------------------------------------------------------------

    async def _services(self, project: Settings) -> None:
        key = project.key.get_secret_value()
        headers = {"apikey": key} | ({} if key.startswith("sb_") else {"Authorization": f"Bearer {key}"})
        async with httpx.AsyncClient(base_url=project.url, headers=headers, timeout=self._patience) as http:
            if not await self._health(http) or not await self._key(http, project):
                return
            if await self._sql_from_outside(http) and not project.is_service:
                await self._closed_to_strangers(http)
        store = None if project.is_service else kept_session(project)
        async with client(project, store).with_options(timeout=self._patience, retries=0) as jt:
            is_somebody = await self._session(jt, project)
            await self._realtime(jt, project, is_somebody=is_somebody)
            if is_somebody:
                await self._change_log(jt)

    async def _health(self, http: httpx.AsyncClient) -> bool:
        before = SYSTEM_CLOCK.wall()
        try:
            answer = await http.get("/auth/v1/health")
        except httpx.HTTPError as error:
            return self._fail(
                "health", f"No answer ({type(error).__name__}).", "Check SUPABASE_URL; try again later."
            )
        after = SYSTEM_CLOCK.wall()
        if answer.status_code in {401, 403}:
            self._wrong_key()
            return False
        if answer.status_code != 200:
            return self._fail(
                "health",
                f"Auth answers with status {answer.status_code}.",
                "Check SUPABASE_URL: is it the API's address?"
                if answer.status_code < 500
                else "Look at the project's status page or logs; a paused project must be restored.",
            )
        about = _object(answer)
        self._ok(
            "health", f"Auth {about.get('version', '')} answers in {1000 * (after - before):.0f} ms".strip()
        )
        self._clock(answer, before, after)
        return True

    def _clock(self, answer: httpx.Response, before: float, after: float) -> None:
        try:
            said = parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
        except ValueError:
            self._warn("clock", "The server does not say what time it is.")
            return
        skew = (before + after) / 2 - (said + 0.5)  # the header has whole seconds
        detail = f"This machine is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} the server."
        if abs(skew) > _SKEW + (after - before) / 2:
            self._warn("clock", detail, "Set it, for example with NTP: ages and latencies are told wrongly.")
        else:
            self._ok("clock", detail)

    def _wrong_key(self, hint: str = "") -> bool:
        return self._fail(
            "key",
            f"The project refuses the key{hint}.",
            "Copy URL and key from the same project's settings, API, or from `jamestronic local env`.",
        )

    async def _key(self, http: httpx.AsyncClient, project: Settings) -> bool:
        claims = claims_of(project.key.get_secret_value())
        try:
            auth = await http.get("/auth/v1/settings")
            data = await http.get("/rest/v1/tickets", params={"select": "id", "limit": "0"})
        except httpx.HTTPError as error:
            return self._fail("key", f"No answer ({type(error).__name__}).", "Try again later.")
        refused = auth.status_code in {401, 403} or str(_object(data).get("code")) in {"PGRST301", "PGRST300"}
        if refused or (data.status_code == 401 and "code" not in _object(data)):
            ref = claims.get("ref")
            other = isinstance(ref, str) and not project.host.startswith(f"{ref}.")
            return self._wrong_key(": it is of another project" if other else "")
        ends = claims.get("exp")
        if isinstance(ends, int) and ends - SYSTEM_CLOCK.wall() < 86400 * _CERTIFICATE_DAYS:
            return self._warn(
                "key",
                f"It is the project's, and ends {datetime.fromtimestamp(ends, UTC):%Y-%m-%d}.",
                "Get a new one.",
            )
        if project.is_service:
            return self._warn("key", "It is the project's service key.", "Keep it off people's machines.")
        return self._ok("key", "It is the project's.")

    async def _sql_from_outside(self, http: httpx.AsyncClient) -> bool:
        missing: dict[str, list[str]] = {}
        seen: dict[str, None] = {}
        for file, name, arguments in _PROBES:
            try:
                if arguments is None:
                    answer = await http.get(f"/rest/v1/{name}", params={"select": "id", "limit": "0"})
                else:
                    answer = await http.post(f"/rest/v1/rpc/{name}", json=arguments)
            except httpx.HTTPError as error:
                return self._fail(
                    "sql", f"The data API does not answer ({type(error).__name__}).", "Try again later."
                )
            if answer.status_code >= 500:
                return self._fail(
                    "sql", f"The data API answers with status {answer.status_code}.", "See its logs."
                )
            if str(_object(answer).get("code")) in _MISSING or (
                answer.status_code == 404 and not _object(answer)
            ):
                missing.setdefault(file, []).append(name)
            else:
                seen[file] = None
        if missing:
            what = "; ".join(f"{file}: {', '.join(names)}" for file, names in missing.items())
            return self._fail("sql", f"Missing, as seen from outside: {what}.", _APPLY)
        return self._ok("sql", f"Seen from outside: {', '.join(seen)}.")

    async def _closed_to_strangers(self, http: httpx.AsyncClient) -> None:
        """Without a person the key must open no row."""
        open_tables: list[str] = []
        for table in ("tickets", "profiles", "ticket_notes"):
            try:
                answer = await http.get(f"/rest/v1/{table}", params={"select": "id", "limit": "1"})
                rows: Any = answer.json()
            except (httpx.HTTPError, ValueError):
                continue  # `sql` has said that it does not answer
            if answer.status_code == 200 and isinstance(rows, list) and rows:
                open_tables.append(table)
        if open_tables:
            self._fail(
                "policies",
                f"Anybody can read {', '.join(open_tables)}: row level security is off or too wide.",
                "Apply 030_policies.sql at once: `jamestronic sql export`, then `npx supabase db push`.",
            )
        else:
            self._ok("policies", "Nobody reads a row without signing in.")

    # -- who ------------------------------------------------------------------------------------------

    async def _session(self, jt: JamesTronic, project: Settings) -> bool:
        """Answers whether checks can be made in somebody's name."""
        if project.is_service:
            return self._ok("session", "Acting as the service; nobody needs to sign in.")
        try:
            me = await jt.auth.resume(renew=False)
        except JamesTronicError as error:
            return self._fail("session", error.message, error.next_step)
        if me is None:
            self._warn(
                "session", "Nobody is signed in: what needs a person is not checked.", "jamestronic login"
            )
            return False
        detail = f"{me.profile.full_name or me.profile_id} is signed in as {me.role}."
        path = kept_session(project).path
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            return self._warn("session", f"{detail} Others can read {path}.", f"chmod 600 {path}")
        if me.role not in set(Role):
            return self._warn(
                "session", f"{detail} This version does not know that role.", "Update the package."
            )
        return self._ok("session", detail)

    # -- live -----------------------------------------------------------------------------------------

    async def _realtime(self, jt: JamesTronic, project: Settings, *, is_somebody: bool) -> None:
        token = topic = None
        try:
            token = await jt.auth.access_token()
        except NotSignedInError:
            pass
        except JamesTronicError as error:
            self._fail("realtime", error.message, error.next_step)
            return
        if is_somebody and jt.auth.is_signed_in:
            me = jt.auth.me
            is_office = me.role in {Role.ADMIN, Role.STAFF}
            topic = OVERVIEW_CHANNEL if is_office else person_topic(me.profile_id)
        probe = RealtimeProbe(project.url, project.key.get_secret_value(), token, self._patience)
        for found in await probe.run(topic):
            self._tell(Check(found.name, State(found.state), found.detail, found.next_step))

    async def _change_log(self, jt: JamesTronic) -> None:
        try:
            digest = await jt.tickets.digest()
            await jt.rpc("sync_tickets", {"cursor": None, "page": 1}, idempotent=True)
        except JamesTronicError as error:
            self._fail("change log", error.message, error.next_step)
        else:
            self._ok(
                "change log", f"sync_tickets and tickets_digest answer; {digest.count} tickets are visible."
            )

    # -- from inside ----------------------------------------------------------------------------------

    async def _database(self, url: str) -> None:
        try:
            problems = await asyncio.to_thread(sql.check, url, timeout=self._patience)
            unprotected, is_published, policies = await asyncio.to_thread(_inside, url, self._patience)
        except SqlError as error:
            self._fail("database", error.message, error.next_step)
            return
        files = ", ".join(f"{file.name[:3]} ({file.checksum[:8]})" for file in sql.files())
        if problems:
            said = "; ".join(f"{one.kind} {one.what} [{one.file}]" for one in problems[:5])
            more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
            self._fail("database", f"Not the SQL of this version: {said}{more}.", _APPLY)
        else:
            self._ok("database", f"The SQL of this version is applied: {files}.")
        if unprotected:
            names = ", ".join(unprotected)
            self._fail("rls", f"Row level security is off for {names}.", "Apply 030_policies.sql again.")
        elif policies:
            self._ok("rls", f"Row level security is on; {policies} policies.")
        else:
            self._fail("rls", "There are no policies.", _APPLY)
        if is_published:
            self._ok("publication", "supabase_realtime carries public.tickets.")
        else:
            self._fail(
                "publication",
                "supabase_realtime does not carry public.tickets: no changes are told.",
                "Apply 040_realtime.sql, or: alter publication supabase_realtime add table public.tickets;",
            )


def _inside(url: str, patience: float) -> tuple[list[str], bool, int]:
    """Tables without row level security, whether tickets are published, and the number of policies."""
    import psycopg  # noqa: PLC0415 - an extra; sql.check was asked before and names it

    try:
        with psycopg.connect(url, connect_timeout=max(2, round(patience))) as connection:
            connection.read_only = True
            unprotected = [str(name) for (name,) in connection.execute(_RLS_OFF)]
            is_published = connection.execute(_PUBLISHED).fetchone() is not None
            (policies,) = connection.execute(_POLICIES).fetchone() or (0,)
    except psycopg.Error as error:
        raise SqlError(
            f"The database can't be read [{error.sqlstate or type(error).__name__}].",
            next_step="Check DATABASE_URL.",
        ) from error
    return unprotected, is_published, int(policies)


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        body: Any = answer.json()
    except ValueError:
        return {}
    return cast("dict[str, Any]", body) if isinstance(body, dict) else {}


def _kind_of_key(project: Settings) -> str:
    secret = project.key.get_secret_value()
    if project.is_service:
        return "a service key"
    return (
        "a publishable key" if secret.startswith("sb_") else f"a legacy key ({claims_of(secret).get('role')})"
    )
