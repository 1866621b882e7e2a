"""What people try through the data API and Auth, and what they get: real tokens, real HTTP."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import jwt
import pytest
from sql_support import committed_world, one

from jamestronic_sdk.local.tokens import make_jwt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sql_support import Person, World

    from jamestronic_sdk.local.stack import LocalSupabase

INJECTIONS = (
    "'; drop table public.tickets; --",
    "' or '1'='1",
    "$$; select pg_sleep(10); $$",
    "\\'; delete from public.profiles; --",
    "%s %(name)s {0} %I %L",
    "null",
    "ünïcödé \N{WRENCH} \u202e",
    "<script>alert(1)</script>",
)

PASSWORD = "correct horse battery"


@dataclass(frozen=True, slots=True)
class Api:
    """The data API as somebody."""

    client: httpx.Client

    def get(self, path: str, **parameters: str) -> Any:
        response = self.client.get(path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def refused(self, method: str, path: str, **request: Any) -> tuple[int, str]:
        """Status and code of a request that is not carried out."""
        response = self.client.request(method, path, **request)
        assert response.status_code >= 400, response.text
        return response.status_code, response.json()["code"]


@pytest.fixture(scope="module")
def world(local_supabase: LocalSupabase) -> Iterator[World]:
    with committed_world(local_supabase) as world:
        yield world


@pytest.fixture
def api(local_supabase: LocalSupabase) -> Iterator[Callable[..., Api]]:
    """Make clients: ``api(person, **claims)``."""
    clients = []

    def make(person: Person | None, **claims: object) -> Api:
        headers = {"apikey": local_supabase.anon_key}
        if person is not None:
            token = make_jwt(
                local_supabase.jwt_secret,
                person.claims(exp=int(time.time()) + 600, **claims),
            )
            headers["Authorization"] = f"Bearer {token}"
        clients.append(httpx.Client(base_url=f"{local_supabase.url}/rest/v1/", headers=headers))
        return Api(clients[-1])

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def auth(local_supabase: LocalSupabase) -> Iterator[httpx.Client]:
    headers = {"apikey": local_supabase.anon_key, "X-Supabase-Api-Version": "2024-01-01"}
    with httpx.Client(base_url=f"{local_supabase.url}/auth/v1/", headers=headers) as client:
        yield client


def forget(world: World, user_id: str) -> None:
    world.connection.execute("delete from public.profiles where user_id = %s", [user_id])
    world.connection.execute("delete from auth.users where id = %s", [user_id])
    world.connection.commit()


# --- who am I ------------------------------------------------------------------------------------------


def test_a_role_in_user_metadata_is_nothing(
    world: World, auth: httpx.Client, local_supabase: LocalSupabase
) -> None:
    """Neither at sign-up nor later; a token for it has no such role."""
    email = f"{uuid4()}@example.test"
    signed_up = auth.post(
        "signup", json={"email": email, "password": PASSWORD, "data": {"role": "admin"}}
    ).json()
    user, token = signed_up["user"], signed_up["access_token"]
    try:
        changed = auth.put(
            "user",
            json={"data": {"role": "admin", "app_metadata": {"role": "admin"}}},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert changed.status_code == 200
        again = auth.post(
            "token?grant_type=refresh_token", json={"refresh_token": signed_up["refresh_token"]}
        ).json()
        claims = jwt.decode(
            again["access_token"], local_supabase.jwt_secret, algorithms=["HS256"], audience="authenticated"
        )
        assert claims["app_metadata"]["role"] == "customer"
        with httpx.Client(
            base_url=f"{local_supabase.url}/rest/v1/",
            headers={"apikey": local_supabase.anon_key, "Authorization": f"Bearer {again['access_token']}"},
        ) as client:
            assert client.post("rpc/get_my_role").json() == "customer"
            assert client.get("tickets").json() == []
    finally:
        forget(world, user["id"])


def test_the_profile_decides_and_not_what_the_token_says(world: World, api: Callable[..., Api]) -> None:
    """An old token of a former admin, or one of another issuer's making."""
    customer = api(
        world["customer"], app_metadata={"role": "admin"}, user_metadata={"role": "admin"}, user_role="admin"
    )
    assert customer.client.post("rpc/get_my_role").json() == "customer"
    assert [row["id"] for row in customer.get("tickets", select="id")] == [str(world.tickets["mine"])]


