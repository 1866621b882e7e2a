"""What a ``postgres_changes`` binding asks for: its event, its tables, its filters, its columns.

The grammar is that of PostgREST's filters, ``column=operator.value``, several joined by commas.
The comparison itself is PostgreSQL's: this module only builds the expression.

Promises:
    Pure: text in, dataclasses and SQL out.

Never:
    A value inside the SQL text: values are parameters, names are quoted identifiers.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from psycopg import sql

from jamestronic_sdk.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Binding", "Filter", "binding_id", "parse_binding", "parse_filters", "predicate"]

IN_LIMIT: Final = 100
"""Values of one ``in`` filter: the hosted service's limit."""

_COMPARISONS: Final[dict[str, sql.SQL]] = {
    "eq": sql.SQL("="),
    "neq": sql.SQL("<>"),
    "lt": sql.SQL("<"),
    "lte": sql.SQL("<="),
    "gt": sql.SQL(">"),
    "gte": sql.SQL(">="),
    "like": sql.SQL("~~"),
    "ilike": sql.SQL("~~*"),
    "match": sql.SQL("~"),
    "imatch": sql.SQL("~*"),
    "isdistinct": sql.SQL("is distinct from"),
}

_IS_VALUES: Final[dict[str, sql.SQL]] = {
    "null": sql.SQL("is null"),
    "true": sql.SQL("is true"),
    "false": sql.SQL("is false"),
    "unknown": sql.SQL("is unknown"),
}

_OPERATORS: Final = frozenset({*_COMPARISONS, "in", "is"})


@dataclass(frozen=True, slots=True)
class Filter:
    """One ``column=operator.value``."""

    column: str
    operator: str
    value: str
    """The bare value; for ``in`` a PostgreSQL array literal."""
    is_negated: bool = False

    def describe(self) -> str:
        """As the server's messages write it."""
        operator = f"not.{self.operator}" if self.is_negated else self.operator
        return f"{{{json.dumps(self.column)}, {json.dumps(operator)}, {json.dumps(self.value)}}}"


@dataclass(frozen=True, slots=True)
class Binding:
    """One entry of ``config.postgres_changes``."""

    id: int
    """Stable for equal bindings, 1 to 2^27 - 1."""
    event: str
    """``INSERT``, ``UPDATE``, ``DELETE`` or ``*``."""
    schema: str
    """A LIKE pattern, or ``*``."""
    table: str
    """A LIKE pattern, or ``*``."""
    filters: tuple[Filter, ...] = ()
    select: tuple[str, ...] | None = None
    """Columns wanted besides the primary key; None for all."""

    @property
    def is_wildcard(self) -> bool:
        """Whether it names no single table."""
        return "*" in (self.schema, self.table)

    def matches(self, event: str, schema: str, table: str) -> bool:
        """Whether a change of that kind in that table is asked for, filters aside."""
        return self.event in ("*", event) and _is_like(schema, self.schema) and _is_like(table, self.table)

    def describe(self) -> str:
        """As the server's messages write it."""
        filters = ", ".join(each.describe() for each in self.filters)
        select = "nil" if self.select is None else json.dumps(list(self.select))
        return (
            f"[event: {self.event}, schema: {self.schema}, table: {self.table}, "
            f"filters: [{filters}], select: {select}]"
        )


def _is_like(name: str, pattern: str) -> bool:
    """SQL's LIKE: the hosted server matches names so, and `_` in a table name is its wildcard."""
    if pattern == "*":
        return True
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    expression = "".join(
        ".*" if part == "%" else "." if part == "_" else re.escape(part[-1]) for part in parts
    )
    return re.fullmatch(expression, name, re.DOTALL) is not None


def binding_id(binding: Mapping[str, object]) -> int:
    """A stable id of a binding as sent: 1 to 2^27 - 1, the hosted server's range."""
    text = json.dumps(binding, sort_keys=True, separators=(",", ":"))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (2**27 - 1) + 1


