"""JSON Web Tokens of a local stack: HS256 with the instance's secret, and ES256 or RS256 by its signing key.

Promises:
    Times in tokens are integers (seconds since 1970), objects are real objects: strict clients read them.

Never:
    No secret and no token in an error.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from jamestronic_sdk.errors import AuthenticationError, SessionExpiredError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["SigningKey", "make_api_keys", "make_jwks", "make_jwt", "pick_key", "verify_jwt"]

ALGORITHM: Final = "HS256"

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

API_KEY_LIFETIME: Final = 10 * 365 * 24 * 3600
"""Seconds; ten years, as the keys that Supabase gives out. They end with the instance anyway."""

API_KEY_ISSUER: Final = "supabase"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair, on P-256 or of RSA: what newer hosted projects sign users' tokens with."""

    id: str
    """The ``kid`` of tokens and of the published key."""
    private: PrivateKey = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        """A fresh pair, on P-256: the kind that hosted projects get."""
        return cls(str(uuid.uuid4()), ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_jwk(cls, text: str) -> Self:
        """The pair of a JSON Web Key, such as ``to_jwk`` and ``supabase gen signing-key`` write.

        Raises:
            ValueError: It is none.
        """
        try:
            members = json.loads(text)
            private = _KEY_TYPES[members["kty"]].from_jwk(members)
            key_id = str(members["kid"])
        except (jwt.PyJWTError, ValueError, KeyError, TypeError) as error:
            raise ValueError("not a JSON Web Key") from error
        match private:
            case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1()) | rsa.RSAPrivateKey():
                return cls(key_id, private)
            case _:
                raise ValueError("not a private key on P-256 or of RSA")

    def to_jwk(self) -> str:
        """The pair as a JSON Web Key: a secret."""
        return json.dumps(self._members(self.private))

    @property
    def algorithm(self) -> str:
        """What tokens say in ``alg``."""
        return "RS256" if isinstance(self.private, rsa.RSAPrivateKey) else "ES256"

    @property
    def public_jwk(self) -> dict[str, Any]:
        """What anybody may know, and verifies with."""
        members = self._members(self.private.public_key())
        return members | {"use": "sig", "key_ops": ["verify"]}

    def _members(self, key: PrivateKey | PublicKey) -> dict[str, Any]:
        if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
            members: dict[str, Any] = RSAAlgorithm.to_jwk(key, as_dict=True)
        else:
            members = ECAlgorithm.to_jwk(key, as_dict=True)
        return members | {"alg": self.algorithm, "kid": self.id}


_KEY_TYPES: Final[dict[str, type[ECAlgorithm | RSAAlgorithm]]] = {"EC": ECAlgorithm, "RSA": RSAAlgorithm}


def make_jwks(secret: str, key: SigningKey) -> str:
    """Everything that PostgREST verifies with, as a JSON Web Key Set: it holds the secret."""
    octets = base64.urlsafe_b64encode(secret.encode()).rstrip(b"=").decode()
    return json.dumps({"keys": [{"kty": "oct", "alg": ALGORITHM, "k": octets}, key.public_jwk]})


def make_jwt(secret: str, claims: Mapping[str, Any], *, key: SigningKey | None = None) -> str:
    """Sign claims.

    Args:
        secret: The instance's secret, 32 characters or more (PostgREST 13 asks for that).
        claims: What the token says; nothing is added.
        key: Signs in place of the secret.
    """
    if key is not None:
        return jwt.encode(dict(claims), key.private, algorithm=key.algorithm, headers={"kid": key.id})
    return jwt.encode(dict(claims), secret, algorithm=ALGORITHM)


def pick_key(secret: str, token: str, key: SigningKey | None) -> tuple[str | PublicKey, str]:
    """What to verify a token with, and by which algorithm: never by the token's word alone.

    Args:
        secret: For every token that does not name the key.
        token: Its header is read, and not yet believed.
        key: For tokens that name it; None when there is none.

    Raises:
        jwt.PyJWTError: The token is malformed.
    """
    if key is not None and jwt.get_unverified_header(token).get("kid") == key.id:
        return key.private.public_key(), key.algorithm
    return secret, ALGORITHM


def verify_jwt(
    secret: str, token: str, *, key: SigningKey | None = None, require: Iterable[str] = ()
) -> dict[str, Any]:
    """The claims of a token whose signature and times (``exp``, ``nbf``) are right.

    Audience and issuer are not looked at: API keys have neither, or another one.

    Args:
        secret: The instance's secret.
        token: Three base64url parts with dots between.
        key: The instance's signing key, if it has one.
        require: Claims that must be there, for example ``("role", "exp")``.

    Raises:
        SessionExpiredError: ``exp`` has passed; code ``bad_jwt``.
        AuthenticationError: Anything else is wrong with it; code ``bad_jwt``.
    """
    try:
        verifier, algorithm = pick_key(secret, token, key)
        return jwt.decode(
            token,
            verifier,
            algorithms=[algorithm],
            options={
                "require": list(require),
                "verify_aud": False,
                "verify_iss": False,
                # The hosted services do not look at these two either.
                "verify_iat": False,
                "verify_jti": False,
            },
        )
    except jwt.ExpiredSignatureError:
        raise SessionExpiredError(
            "token has invalid claims: token is expired", code="bad_jwt", status=403
        ) from None
    except jwt.InvalidSignatureError:
        raise AuthenticationError(
            "token signature is invalid: signature is invalid", code="bad_jwt", status=403
        ) from None
    except jwt.MissingRequiredClaimError as error:
        raise AuthenticationError(
            f"token has invalid claims: {error.claim} is required", code="bad_jwt", status=403
        ) from None
    except jwt.ImmatureSignatureError:
        raise AuthenticationError(
            "token has invalid claims: token is not valid yet", code="bad_jwt", status=403
        ) from None
    except (jwt.PyJWTError, ValueError, RecursionError):
        # PyJWT's texts may quote the token, and hostile tokens raise bare ValueErrors inside of it.
        raise AuthenticationError("token is malformed", code="bad_jwt", status=403) from None


def make_api_keys(secret: str, *, issued_at: int | None = None) -> tuple[str, str]:
    """The legacy API keys of an instance: ``(anon, service_role)``.

    Args:
        secret: The instance's secret.
        issued_at: Seconds since 1970; None means now. Equal arguments give equal keys.
    """
    now = int(time.time()) if issued_at is None else issued_at
    anon, service_role = (
        make_jwt(secret, {"iss": API_KEY_ISSUER, "role": role, "iat": now, "exp": now + API_KEY_LIFETIME})
        for role in ("anon", "service_role")
    )
    return anon, service_role
