"""Any other table or view, under our token, time-out, retries and errors; reach it as ``jt.table(name)``.

Promises:
    Whatever a value holds (commas, quotes, parentheses, operators), it stays a value.
    Reads are repeated; writes only when nothing was sent, unless the caller says that twice is once.

Never:
    No update and no delete of a whole table: at least one condition must be given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, cast, get_args
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from jamestronic_sdk._filters import quoted
from jamestronic_sdk._inputs import (
    checked_flag,
    checked_int,
    checked_json,
    checked_moment,
    checked_name,
    checked_text,
)
from jamestronic_sdk._paging import count_rows
from jamestronic_sdk._ticket_reads import MAX_PAGE
from jamestronic_sdk.errors import InvalidInputError
from jamestronic_sdk.models import LAZY

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from postgrest import AsyncSelectRequestBuilder
    from supabase import AsyncClient

    from jamestronic_sdk._http import Query, Wire

__all__ = ["Table", "TableOperator"]

TableOperator: TypeAlias = Literal[
    "eq", "neq", "gt", "gte", "lt", "lte", "like", "ilike", "in", "not_in", "is", "is_not"
]
"""How a column is compared. ``in`` and ``not_in`` take several values, ``is`` and ``is_not`` None, True or
False; in ``like`` and ``ilike`` both ``%`` and ``*`` stand for any text."""

TableRow: TypeAlias = dict[str, Any]
"""A row as JSON has it: moments and UUIDs are texts."""

ModelT = TypeVar("ModelT", bound=BaseModel)

_ROWS: Final[TypeAdapter[list[TableRow]]] = TypeAdapter(list[TableRow], config=LAZY)

_NEGATED: Final = {"not_in": "not.in", "is_not": "not.is"}

# Longer addresses are refused by proxies on the way (8 kB is the usual limit of all headers together).
_LONGEST_VALUE: Final = 4000


@dataclass(frozen=True, slots=True)
class _Request:
    """Which rows, in which order."""

    conditions: tuple[tuple[str, str, str], ...] = ()
    """Column, operator and value in PostgREST's words."""
    orders: tuple[tuple[str, bool], ...] = ()
    """Column, and whether it descends."""
    limit: int | None = None


