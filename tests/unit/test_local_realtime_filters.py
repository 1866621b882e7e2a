"""The grammar of bindings and filters."""

from __future__ import annotations

from typing import Any

import pytest

from jamestronic_sdk.errors import BadRequestError
from jamestronic_sdk.local.realtime.filters import Filter, binding_id, parse_binding, parse_filters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  ", []),
        ("id=eq.7", [Filter("id", "eq", "7")]),
        ("a=gt.1,b=not.lte.2", [Filter("a", "gt", "1"), Filter("b", "lte", "2", is_negated=True)]),
        ("name=eq.a.b=c", [Filter("name", "eq", "a.b=c")]),
        ('name=eq."a,b"', [Filter("name", "eq", "a,b")]),
        (r'name=eq."say \"hi\", ok"', [Filter("name", "eq", 'say "hi", ok')]),
        ('name=in.(a,b,"c,d"),x=is.null', [Filter("name", "in", '{a,b,"c,d"}'), Filter("x", "is", "null")]),
        ("x=not.is.TRUE", [Filter("x", "is", "true", is_negated=True)]),
        ("name=eq.", [Filter("name", "eq", "")]),
        ("name=in.()", [Filter("name", "in", "{}")]),
        ("name=like.%a_", [Filter("name", "like", "%a_")]),
    ],
)
def test_filters(text: str, expected: list[Filter]) -> None:
    """PostgREST's grammar."""
    assert list(parse_filters(text)) == expected


@pytest.mark.parametrize(
    "text",
    [7, "id", "id=7", "id=eq", "=eq.7", "id=almost.7", "x=is.seven", "x=in.7", "a=eq.1,", "a=not.7"],
)
def test_malformed_filters(text: object) -> None:
    """The message is what the hosted server's begins with."""
    with pytest.raises(BadRequestError, match=r"^Error parsing `filter` params: "):
        parse_filters(text)


def test_in_takes_a_hundred_values() -> None:
    """The hosted service's limit."""
    hundred = ",".join(map(str, range(100)))
    assert parse_filters(f"id=in.({hundred})")
    with pytest.raises(BadRequestError, match="maximum 100"):
        parse_filters(f"id=in.({hundred},100)")


@pytest.mark.parametrize(
    ("binding", "event", "schema", "table"),
    [
        ({"event": "insert", "schema": "public", "table": "t"}, "INSERT", "public", "t"),
        ({"event": "anything", "schema": "public", "table": "t"}, "*", "public", "t"),
        ({"event": "*", "table": "t"}, "*", "public", "t"),
        ({"event": "*", "schema": "public"}, "*", "public", "*"),
        ({"schema": "*", "table": "*"}, "*", "*", "*"),
    ],
)
def test_bindings(binding: dict[str, Any], event: str, schema: str, table: str) -> None:
    """What is absent has a default."""
    parsed = parse_binding(binding)
    assert (parsed.event, parsed.schema, parsed.table) == (event, schema, table)


@pytest.mark.parametrize(
    "binding",
    [
        {},
        {"event": "*"},
        {"schema": "public", "filter": "id=eq.1"},
        {"schema": "public", "table": None},
        {"schema": "public", "table": "t", "filter": None},
        {"schema": "public", "table": "t", "select": "id"},
        {"schema": "public", "table": "t", "select": []},
        {"schema": "public", "table": "*", "select": ["id"]},
    ],
)
def test_bindings_that_make_no_sense(binding: dict[str, Any]) -> None:
    """They are refused in the words of a `system` message."""
    with pytest.raises(BadRequestError):
        parse_binding(binding)


def test_names_are_like_patterns() -> None:
    """As on the hosted service, where it surprises: an underscore is a wildcard."""
    binding = parse_binding({"event": "UPDATE", "schema": "public", "table": "user_list"})
    assert binding.matches("UPDATE", "public", "user_list")
    assert binding.matches("UPDATE", "public", "userXlist")
    assert not binding.matches("UPDATE", "public", "user_lists")
    assert not binding.matches("INSERT", "public", "user_list")
    assert parse_binding({"schema": "public", "table": r"user\_%"}).matches("DELETE", "public", "user_x")
    assert not parse_binding({"schema": "public", "table": r"user\_%"}).matches("DELETE", "public", "users")


def test_ids_are_stable_and_distinct() -> None:
    """Same binding, same id; within the hosted range; never zero."""
    first, second = {"event": "*", "table": "a"}, {"event": "*", "table": "b"}
    assert binding_id(first) == binding_id({"table": "a", "event": "*"})
    assert binding_id(first) != binding_id(second)
    assert 0 < binding_id(first) < 2**27


def test_a_binding_describes_itself_as_the_server_does() -> None:
    """The text is part of `system` messages."""
    binding = parse_binding({"event": "INSERT", "schema": "public", "table": "nope"})
    assert binding.describe() == "[event: INSERT, schema: public, table: nope, filters: [], select: nil]"
