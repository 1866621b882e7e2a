"""People and tickets to play with: what the demo, the examples and tests begin with.

Promises:
    Everything goes through the same doors as in production: people through Auth's admin API, tickets
    through the data API. Names and addresses are invented.

Never:
    Not for a project that real people use: the passwords are in this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from jamestronic_sdk.client import JamesTronic
from jamestronic_sdk.errors import LocalStackError
from jamestronic_sdk.models import NewTicket, Role, TicketPriority

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["DEMO_PASSWORD", "PEOPLE", "TICKETS", "DemoPerson", "seed"]

DEMO_PASSWORD: Final = "demo-password"  # noqa: S105 - of invented people, on this machine
"""Everybody's."""


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """Somebody to sign in as."""

    email: str
    role: Role
    full_name: str


PEOPLE: Final = (
    DemoPerson("ada@jamestronic.test", Role.ADMIN, "Ada Okafor"),
    DemoPerson("ben@jamestronic.test", Role.TECHNICIAN, "Ben Sørensen"),
    DemoPerson("cleo@jamestronic.test", Role.TECHNICIAN, "Cleo Marín"),
    DemoPerson("customer@jamestronic.test", Role.CUSTOMER, "Dana Whitfield"),
)

TICKETS: Final = (
    ("Washing machine does not drain", "washing machine", "Bosch", "WAN28281", TicketPriority.HIGH),
    ("Fridge is warm, freezer is fine", "fridge", "Liebherr", "CNd 5203", TicketPriority.URGENT),
    ("Oven trips the fuse", "oven", "Neff", "B3CCC0AN0", TicketPriority.HIGH),
    ("Dishwasher leaves salt on glasses", "dishwasher", "Miele", "G 5210 SC", TicketPriority.LOW),
    ("Dryer stops after ten minutes", "dryer", "AEG", "T7DB40570", TicketPriority.NORMAL),
    ("Coffee machine leaks at the group head", "coffee machine", "Rancilio", "Silvia", TicketPriority.NORMAL),
    ("Hob: front left zone stays cold", "hob", "Siemens", "EX675LXC1E", TicketPriority.NORMAL),
    ("Microwave sparks", "microwave", "Panasonic", "NN-CD58", TicketPriority.URGENT),
    ("Vacuum robot does not find its dock", "vacuum robot", "Roborock", "S8", TicketPriority.LOW),
    ("Extractor hood rattles", "extractor hood", "Elica", "Hidden 2.0", TicketPriority.LOW),
    ("Freezer door seal is torn", "freezer", "Gorenje", "FN619", TicketPriority.NORMAL),
    ("Washer-dryer shows E18", "washer-dryer", "Samsung", "WD90T654", TicketPriority.HIGH),
)


async def seed(url: str, service_role_key: str) -> dict[str, UUID]:
    """Create the demo's people and tickets in an empty database.

    Args:
        url: The gateway's address.
        service_role_key: Of the same instance.

    Returns:
        E-mail -> ``profiles.id``.

    Raises:
        LocalStackError: A person could not be created; they may exist already.
        JamesTronicError: The data API refused.
    """
    headers = {"apikey": service_role_key, "Authorization": f"Bearer {service_role_key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        JamesTronic(url, service_role_key, env_file=None) as jt,
    ):
        for person in PEOPLE:
            await _create_person(http, url, person)
        ids = {
            person.email: profile.id
            for profile in await jt.profiles.list()
            for person in PEOPLE
            if profile.full_name == person.full_name
        }
        customer = ids["customer@jamestronic.test"]
        for title, kind, brand, model, priority in TICKETS:
            await jt.tickets.create(
                NewTicket(
                    title=title,
                    appliance_type=kind,
                    appliance_brand=brand,
                    appliance_model=model,
                    priority=priority,
                    customer_id=customer,
                )
            )
    return ids


async def _create_person(http: aiohttp.ClientSession, url: str, person: DemoPerson) -> None:
    body: dict[str, Any] = {
        "email": person.email,
        "password": DEMO_PASSWORD,
        "email_confirm": True,
        "app_metadata": {"role": person.role.value},
        "user_metadata": {"full_name": person.full_name},
    }
    async with http.post(f"{url}/auth/v1/admin/users", json=body) as response:
        if response.status != 200:
            answer = await response.json()
            raise LocalStackError(
                f"The demo person with role {person.role.value} was not created [{answer.get('code')}].",
                next_step="Seed an empty database: jamestronic local start --ephemeral.",
            )
