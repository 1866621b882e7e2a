"""The tables: constraints by name, what triggers set, and what happens to tickets when people go."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sql_support import SERVICE, acting, be_owner, become, connect, new_ticket, new_world, one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sql_support import Connection, Row, World

    from jamestronic_sdk.local.stack import LocalSupabase


@pytest.fixture
def world(local_supabase: LocalSupabase) -> Iterator[World]:
    with connect(local_supabase) as connection:
        yield new_world(connection)
        connection.rollback()


def new_user(
    connection: Connection, app: object = None, user: object = None, phone: str | None = None
) -> UUID:
    """What Auth inserts; Auth's own role does it."""
    id_ = uuid4()
    connection.execute("set local role supabase_auth_admin")
    connection.execute(
        "insert into auth.users (id, email, phone, raw_app_meta_data, raw_user_meta_data)"
        " values (%s, %s, %s, %s, %s)",
        [id_, f"{id_}@example.test", phone, json.dumps(app), json.dumps(user)],
    )
    return id_


def profile_of(connection: Connection, user: UUID) -> Row:
    be_owner(connection)
    return one(connection, "select * from public.profiles where user_id = %s", [user])


# --- a new user ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("app", "role"),
    [
        (None, "customer"),
        ({}, "customer"),
        ({"role": "technician"}, "technician"),
        ({"role": "admin"}, "admin"),
        ({"role": "king"}, "customer"),
        ({"role": ""}, "customer"),
        ({"role": None}, "customer"),
        ({"role": ["admin"]}, "customer"),
        (["role", "admin"], "customer"),
        ("admin", "customer"),
    ],
)
def test_a_new_user_gets_a_profile(world: World, app: object, role: str) -> None:
    """The role is what the admin API says, when it is one."""
    user = new_user(world.connection, app, {"full_name": "Ada", "role": "admin"})

    profile = profile_of(world.connection, user)
    assert (profile["role"], profile["full_name"], profile["is_active"]) == (role, "Ada", True)


def test_auth_says_the_role_in_a_second_statement(world: World) -> None:
    """GoTrue's admin API inserts the user first and writes its app_metadata after."""
    user = new_user(world.connection, {"provider": "email"})
    for app, role in (
        ({"provider": "email", "role": "technician"}, "technician"),
        ({"provider": "email", "role": "technician", "more": 1}, "technician"),
        ({"provider": "email"}, "technician"),
    ):
        world.connection.execute("set local role supabase_auth_admin")
        world.connection.execute(
            "update auth.users set raw_app_meta_data = %s where id = %s", [json.dumps(app), user]
        )
        assert profile_of(world.connection, user)["role"] == role


def test_an_admins_change_outlives_later_writes_of_auth(world: World) -> None:
    """Only a change of the role in app_metadata changes the profile, not each sign-in."""
    user = new_user(world.connection, {"role": "technician"})
    be_owner(world.connection)
    world.connection.execute("update public.profiles set role = 'staff' where user_id = %s", [user])
    world.connection.execute("set local role supabase_auth_admin")
    world.connection.execute(
        "update auth.users set raw_app_meta_data = raw_app_meta_data || '{\"last\": 1}' where id = %s", [user]
    )

    assert profile_of(world.connection, user)["role"] == "staff"


@pytest.mark.parametrize(
    ("user", "phone", "name", "kept"),
    [
        ({"full_name": "x" * 5000}, "+1" * 50, "x" * 200, ("+1" * 50)[:32]),
        ({"full_name": None}, "", "", None),
        ({"full_name": {"a": 1}}, None, '{"a": 1}', None),
        ([1], None, "", None),
    ],
)
def test_sign_up_never_fails_for_what_a_person_says(
    world: World, user: object, phone: str | None, name: str, kept: str | None
) -> None:
    """An error in the trigger would be a 500 at sign-up."""
    found = profile_of(world.connection, new_user(world.connection, {}, user, phone))

    assert (found["full_name"], found["phone"]) == (name, kept)


# --- people who go -------------------------------------------------------------------------------------


def test_a_deleted_user_leaves_an_inactive_profile(world: World) -> None:
    technician = world["technician"]
    world.connection.execute("set local role supabase_auth_admin")
    world.connection.execute("delete from auth.users where id = %s", [technician.user_id])
    be_owner(world.connection)

    row = one(
        world.connection,
        "select user_id, is_active from public.profiles where id = %s",
        [technician.profile_id],
    )
    assert row == {"user_id": None, "is_active": False}


def test_an_erased_customer_leaves_the_ticket(world: World) -> None:
    """With a higher version, so that every view learns of it."""
    before = one(
        world.connection, "select version from public.tickets where id = %s", [world.tickets["mine"]]
    )
    with acting(world.connection, world["admin"]):
        world.connection.execute("delete from public.profiles where id = %s", [world["customer"].profile_id])
        row = one(
            world.connection,
            "select customer_id, version from public.tickets where id = %s",
            [world.tickets["mine"]],
        )
    assert row["customer_id"] is None
    assert row["version"] > before["version"]


@pytest.mark.parametrize("who", ["technician", "transporter"])
def test_who_holds_a_ticket_is_deactivated_and_not_deleted(world: World, who: str) -> None:
    with acting(world.connection, world["admin"]), pytest.raises(psycopg.errors.ForeignKeyViolation):
        world.connection.execute("delete from public.profiles where id = %s", [world[who].profile_id])


