"""The blocking face on the local stack: the same work, without an event loop."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from jamestronic_sdk import ConflictError, Role, StoreStatus, TicketAssigned, TicketUnassigned
from jamestronic_sdk.blocking import JamesTronic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from project import Project


@pytest.fixture
def service(project: Project) -> Iterator[JamesTronic]:
    with JamesTronic(project.url, project.service_role_key, env_file=None) as jt:
        yield jt


@contextmanager
def signed_in(project: Project, service: JamesTronic, role: Role, **options: Any) -> Iterator[JamesTronic]:
    """A client of a new person."""
    email, password = f"{role}-{uuid4().hex[:8]}@example.test", uuid4().hex
    service.admin.create_user(email=email, role=role, password=password, full_name=f"A {role}")
    with JamesTronic(project.url, project.anon_key, env_file=None, **options) as jt:
        jt.auth.sign_in(email=email, password=password)
        yield jt


def test_a_day_at_work(project: Project, service: JamesTronic) -> None:
    with (
        signed_in(project, service, Role.ADMIN) as admin,
        signed_in(project, service, Role.TECHNICIAN) as technician,
    ):
        me = technician.auth.me.profile
        with technician.ticket_store() as store:
            events = store.events()
            store.wait_for(lambda seen: seen.status is StoreStatus.LIVE)
            ticket = admin.tickets.create(title="It hums", priority="high")
            assigned = admin.tickets.assign(ticket, me, expected_version=ticket.version)
            assert next(one for one in events if isinstance(one, TicketAssigned)).ticket.id == ticket.id
            with pytest.raises(ConflictError) as caught:
                admin.tickets.unassign(ticket, expected_version=ticket.version)
            assert caught.value.current_version == assigned.version
            technician.tickets.set_status(ticket, "in_progress")
            store.wait_for(lambda seen: seen.tickets[ticket.id].status == "in_progress")
            admin.tickets.unassign(ticket)
            assert next(one for one in events if isinstance(one, TicketUnassigned)).ticket.id == ticket.id
        assert technician.profiles.get(me) == technician.profiles.me
        assert admin.rpc("get_my_role") == "admin"
        assert admin.tickets.query(text=ticket.label).count() == 1
        admin.auth.sign_out()


def test_many_threads_walk_and_command_at_once(project: Project, service: JamesTronic) -> None:
    """8 threads claim 40 tickets: each ticket is somebody's exactly once, and one client carries them all."""
    title = f"batch {uuid4().hex}"
    with (
        signed_in(project, service, Role.ADMIN) as admin,
        signed_in(project, service, Role.TECHNICIAN) as technician,
        ThreadPoolExecutor(8) as executor,
    ):
        made = list(executor.map(lambda _: admin.tickets.create(title=title), range(40)))
        claimed = list(executor.map(technician.tickets.claim, made))
        assert {one.assigned_technician_id for one in claimed} == {technician.auth.me.profile_id}
        walked = [one.id for one in admin.tickets.query(text=title, order="oldest")]
        assert walked == [one.id for one in sorted(claimed, key=lambda one: one.number)]
        assert [len(page) for page in admin.tickets.query(text=title).pages(size=15)] == [15, 15, 10]


def test_a_session_renews_in_the_background(project: Project, service: JamesTronic) -> None:
    told = threading.Event()
    with signed_in(project, service, Role.STAFF) as jt:
        jt.auth.on_token(lambda token: told.set() if token else None)
        old = jt.auth.access_token()
        assert jt.auth.renew(old)
        assert told.wait(10)
        assert jt.tickets.list(limit=1) is not None
