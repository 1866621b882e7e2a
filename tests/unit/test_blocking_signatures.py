"""The blocking face says what the async face says."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import jamestronic_sdk
from jamestronic_sdk import blocking

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parent.parent.parent

# What is awaited there and waits here.
RENAMED = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}
# The loop's own side of things: what the store and the watchdog call, not a program.
INTERNAL = {
    "Auth": {"in_own_name", "keep_fresh", "replace_while_locked"},
    "AuthChanges": {"put_nowait", "end"},
    "Stream": {"put", "end"},
}
INTERNAL["EventStream"] = INTERNAL["Stream"] | {"take_all"}
INTERNAL["ChangeStream"] = INTERNAL["Stream"] | {"add"}
# Attributes of instances there, properties here.
DATA = {"EventStream": {"merged"}, "Subscription": {"failures"}}
# Here a callback may block, so it gets a thread and must not be a coroutine function.
OWN_TYPES = {("TicketStore", "subscribe"), ("TicketStore", "wait_for"), ("ChangeStream", "__anext__")}


def names(cls: type[Any]) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")} | {
        name for name in RENAMED.keys() | RENAMED.values() if hasattr(cls, name)
    }


def generator() -> ModuleType:
    path = ROOT / "scripts" / "blocking_parts.py"
    spec = importlib.util.spec_from_file_location("blocking_parts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_written_part_is_up_to_date() -> None:
    """Else: ``python scripts/blocking_parts.py``."""
    scribe = generator()
    assert scribe.formatted(scribe.source()) == scribe.TARGET.read_text()


@pytest.mark.parametrize("name", blocking.__all__)
def test_both_faces_have_the_same_names(name: str) -> None:
    theirs, ours = getattr(jamestronic_sdk, name), getattr(blocking, name)
    internal = INTERNAL.get(name, set())
    expected = {RENAMED.get(one, one) for one in names(theirs) - internal}
    missing = expected - names(ours) - DATA.get(name, set())
    assert not missing
    assert not names(ours) - expected - DATA.get(name, set())


@pytest.mark.parametrize("name", blocking.__all__)
def test_both_faces_take_and_answer_the_same(name: str) -> None:
    theirs, ours = getattr(jamestronic_sdk, name), getattr(blocking, name)
    # `__iter__` comes from collections.abc here.
    for method in sorted(names(theirs) - INTERNAL.get(name, set()) - {"__aiter__"}):
        one = inspect.getattr_static(theirs, method)
        other = inspect.getattr_static(ours, RENAMED.get(method, method), None)
        if isinstance(one, property):
            assert isinstance(other, property), method
            assert plain(one.fget) == plain(other.fget), method
        elif callable(one) or isinstance(one, classmethod):
            left = inspect.signature(getattr(theirs, method))
            right = inspect.signature(getattr(ours, RENAMED.get(method, method)))
            if (name, method) in OWN_TYPES:
                assert list(left.parameters) == list(right.parameters), method
                continue
            assert plain(left) == plain(right), f"{name}.{method}"
            assert not inspect.iscoroutinefunction(other)


@pytest.mark.parametrize("name", ["JamesTronic"])
def test_constructors_take_the_same(name: str) -> None:
    theirs, ours = getattr(jamestronic_sdk, name), getattr(blocking, name)
    left, right = inspect.signature(theirs), inspect.signature(ours)
    assert {key: one.default for key, one in left.parameters.items()} == {
        key: one.default for key, one in right.parameters.items()
    }


@pytest.mark.parametrize("name", blocking.__all__)
def test_every_method_of_the_blocking_face_is_described(name: str) -> None:
    for method in names(getattr(blocking, name)) - RENAMED.keys() - set(RENAMED.values()):
        member = inspect.getattr_static(getattr(blocking, name), method)
        if callable(member) or isinstance(member, property):
            text = inspect.getdoc(member)
            assert text, f"{name}.{method}"
            assert not re.search(r"\bawait |\basync (with|for)\b|aclose", text), f"{name}.{method}"


def test_no_public_part_of_the_async_face_is_forgotten() -> None:
    """Each part that the async client hands out has its counterpart here."""
    for name, member in inspect.getmembers(
        jamestronic_sdk.JamesTronic, lambda one: isinstance(one, property)
    ):
        answer = str(inspect.signature(member.fget).return_annotation).partition("[")[0]
        if answer not in {"Settings", "bool"} and not name.startswith("_"):
            assert answer in blocking.__all__, f"jt.{name}"


def plain(signature: object) -> str:
    """A signature without what must differ: where a name was imported from, and the kind of iterator."""
    text = str(inspect.signature(signature) if inspect.isfunction(signature) else signature)
    return re.sub(r"\b(?:_client|_\w+)\.|\bAsync(?=Itera)|'", "", text)