def test_changing_a_role_counts_at_once(world: World, api: Callable[..., Api]) -> None:
    """Not when the token expires: for reads, for writes and back again."""
    admin, staff = api(world["admin"]), api(world["staff2"])
    assert staff.client.get("tickets").json()
    who = {"id": f"eq.{world['staff2'].profile_id}"}
    for change, back in (
        ({"role": "customer"}, {"role": "staff"}),
        ({"is_active": False}, {"is_active": True}),
    ):
        assert admin.client.patch("profiles", params=who, json=change).status_code == 204
        try:
            assert staff.client.get("tickets").json() == []
            assert staff.refused("POST", "tickets", json={"title": "x", "priority": "high"}) == (403, "42501")
            assert staff.refused("POST", "rpc/unassign_ticket", json={"ticket_id": str(uuid4())}) == (
                403,
                "PT403",
            )
        finally:
            assert admin.client.patch("profiles", params=who, json=back).status_code == 204
        assert staff.client.get("tickets").json()


@pytest.mark.parametrize("who", ["customer", "transporter", "technician", "staff"])
@pytest.mark.parametrize("change", [{"role": "admin"}, {"is_active": False}, {"user_id": None}])
def test_nobody_makes_themselves_something_else(
    world: World, api: Callable[..., Api], who: str, change: dict[str, object]
) -> None:
    person = world[who]
    found = api(person).refused("PATCH", "profiles", params={"id": f"eq.{person.profile_id}"}, json=change)

    assert found == (403, "PT403")


def test_a_second_profile_is_not_possible(world: World, api: Callable[..., Api]) -> None:
    body = {"user_id": str(world["customer"].user_id), "role": "admin"}
    assert api(world["customer"]).refused("POST", "profiles", json=body) == (403, "42501")
    assert api(world["admin"]).refused("POST", "profiles", json=body) == (409, "23505")


@pytest.mark.parametrize("sub", ["not-a-uuid", "", "' or true --", str(uuid4())])
def test_a_strange_subject_sees_nothing_and_breaks_nothing(
    world: World, api: Callable[..., Api], sub: str
) -> None:
    """A policy that raised would end Realtime's poll for everybody."""
    somebody = api(world["admin"], sub=sub)
    assert somebody.get("tickets") == []
    assert somebody.get("profiles") == []
    assert somebody.client.post("rpc/get_my_role").json() is None


def test_the_token_tells_the_role_and_a_deactivated_person_has_none(
    world: World, auth: httpx.Client, local_supabase: LocalSupabase
) -> None:
    """The access token hook: called by the real Auth at each token."""
    admin = {
        "apikey": local_supabase.service_role_key,
        "Authorization": f"Bearer {local_supabase.service_role_key}",
    }
    email = f"{uuid4()}@example.test"
    user = auth.post(
        "admin/users",
        json={
            "email": email,
            "password": PASSWORD,
            "email_confirm": True,
            "app_metadata": {"role": "technician"},
        },
        headers=admin,
    ).json()

    def role() -> object:
        answer = auth.post("token?grant_type=password", json={"email": email, "password": PASSWORD}).json()
        claims = jwt.decode(
            answer["access_token"], local_supabase.jwt_secret, algorithms=["HS256"], audience="authenticated"
        )
        return claims["app_metadata"].get("role")

    def change(column: str, value: object) -> None:
        query = f"update public.profiles set {column} = %s where user_id = %s"
        world.connection.execute(query.encode(), [value, user["id"]])
        world.connection.commit()

    try:
        assert role() == "technician"
        change("role", "staff")
        assert role() == "staff"
        change("is_active", value=False)
        assert role() is None
    finally:
        forget(world, user["id"])


# --- columns that are not mine -------------------------------------------------------------------------