def test_an_erased_author_is_forgotten(world: World) -> None:
    with acting(world.connection, world["staff"]):
        ticket = one(world.connection, "insert into public.tickets (title) values ('x') returning *")
        assert ticket["created_by"] == world["staff"].profile_id
        be_owner(world.connection)
        world.connection.execute("delete from public.profiles where id = %s", [world["staff"].profile_id])
        row = one(world.connection, "select created_by from public.tickets where id = %s", [ticket["id"]])
        assert row["created_by"] is None


# --- what triggers set ---------------------------------------------------------------------------------


def test_even_the_service_does_not_set_what_triggers_set(world: World) -> None:
    ticket = world.tickets["mine"]
    with acting(world.connection, SERVICE):
        before = one(world.connection, "select * from public.tickets where id = %s", [ticket])
        world.connection.execute(
            "update public.tickets set version = 1, created_at = 'epoch', updated_at = 'epoch',"
            " created_by = %s, id = %s where id = %s",
            [world["admin"].profile_id, uuid4(), ticket],
        )
        after = one(world.connection, "select * from public.tickets where id = %s", [ticket])
    assert after["version"] > before["version"]
    assert after["updated_at"] > before["updated_at"]
    assert (after["created_at"], after["created_by"]) == (before["created_at"], before["created_by"])


def test_a_customer_owns_the_ticket_that_they_open(world: World) -> None:
    with acting(world.connection, world["customer"]):
        row = one(world.connection, "insert into public.tickets (title) values ('x') returning *")
    assert row["customer_id"] == row["created_by"] == world["customer"].profile_id
    assert (row["status"], row["priority"]) == ("open", "normal")


def test_a_customer_changes_nothing_once_work_has_begun(world: World) -> None:
    with acting(world.connection, world["technician"]):
        world.connection.execute(
            "select public.set_ticket_status(%s, 'in_progress')", [world.tickets["mine"]]
        )
        become(world.connection, world["customer"])
        with pytest.raises(psycopg.Error, match="work has begun"):
            world.connection.execute(
                "update public.tickets set title = 'x' where id = %s", [world.tickets["mine"]]
            )


def test_a_note_belongs_to_who_wrote_it(world: World) -> None:
    with acting(world.connection, world["technician"]):
        row = one(
            world.connection,
            "insert into public.ticket_notes (ticket_id, body) values (%s, 'x') returning *",
            [world.tickets["mine"]],
        )
    assert row["author_id"] == world["technician"].profile_id


def test_numbers_are_for_people(world: World) -> None:
    first, second = (
        one(
            world.connection,
            "select number from public.tickets where id = %s",
            [new_ticket(world.connection)],
        )
        for _ in range(2)
    )
    assert second["number"] == first["number"] + 1 > 1001


# --- constraints ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "constraint"),
    [
        ("title", "", "tickets_title_length"),
        ("title", " \t\n", "tickets_title_length"),
        ("title", "x" * 201, "tickets_title_length"),
        ("description", "x" * 10_001, "tickets_description_length"),
        ("status", "done", "tickets_status_known"),
        ("status", "in_progress", "tickets_status_has_technician"),
        ("priority", "later", "tickets_priority_known"),
        ("appliance_type", "x" * 101, "tickets_appliance_type_length"),
        ("appliance_brand", "x" * 101, "tickets_appliance_brand_length"),
        ("appliance_model", "x" * 101, "tickets_appliance_model_length"),
        ("appliance_serial", "x" * 101, "tickets_appliance_serial_length"),
        ("pickup_address", "x" * 501, "tickets_pickup_address_length"),
        ("delivery_address", "x" * 501, "tickets_delivery_address_length"),
        ("customer_id", UUID(int=1), "tickets_customer_id_fkey"),
    ],
)
def test_checks_have_names(world: World, column: str, value: Any, constraint: str) -> None:
    with pytest.raises(psycopg.errors.IntegrityError) as refused:
        new_ticket(world.connection, **{column: value})
    assert refused.value.diag.constraint_name == constraint


@pytest.mark.parametrize(
    ("table", "column", "value", "constraint"),
    [
        ("profiles", "role", "king", "profiles_role_known"),
        ("profiles", "full_name", "x" * 201, "profiles_full_name_length"),
        ("profiles", "phone", "", "profiles_phone_length"),
        ("profiles", "phone", "1" * 33, "profiles_phone_length"),
        ("profiles", "user_id", UUID(int=1), "profiles_user_id_fkey"),
        ("ticket_notes", "body", " ", "ticket_notes_body_length"),
        ("ticket_notes", "body", "x" * 10_001, "ticket_notes_body_length"),
    ],
)
def test_checks_of_the_other_tables_have_names(
    world: World, table: str, column: str, value: Any, constraint: str
) -> None:
    with pytest.raises(psycopg.errors.IntegrityError) as refused:
        world.connection.execute(
            f"update public.{table} set {column} = %s"
            f" where id = (select id from public.{table} order by created_at limit 1)".encode(),
            [value],
        )
    assert refused.value.diag.constraint_name == constraint


def test_realtime_sends_the_table_and_only_its_key_of_old_rows(local_supabase: LocalSupabase) -> None:
    """Full replica identity would hand old values to people who come to see the row by an update."""
    with connect(local_supabase) as connection:
        row = one(
            connection,
            "select relreplident::text as identity, array(select tablename::text from pg_publication_tables"
            " where pubname = 'supabase_realtime' and schemaname = 'public') as published"
            " from pg_class where oid = 'public.tickets'::regclass",
        )
    assert (row["identity"], "tickets" in row["published"]) == ("d", True)
