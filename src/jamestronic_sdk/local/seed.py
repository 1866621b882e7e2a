"""People and tickets to play with: what the demo, the examples and tests begin with.

Promises:
    Everything goes through the same doors as in production: people through Auth's admin API, tickets
    through the data API. Names and addresses are invented.

Never:
    Not for a project that real people use: the passwords are in this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jamestronic_sdk.client import JamesTronic
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
    DemoPerson("theo@jamestronic.test", Role.TRANSPORTER, "Theo Lindqvist"),
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
        ConflictError: A person exists already: the database was seeded before.
        JamesTronicError: Auth or the data API refused.
    """
    ids: dict[str, UUID] = {}
    async with JamesTronic(url, service_role_key, env_file=None) as jt:
        for person in PEOPLE:
            profile = await jt.admin.create_user(
                email=person.email,
                password=DEMO_PASSWORD,
                role=person.role,
                full_name=person.full_name,
            )
            ids[person.email] = profile.id
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