@pytest.mark.parametrize("row", ["mine", "pool", "other"])
def test_a_technician_does_not_assign(world: World, api: Callable[..., Api], row: str) -> None:
    """Neither to themselves nor to others; only by claiming."""
    before = one(world.connection, "select version from public.tickets where id = %s", [world.tickets[row]])
    world.connection.rollback()
    for technician in ("technician", "technician2"):
        response = api(world["technician"]).client.patch(
            "tickets",
            params={"id": f"eq.{world.tickets[row]}"},
            json={"assigned_technician_id": str(world[technician].profile_id), "title": "x"},
            headers={"Prefer": "return=representation"},
        )
        if row == "mine":
            assert (response.status_code, response.json()["code"]) == (403, "PT403")
        else:
            assert (response.status_code, response.json()) == (200, [])
    after = one(world.connection, "select version from public.tickets where id = %s", [world.tickets[row]])
    world.connection.rollback()
    assert after == before


@pytest.mark.parametrize("column", ["version", "number", "created_by", "created_at", "updated_at", "id"])
def test_nobody_sets_what_triggers_set(world: World, api: Callable[..., Api], column: str) -> None:
    value = {"id": str(uuid4()), "created_by": str(uuid4())}.get(column, "1")
    value = "2020-01-01T00:00:00Z" if column.endswith("_at") else value
    admin = api(world["admin"])

    found = admin.refused(
        "PATCH", "tickets", params={"id": f"eq.{world.tickets['mine']}"}, json={column: value}
    )
    assert found == ((400, "428C9") if column == "number" else (403, "42501"))


def test_an_upsert_does_not_take_a_ticket_over(world: World, api: Callable[..., Api]) -> None:
    found = api(world["customer"]).refused(
        "POST",
        "tickets",
        json={"id": str(world.tickets["other"]), "title": "mine now"},
        headers={"Prefer": "resolution=merge-duplicates"},
    )
    assert found == (403, "42501")


def test_embedding_does_not_widen_what_is_seen(world: World, api: Callable[..., Api]) -> None:
    """Row level security of the embedded table holds."""
    (ticket,) = api(world["customer"]).get(
        "tickets",
        select="id,technician:profiles!tickets_assigned_technician_id_fkey(full_name,phone),ticket_notes(is_internal)",
    )
    assert ticket["technician"] is None
    assert ticket["ticket_notes"] == [{"is_internal": False}]


# --- rooms that are closed -----------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["anonymous", "customer", "admin", "service"])
@pytest.mark.parametrize("schema", ["private", "auth", "realtime", "pg_catalog"])
def test_other_schemas_are_not_reached(world: World, api: Callable[..., Api], who: str, schema: str) -> None:
    person = None if who == "anonymous" else world[who]
    client = api(person).client
    for method, path in (("GET", "ticket_changes"), ("GET", "users"), ("POST", "rpc/reset_sync")):
        response = client.request(
            method, path, headers={"Accept-Profile": schema, "Content-Profile": schema}, json={}
        )
        assert response.status_code in {404, 406}, response.text


@pytest.mark.parametrize(
    "function",
    ["my_role", "refuse", "sync_changes", "prune_sync", "reset_sync", "may_hear", "private.my_role"],
)
def test_helpers_are_no_functions_of_the_api(world: World, api: Callable[..., Api], function: str) -> None:
    response = api(world["admin"]).client.post(f"rpc/{function}", json={})
    assert response.status_code == 404


@pytest.mark.parametrize("who", ["customer", "admin", "service"])
def test_the_token_hook_is_auths_alone(world: World, api: Callable[..., Api], who: str) -> None:
    found = api(world[who]).refused("POST", "rpc/custom_access_token_hook", json={"event": {}})
    assert found == (403, "42501")