class Table:
    """A table, or those rows of it that ``where`` leaves; each method answers a new one, or asks the server.

    ::

        cheap = jt.table("parts").where("price", "lt", 5).order("name")
        rows = await cheap.limit(10).select("id, name")
        await jt.table("parts").where("id", "eq", part_id).update({"price": 4})
    """

    __slots__ = ("_name", "_request", "_wire")

    def __init__(self, wire: Wire, name: str, request: _Request | None = None) -> None:
        self._wire: Final = wire
        self._name: Final = name
        self._request: Final = request or _Request()

    # -- which rows --------------------------------------------------------------------------------

    def where(self, column: str, operator: TableOperator, value: object) -> Table:
        """Only rows of which a column compares so; several conditions must all hold.

        Args:
            column: A column's name.
            operator: See ``TableOperator``.
            value: A text, number, UUID, date or aware ``datetime``; see ``TableOperator`` for the others.

        Raises:
            InvalidInputError: An argument is malformed.
        """
        name = checked_name(column, "column")
        if operator not in get_args(TableOperator):
            raise InvalidInputError(f"operator must be one of {', '.join(get_args(TableOperator))}.")
        condition = (name, _NEGATED.get(operator, operator), _words(operator, value))
        return self._with(replace(self._request, conditions=(*self._request.conditions, condition)))

    def order(self, column: str, *, descending: bool = False) -> Table:
        """In the order of a column; a second call orders rows that are equal in the first.

        Args:
            column: A column's name.
            descending: The greatest first.

        Raises:
            InvalidInputError: It is no plain name.
        """
        order = (checked_name(column, "column"), checked_flag(descending, "descending"))
        return self._with(replace(self._request, orders=(*self._request.orders, order)))

    def limit(self, rows: int) -> Table:
        """At most so many rows.

        Args:
            rows: 1 to 1000.

        Raises:
            InvalidInputError: It is out of range.
        """
        return self._with(replace(self._request, limit=checked_int(rows, "rows", low=1, high=MAX_PAGE)))

    def _with(self, request: _Request) -> Table:
        return Table(self._wire, self._name, request)

    # -- reads -------------------------------------------------------------------------------------

    async def select(self, columns: str = "*") -> list[TableRow]:
        """The rows, at most as many as ``limit`` or the server's own limit says (1000 on Supabase).

        Args:
            columns: PostgREST's ``select``: names with commas, and related tables with their columns in
                parentheses, for example ``"id, name, maker(name)"``.

        Raises:
            InvalidInputError: ``columns`` is no text.
            SchemaMissingError: There is no such table or column.
            JamesTronicError: See ``errors.py``.
        """
        from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

        wanted = checked_text(columns, "columns", limit=_LONGEST_VALUE)
        return parse(_ROWS, await self._read(wanted), self._operation("select"))

    async def select_as(self, model: type[ModelT]) -> list[ModelT]:
        """The rows, validated.

        Args:
            model: A pydantic model; its fields are columns.

        Raises:
            DataError: A row does not fit.
            JamesTronicError: As ``select``.
        """
        from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

        given = cast("object", model)
        if not isinstance(given, type) or not issubclass(given, BaseModel):
            raise InvalidInputError("model must be a pydantic model.")
        rows: TypeAdapter[list[ModelT]] = TypeAdapter(list[model])  # type: ignore[valid-type]  # known at run time only
        return parse(rows, await self._read("*"), self._operation("select"))

    async def count(self) -> int:
        """How many rows there are, whatever ``limit`` says; counted exactly by the database.

        Raises:
            JamesTronicError: As ``select``.
        """
        return await count_rows(self._wire, self._name, self._narrowed, self._operation("count"))

    # -- writes ------------------------------------------------------------------------------------

    async def insert(
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
        if self._request != _Request():
            raise InvalidInputError("insert takes no conditions, order or limit.")
        if not isinstance(cast("object", rows), Iterable):
            raise InvalidInputError("rows must be a mapping or several.")
        given: Iterable[object] = rows
        if isinstance(rows, Mapping):
            given = (cast("object", rows),)
        made = [checked_json(row, "each row") for row in given]
        if not made:
            raise InvalidInputError("insert needs at least one row.")
        return await self._written(
            lambda raw: raw.table(self._name).insert(made),  # pyright: ignore[reportUnknownMemberType, reportArgumentType] - its JSON alias is recursive
            "insert",
            idempotent=idempotent,
        )

    async def update(self, values: Mapping[str, object], *, idempotent: bool = False) -> list[TableRow]:
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
        changes = checked_json(values, "values")
        if not changes:
            raise InvalidInputError("update needs at least one value.")
        self._require_conditions("update")
        return await self._written(
            lambda raw: self._narrowed(raw.table(self._name).update(changes)),  # pyright: ignore[reportUnknownMemberType, reportArgumentType] - its JSON alias is recursive
            "update",
            idempotent=idempotent,
        )

    async def delete(self, *, idempotent: bool = False) -> list[TableRow]:
        """Remove the rows that ``where`` leaves.

        Args:
            idempotent: As in ``insert``; the rows that a lost answer told are then not among the answer.

        Returns:
            The rows that are gone.

        Raises:
            InvalidInputError: No condition is given.
            JamesTronicError: See ``errors.py``.
        """
        self._require_conditions("delete")
        return await self._written(
            lambda raw: self._narrowed(raw.table(self._name).delete()), "delete", idempotent=idempotent
        )

    # -- inside ------------------------------------------------------------------------------------

    def _operation(self, verb: str) -> str:
        return f"table.{self._name}.{verb}"

    def _require_conditions(self, verb: str) -> None:
        if not self._request.conditions:
            raise InvalidInputError(f"{verb} needs a condition: give where(...) first.")
        if self._request.orders or self._request.limit is not None:
            raise InvalidInputError(f"{verb} takes no order or limit.")

    async def _read(self, columns: str) -> httpx.Response:
        def build(raw: AsyncClient) -> AsyncSelectRequestBuilder:
            query = self._narrowed(raw.table(self._name).select(columns))
            for column, descending in self._request.orders:
                query = query.order(column, desc=descending)
            return query if self._request.limit is None else query.limit(self._request.limit)

        return await self._send(build, "select", idempotent=True)

    async def _written(
        self, build: Callable[[AsyncClient], Query], verb: str, *, idempotent: bool
    ) -> list[TableRow]:
        from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

        return parse(_ROWS, await self._send(build, verb, idempotent=idempotent), self._operation(verb))

    async def _send(
        self, build: Callable[[AsyncClient], Query], verb: str, *, idempotent: bool
    ) -> httpx.Response:
        return await self._wire.send(
            build,
            operation=self._operation(verb),
            target=self._name,
            replayable=checked_flag(idempotent, "idempotent"),
        )

    def _narrowed(self, query: AsyncSelectRequestBuilder) -> AsyncSelectRequestBuilder:
        for column, operator, value in self._request.conditions:
            query = query.filter(column, operator, value)
        return query


def _words(operator: str, value: object) -> str:
    """A value in PostgREST's words."""
    if operator in {"is", "is_not"}:
        if value is not None and not isinstance(value, bool):
            raise InvalidInputError(f"value must be None, True or False for {operator}.")
        return "null" if value is None else str(value).lower()
    if operator in {"in", "not_in"}:
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            raise InvalidInputError(f"value must be several values for {operator}.")
        words = ",".join(quoted(_word(one)) for one in cast("Iterable[object]", value))
        if len(words) > _LONGEST_VALUE:
            raise InvalidInputError(f"value must have at most {_LONGEST_VALUE} characters in all.")
        return f"({words})"
    return _word(value)


def _word(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return str(checked_text(value, "value", limit=_LONGEST_VALUE, may_be_blank=True))
        case int() | UUID():
            return str(value)
        case float() if value == value and abs(value) != float("inf"):  # noqa: PLR0124 - NaN is not itself
            return repr(value)
        case datetime():
            return checked_moment(value, "value").isoformat()
        case date():
            return value.isoformat()
        case None:
            raise InvalidInputError("value must not be None: use the operator is or is_not.")
        case _:
            raise InvalidInputError(f"value must be a plain value, not {type(value).__name__}.")
