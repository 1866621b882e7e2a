"""A stack whose users' tokens are signed with a key pair: every part takes them, and those of the secret."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest
import pytest_asyncio
from _realtime_client import raw_client
from cryptography.hazmat.primitives.asymmetric import rsa
from local_auth_support import PASSWORD, VERSION, refused
from supabase_auth import AsyncGoTrueClient

from jamestronic_sdk.errors import AuthenticationError
from jamestronic_sdk.local.stack import LocalSupabase
from jamestronic_sdk.local.tokens import SigningKey, make_jwt, verify_jwt

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SECRET = "a-secret-for-tests-that-is-long-enough-for-hs256"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def signing() -> AsyncGenerator[LocalSupabase]:
    """A stack of its own."""
    async with LocalSupabase(port=0, asymmetric=True) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def session(signing: LocalSupabase) -> dict[str, Any]:
    """Somebody who has just signed up."""
    async with httpx.AsyncClient(base_url=signing.url, timeout=30) as http:
        body = {"email": f"{uuid.uuid4().hex}@example.test", "password": PASSWORD}
        response = await http.post("/auth/v1/signup", json=body)
        signed_up: dict[str, Any] = response.json()
        return signed_up


async def test_published_key_verifies_the_token(signing: LocalSupabase, session: dict[str, Any]) -> None:
    """ES256 with the key's id; nothing private is published, nor the secret."""
    async with httpx.AsyncClient(base_url=signing.url) as http:
        response = await http.get("/auth/v1/.well-known/jwks.json")
    [published] = response.json()["keys"]
    header = jwt.get_unverified_header(session["access_token"])
    key = jwt.PyJWK(published)
    claims = jwt.decode(session["access_token"], key, audience="authenticated")

    assert set(published) == {"kty", "crv", "x", "y", "alg", "kid", "use", "key_ops"}
    assert (header["alg"], header["kid"]) == ("ES256", published["kid"])
    assert claims["sub"] == session["user"]["id"]
    assert response.headers["Cache-Control"] == "public, max-age=600"


async def test_stock_client_verifies_by_the_published_key(
    signing: LocalSupabase, session: dict[str, Any]
) -> None:
    """get_claims asks for the keys, not for the user; refreshing goes on."""
    asked: list[str] = []

    async def note(request: httpx.Request) -> None:
        asked.append(request.url.path)

    async with httpx.AsyncClient(event_hooks={"request": [note]}) as http:
        client = AsyncGoTrueClient(
            url=f"{signing.url}/auth/v1",
            headers={"apikey": signing.anon_key},
            auto_refresh_token=False,
            http_client=http,
        )
        found = await client.get_claims(session["access_token"])
        assert found is not None
        assert found["claims"].get("sub") == session["user"]["id"]
        assert asked == ["/auth/v1/.well-known/jwks.json"]
        await client.set_session(session["access_token"], session["refresh_token"])
        refreshed = await client.refresh_session()
        assert refreshed.session is not None


async def test_every_part_takes_both_kinds_of_tokens(signing: LocalSupabase, session: dict[str, Any]) -> None:
    """The data API, Auth and Realtime: the pair's, and the secret's."""
    claims = jwt.decode(session["access_token"], options={"verify_signature": False})
    of_secret = make_jwt(signing.jwt_secret, claims)
    async with httpx.AsyncClient(base_url=signing.url, headers={"apikey": signing.anon_key}) as http:
        for token in (session["access_token"], of_secret):
            authorization = {"Authorization": f"Bearer {token}"}
            rows = await http.get("/rest/v1/profiles?select=user_id", headers=authorization)
            assert [row["user_id"] for row in rows.json()] == [session["user"]["id"]]
            user = await http.get("/auth/v1/user", headers=authorization)
            assert user.json()["id"] == session["user"]["id"]
        service = {"Authorization": f"Bearer {signing.service_role_key}"}
        assert (await http.get("/auth/v1/admin/users", headers=service)).status_code == 200
    async with raw_client(f"{signing.url}/realtime/v1", signing.anon_key) as realtime:
        for ref, token in (("1", session["access_token"]), ("2", of_secret)):
            assert (await realtime.join(f"room-{ref}", token=token, ref=ref))["status"] == "ok"


async def test_token_of_another_pair_is_refused(signing: LocalSupabase, session: dict[str, Any]) -> None:
    """Whatever key it names: the instance's, its own, none."""
    own = signing.context.signing_key
    assert own is not None
    claims = jwt.decode(session["access_token"], options={"verify_signature": False})
    stranger = SigningKey.new()
    forged = [
        make_jwt("x", claims, key=stranger),
        make_jwt("x", claims, key=SigningKey(own.id, stranger.private)),
        jwt.encode(claims, "x" * 32, algorithm="HS256", headers={"kid": own.id}),
        jwt.encode(claims, "", algorithm="none", headers={"kid": own.id}),
    ]
    async with httpx.AsyncClient(base_url=signing.url, headers={"apikey": signing.anon_key}) as http:
        for token in forged:
            headers = {"Authorization": f"Bearer {token}"}
            refused(await http.get("/auth/v1/user", headers=headers | VERSION), 403, "bad_jwt")
            assert (await http.get("/rest/v1/profiles", headers=headers)).status_code == 401


def rsa_key() -> SigningKey:
    return SigningKey("an-rsa-key", rsa.generate_private_key(public_exponent=65537, key_size=2048))


def test_rsa_pair_signs_and_is_published() -> None:
    """RS256, the other kind that projects have: anybody verifies by the published half alone."""
    key = rsa_key()
    token = make_jwt(SECRET, {"sub": "x"}, key=key)

    assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT", "kid": key.id}
    assert set(key.public_jwk) == {"kty", "n", "e", "alg", "kid", "use", "key_ops"}
    assert jwt.decode(token, jwt.PyJWK(key.public_jwk)) == {"sub": "x"}
    forged = jwt.encode({"sub": "x"}, "x" * 32, algorithm="HS256", headers={"kid": key.id})
    with pytest.raises(AuthenticationError):
        verify_jwt(SECRET, forged, key=key)


@pytest.mark.parametrize("key", [SigningKey.new(), rsa_key()], ids=["P-256", "RSA"])
def test_pair_survives_being_written_and_is_in_no_repr(key: SigningKey) -> None:
    """As a JSON Web Key; what is none is a ValueError."""
    read = SigningKey.from_jwk(key.to_jwk())
    token = make_jwt(SECRET, {"sub": "x"}, key=key)

    assert verify_jwt(SECRET, token, key=read) == {"sub": "x"}
    assert "private" not in repr(key)
    with pytest.raises(AuthenticationError):
        verify_jwt(SECRET, token)
    for text in ("", "{}", "[]", '{"kty": "oct", "k": "eA", "kid": "x"}', '{"kty": "EC", "kid": "x"}'):
        with pytest.raises(ValueError, match="not a"):
            SigningKey.from_jwk(text)