@pytest.mark.parametrize("path", ["tickets", "profiles", "ticket_notes"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_without_a_token_nothing_works(api: Callable[..., Api], path: str, method: str) -> None:
    body = {"json": {"title": "x"}} if method in {"POST", "PATCH"} else {}
    if path != "tickets" and body:
        body = {"json": {"id": str(uuid4())}}
    status, code = api(None).refused(method, path, **body)
    assert (status, code) == (401, "42501")


# --- text ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", INJECTIONS)
def test_sql_in_a_text_stays_a_text(world: World, api: Callable[..., Api], text: str) -> None:
    """In every text that a person can send: stored as it is, or refused as a value."""
    staff, customer = api(world["staff"]), api(world["customer"])
    columns = (
        "title", "description", "appliance_type", "appliance_brand", "appliance_model", "appliance_serial",
        "pickup_address", "delivery_address",
    )  # fmt: skip
    body = dict.fromkeys(columns, text)
    representation = {"Prefer": "return=representation"}
    (ticket,) = staff.client.post("tickets", json=body, headers=representation).json()
    assert {column: ticket[column] for column in columns} == body
    (note,) = staff.client.post(
        "ticket_notes", json={"ticket_id": ticket["id"], "body": text}, headers=representation
    ).json()
    assert note["body"] == text
    me = {"id": f"eq.{world['customer'].profile_id}"}
    (profile,) = customer.client.patch(
        "profiles", params=me, json={"full_name": text}, headers=representation
    ).json()
    assert profile["full_name"] == text

    for column in ("status", "priority"):
        status, code = staff.refused(
            "PATCH", "tickets", params={"id": f"eq.{ticket['id']}"}, json={column: text}
        )
        assert (status, code) in {(400, "23514"), (422, "PT422")}
    arguments = {"ticket_id": ticket["id"], "status": text}
    assert staff.refused("POST", "rpc/set_ticket_status", json=arguments) == (422, "PT422")
    assert staff.client.post("rpc/sync_tickets", json={"cursor": text}).json()["kind"] == "reset"
    assert staff.client.post("rpc/sync_tickets", json={"page": text}).status_code in {400, 404}
    for argument in ("ticket_id", "technician_id", "expected_version", "idempotency_key"):
        arguments = {"ticket_id": ticket["id"], "technician_id": str(uuid4())} | {argument: text}
        status, _ = staff.refused("POST", "rpc/assign_ticket", json=arguments)
        assert status in {400, 404}
    assert customer.client.get("tickets", params={"title": f"eq.{text}"}).json() == []
    assert staff.get("profiles", id=f"eq.{world['customer'].profile_id}")
    staff_delete = staff.client.delete("tickets", params={"id": f"eq.{ticket['id']}"})
    assert staff_delete.status_code == 204
    assert staff.get("tickets", id=f"eq.{ticket['id']}")


# --- commands over HTTP --------------------------------------------------------------------------------


def test_refusals_have_their_http_status(world: World, api: Callable[..., Api]) -> None:
    """And a detail that a program can read."""
    staff, customer, technician = (api(world[name]) for name in ("staff", "customer", "technician"))
    ticket = str(world.tickets["mine"])
    me = str(world["technician"].profile_id)
    assert staff.refused("POST", "rpc/unassign_ticket", json={"ticket_id": str(uuid4())}) == (404, "PT404")
    assert customer.refused("POST", "rpc/unassign_ticket", json={"ticket_id": ticket}) == (403, "PT403")
    assert technician.refused(
        "POST", "rpc/set_ticket_status", json={"ticket_id": ticket, "status": "completed"}
    ) == (422, "PT422")
    taken = str(world.tickets["other"])
    assert technician.refused("POST", "rpc/claim_ticket", json={"ticket_id": taken}) == (409, "PT409")

    stale = staff.client.post(
        "rpc/assign_ticket", json={"ticket_id": ticket, "technician_id": me, "expected_version": 0}
    )
    assert (stale.status_code, stale.json()["code"]) == (409, "PT409")
    detail = json.loads(stale.json()["details"])
    assert detail["reason"] == "version_conflict"
    assert detail["current_version"] > 0


def test_a_command_answers_one_row_as_an_object(world: World, api: Callable[..., Api]) -> None:
    staff = api(world["staff"])
    ticket = str(world.tickets["mine"])
    transporter = str(world["transporter"].profile_id)
    answer = staff.client.post(
        "rpc/schedule_transport",
        json={"ticket_id": ticket, "transporter_id": transporter, "scheduled_at": "2026-12-01T09:00:00Z"},
    ).json()

    assert answer["id"] == ticket
    assert answer == staff.get("tickets", id=f"eq.{ticket}")[0]


def test_reading_functions_are_allowed_in_read_only_requests(world: World, api: Callable[..., Api]) -> None:
    """A GET runs READ ONLY: the delta and the digest write nothing."""
    admin = api(world["admin"])
    assert admin.get("rpc/tickets_digest")["count"] >= len(world.tickets)
    assert admin.get("rpc/sync_tickets", page="2")["more"]
