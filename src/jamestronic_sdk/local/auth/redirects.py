"""Where links and redirects may lead."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from jamestronic_sdk.local.auth.settings import AuthSettings

__all__ = ["is_allowed", "redirect_target", "with_fragment", "with_query"]

_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?", re.ASCII)


def redirect_target(request: web.Request, settings: AuthSettings) -> str:
    """What the request asks for, else where it comes from, else the site; only what is allowed."""
    asked = request.headers.get("redirect_to") or request.query.get("redirect_to", "")
    for url in (asked, request.headers.get("Referer", "")):
        if is_allowed(url, settings):
            return url
    return settings.site_url


def is_allowed(url: str, settings: AuthSettings) -> bool:
    """The rules of hosted Auth: the site itself, loopback addresses, the patterns."""
    parsed = _split(url)
    site = urlsplit(settings.site_url)
    if not url or parsed is None or any(char in url for char in "\r\n\0"):
        return False
    host = parsed.hostname or ""
    if (host, parsed.scheme) == (site.hostname, site.scheme) and (
        host in _LOOPBACK_NAMES or parsed.port == site.port
    ):
        return True
    if host.isdigit():
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    if parsed.scheme.lower() in {"http", "https"} and _HOST.fullmatch(host) is None:
        return False
    bare = url.partition("#")[0]
    return any(_pattern(pattern).fullmatch(bare) is not None for pattern in settings.allowed_redirects)


def _split(url: str) -> SplitResult | None:
    try:
        parsed = urlsplit(url)
        _ = parsed.port  # raises when it is none
    except ValueError:
        return None
    return parsed


@lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    parts = {"**": ".*", "*": "[^./]*", "?": "[^./]"}
    pieces = re.split(r"(\*\*|\*|\?)", glob)
    return re.compile("".join(parts.get(piece, re.escape(piece)) for piece in pieces), re.DOTALL)


def with_query(url: str, members: Mapping[str, str]) -> str:
    """The URL with these members in its query, in place of those of the same name."""
    parsed = urlsplit(url)
    kept = [
        (name, value)
        for name, value in parse_qsl(parsed.query, keep_blank_values=True)
        if name not in members
    ]
    return urlunsplit(parsed._replace(query=urlencode([*kept, *members.items()])))


def with_fragment(url: str, members: Mapping[str, str]) -> str:
    """The URL with these members as its fragment; ``sb`` says whose they are."""
    return urlunsplit(urlsplit(url)._replace(fragment=urlencode({**members, "sb": ""})))
