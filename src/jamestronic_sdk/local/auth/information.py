"""Endpoints that tell about the server itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from jamestronic_sdk.local.auth.grants import AuthServer

__all__ = ["OFF_PROVIDERS", "health", "jwks", "settings"]

GOTRUE_VERSION: Final = "v2.197.0"
"""The hosted Auth whose API this one follows; clients may read it."""

OFF_PROVIDERS: Final = (
    "apple",
    "azure",
    "bitbucket",
    "discord",
    "facebook",
    "figma",
    "fly",
    "github",
    "gitlab",
    "google",
    "kakao",
    "keycloak",
    "linkedin",
    "linkedin_oidc",
    "notion",
    "slack",
    "slack_oidc",
    "snapchat",
    "spotify",
    "twitch",
    "twitter",
    "workos",
    "zoom",
)


async def health(_request: web.Request, _server: AuthServer) -> web.Response:
    """``GET /health``."""
    return web.json_response(
        {
            "version": GOTRUE_VERSION,
            "name": "GoTrue",
            "description": "Auth of a local development stack, with the API of GoTrue",
        }
    )


async def settings(_request: web.Request, server: AuthServer) -> web.Response:
    """``GET /settings``: what a sign-in form needs to know."""
    chosen = server.settings
    return web.json_response(
        {
            "external": {
                "anonymous_users": chosen.is_anonymous_enabled,
                "email": chosen.is_email_enabled,
                "phone": chosen.is_phone_enabled,
                **dict.fromkeys(OFF_PROVIDERS, False),
                **dict.fromkeys(chosen.local_providers, True),
            },
            "disable_signup": not chosen.is_signup_enabled,
            "mailer_autoconfirm": chosen.is_email_autoconfirmed,
            "phone_autoconfirm": chosen.is_phone_autoconfirmed,
            "sms_provider": "",
            "saml_enabled": False,
            "passkeys_enabled": False,
        }
    )


async def jwks(_request: web.Request, server: AuthServer) -> web.Response:
    """``GET /.well-known/jwks.json``: the signing key's public half; the secret is in no list."""
    key = server.context.signing_key
    keys = [] if key is None else [key.public_jwk]
    return web.json_response({"keys": keys}, headers={"Cache-Control": "public, max-age=600"})