def parse_binding(binding: Mapping[str, Any]) -> Binding:
    """Check one binding as sent by a client.

    Raises:
        BadRequestError: What is asked for makes no sense; the text is for the ``system`` message.
    """
    event = str(binding.get("event") or "*").upper()
    schema, table, filters = binding.get("schema"), binding.get("table"), binding.get("filter")
    has_table = isinstance(table, str) and table != ""
    has_null = any(key in binding and binding[key] is None for key in ("schema", "table", "filter"))
    if has_null or (filters is not None and not has_table) or not (has_table or isinstance(schema, str)):
        raise BadRequestError(
            "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to"
        )
    select = binding.get("select")
    parsed = Binding(
        id=binding_id(binding),
        event=event if event in ("INSERT", "UPDATE", "DELETE") else "*",
        schema=schema if isinstance(schema, str) else "public",
        table=table if has_table and isinstance(table, str) else "*",
        filters=parse_filters(filters) if filters is not None else (),
        select=_parse_select(select) if select is not None else None,
    )
    if parsed.is_wildcard and parsed.select is not None:
        raise BadRequestError("Column selection is not supported for wildcard subscriptions.")
    return parsed


def _parse_select(select: object) -> tuple[str, ...]:
    if isinstance(select, list):
        entries = cast("list[object]", select)
        names = [entry for entry in entries if isinstance(entry, str) and entry]
        if names and len(names) == len(entries):
            return tuple(names)
    raise BadRequestError("Error parsing `select` params: expected a list of column names")


def parse_filters(text: object) -> tuple[Filter, ...]:
    """The filters of a binding; whitespace only means none.

    Raises:
        BadRequestError: The text does not fit the grammar.
    """
    if not isinstance(text, str):
        raise BadRequestError("Error parsing `filter` params: expected a string")
    if not text.strip():
        return ()
    return tuple(_parse_filter(part) for part in _split(text))


def _split(text: str) -> list[str]:
    """Split at commas outside of parentheses and of quotes that open right after ``.``, ``(`` or ``,``."""
    parts: list[str] = []
    start = depth = 0
    is_quoted = is_escaped = False
    for at, char in enumerate(text):
        if is_quoted:
            if is_escaped:
                is_escaped = False
            elif char == "\\":
                is_escaped = True
            elif char == '"':
                is_quoted = False
        elif char == '"' and at > 0 and text[at - 1] in ".(,":
            is_quoted = True
        elif char == "(":
            depth += 1
        elif char == ")":
            depth = max(0, depth - 1)
        elif char == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _parse_filter(text: str) -> Filter:
    column, equals, rest = text.partition("=")
    is_negated = rest.startswith("not.")
    operator, dot, value = rest.removeprefix("not.").partition(".")
    column = column.strip()
    if not (column and equals and dot) or operator not in _OPERATORS:
        raise BadRequestError(f"Error parsing `filter` params: {json.dumps(text)}")
    match operator:
        case "in":
            value = _parse_in(text, value)
        case "is":
            value = value.lower()
            if value not in _IS_VALUES:
                raise BadRequestError(f"Error parsing `filter` params: {json.dumps(text)}")
        case _:
            value = _unquote(value)
    return Filter(column, operator, value, is_negated)


def _parse_in(text: str, value: str) -> str:
    """An array literal from ``(a,b,"c,d")``: array quoting rules apply to what is inside."""
    if not (value.startswith("(") and value.endswith(")")):
        raise BadRequestError(f"Error parsing `filter` params: {json.dumps(text)}")
    inside = value[1:-1]
    if inside.strip() and len(_split(f",{inside}")) - 1 > IN_LIMIT:
        raise BadRequestError(f"Error parsing `filter` params: too many values for `in`, maximum {IN_LIMIT}")
    return f"{{{inside}}}"


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
    return value


def predicate(
    each: Filter, column: sql.Composable, type_name: sql.Composable
) -> tuple[sql.Composed, list[str]]:
    """The filter as an SQL expression that is never null, and its parameters.

    Args:
        each: The filter.
        column: An expression of text, cast to the type here.
        type_name: The column's type.
    """
    parameters: list[str] = []
    if each.operator == "is":
        test = sql.SQL("{} {}").format(_cast(column, type_name), _IS_VALUES[each.value])
    elif each.operator == "in":
        test = sql.SQL("{} = any (%s::text::{}[])").format(_cast(column, type_name), type_name)
        parameters.append(each.value)
    else:
        operator = _COMPARISONS[each.operator]
        test = sql.SQL("{} {} %s::text::{}").format(_cast(column, type_name), operator, type_name)
        parameters.append(each.value)
    negation = sql.SQL("not ") if each.is_negated else sql.SQL("")
    return sql.SQL("coalesce({}({}), false)").format(negation, test), parameters


def _cast(column: sql.Composable, type_name: sql.Composable) -> sql.Composed:
    return sql.SQL("{}::{}").format(column, type_name)
