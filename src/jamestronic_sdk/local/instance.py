"""One data directory: its secrets, who runs it, and the lock that lets only one run it.

Promises:
    Secrets are made once, by the system's random source, and kept in a file that only its owner reads.
    A lock dies with its holder, so a killed supervisor blocks nobody.

Never:
    No folder is changed that this package did not make; no secret is in a ``repr``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from jamestronic_sdk.errors import AlreadyRunningError, LocalStackError
from jamestronic_sdk.local._folders import barrier
from jamestronic_sdk.local._processes import LOOPBACK, Account, Identity
from jamestronic_sdk.local.context import LocalContext
from jamestronic_sdk.local.tokens import SigningKey, make_api_keys

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["ANYWHERE", "EPHEMERAL_PREFIX", "DataFolder", "Instance", "default_data_dir"]

EPHEMERAL_PREFIX: Final = "jamestronic-ephemeral-"
"""Of a temporary folder's name; who finds one without a living supervisor may remove it."""

ANYWHERE: Final = "0.0.0.0"  # noqa: S104 - compared with, never the default
"""Every address of this machine, loopback included."""

_FORMAT: Final = 1
_ROOT_HOME: Final = Path("/var/lib/jamestronic")


def default_data_dir() -> Path:
    """Where the data of this working directory live.

    An ordinary user has them in ``.jamestronic`` here. Root has them below ``/var/lib/jamestronic``,
    because the user ``nobody``, who then runs PostgreSQL, often can't enter the working directory.
    """
    here = Path.cwd()
    if os.geteuid() != 0:
        return here / ".jamestronic"
    return _ROOT_HOME / hashlib.sha256(os.fsencode(here)).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Instance:
    """What ``instance.json`` holds."""

    jwt_secret: str = field(repr=False)
    anon_key: str = field(repr=False)
    service_role_key: str = field(repr=False)
    publishable_key: str = field(repr=False)
    """Opaque form of ``anon_key``; the gateway translates it."""
    secret_key: str = field(repr=False)
    """Opaque form of ``service_role_key``; the gateway translates it."""
    database_password: str = field(repr=False)
    """Of all login roles."""
    signing_key: str | None = field(default=None, repr=False)
    """JSON Web Key of the pair that signs users' tokens; None = the secret signs them."""
    host: str = LOOPBACK
    """What the gateway listens on, of the last start."""
    port: int | None = None
    """The gateway's, of the last start."""
    database_port: int | None = None
    """PostgreSQL's, of the last start; it is kept when it can be."""
    bootstrap: str | None = None
    """Checksum of the bootstrap files that made the cluster; None until they all ran."""
    is_exposing: bool | None = None
    """Whether new tables in ``public`` are granted to the API roles; None until that was set."""
    applied: dict[str, str] = field(default_factory=dict[str, str])
    """Checksum of each SQL file that was applied last, by name."""
    supervisor: Identity | None = None
    """Who runs it, or ran it last when that was killed."""
    format: int = _FORMAT

    @classmethod
    def new(cls) -> Self:
        """Fresh secrets."""
        jwt_secret = secrets.token_urlsafe(48)
        anon_key, service_role_key = make_api_keys(jwt_secret)
        return cls(
            jwt_secret=jwt_secret,
            anon_key=anon_key,
            service_role_key=service_role_key,
            publishable_key=f"sb_publishable_{secrets.token_urlsafe(24)}",
            secret_key=f"sb_secret_{secrets.token_urlsafe(24)}",
            database_password=secrets.token_hex(24),
        )

    @property
    def url(self) -> str:
        """The gateway's."""
        return f"http://{LOOPBACK if self.host == ANYWHERE else self.host}:{self.port}"

    def context(self) -> LocalContext:
        """Addresses and secrets for the parts of the stack; only once it has ports."""
        return LocalContext(
            url=self.url,
            database_host=LOOPBACK,
            database_port=self.database_port or 0,
            database_password=self.database_password,
            jwt_secret=self.jwt_secret,
            anon_key=self.anon_key,
            service_role_key=self.service_role_key,
            signing_key=None if self.signing_key is None else SigningKey.from_jwk(self.signing_key),
        )

    def environment(self) -> dict[str, str]:
        """The variables for programs that use the stack, by the names that this package reads: secrets."""
        return {
            "SUPABASE_URL": self.url,
            "SUPABASE_ANON_KEY": self.anon_key,
            "SUPABASE_SERVICE_ROLE_KEY": self.service_role_key,
            "SUPABASE_PUBLISHABLE_KEY": self.publishable_key,
            "SUPABASE_SECRET_KEY": self.secret_key,
            "DATABASE_URL": self.context().database_url,
            "JWT_SECRET": self.jwt_secret,
        }

    @property
    def is_running(self) -> bool:
        """Whether its supervisor lives."""
        return self.supervisor is not None and self.supervisor.is_alive()


class DataFolder:
    """The folder of one instance.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path.absolute()
        self.cluster: Final = self.path / "postgres"
        self.logs: Final = self.path / "logs"
        self.postgrest_pid: Final = self.path / "postgrest.pid"
        self._file: Final = self.path / "instance.json"

    def read(self) -> Instance | None:
        """The instance; None when there is none.

        Raises:
            LocalStackError: The file is unreadable.
        """
        try:
            content: Any = json.loads(self._file.read_bytes())
            if content["format"] != _FORMAT:
                raise LocalStackError(
                    f"{self._file} is of another version of this package.",
                    next_step="Use another --data-dir.",
                )
            known = {entry.name for entry in fields(Instance)}
            values = {name: value for name, value in content.items() if name in known}
            values["supervisor"] = Identity.from_json(values.get("supervisor"))
            return Instance(**values)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError:
            raise LocalStackError(
                f"{self._file} belongs to another user.",
                next_step="Use another --data-dir, or be the user who started it.",
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise LocalStackError(f"{self._file} is damaged.", next_step="Use another --data-dir.") from error

    def write(self, instance: Instance) -> None:
        """Replace the file, atomically; only its owner may read it."""
        content = asdict(instance)
        content["supervisor"] = instance.supervisor.to_json() if instance.supervisor else None
        descriptor, name = tempfile.mkstemp(dir=self.path, prefix=".instance-")  # made with mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def update(self, **changes: Any) -> Instance:  # noqa: ANN401 - `replace` checks the names
        """Change some fields; only for the holder of the lock."""
        instance = self.read()
        if instance is None:
            raise LocalStackError(f"{self._file} has vanished.", next_step="Start the local stack again.")
        changed = replace(instance, **changes)
        self.write(changed)
        return changed

    def prepare(self, account: Account | None) -> None:
        """Make the folder when it is not there, and see that it can be used.

        Raises:
            LocalStackError: It holds something else, or PostgreSQL's account can't enter it.
        """
        blocked = barrier(self.path, account)
        if blocked is not None:
            raise LocalStackError(
                f"PostgreSQL, which runs as `nobody` when you are root, can't enter {blocked}.",
                next_step="Choose a folder below one that everybody can enter, with --data-dir.",
            )
        try:
            if not self.path.exists():
                for missing in reversed([folder for folder in self.path.parents if not folder.exists()]):
                    _make_folder(missing, 0o755)
                # `nobody` walks through, and lists nothing.
                _make_folder(self.path, 0o700 if account is None else 0o711)
            elif not self._file.exists() and any(
                entry.name not in {"lock", "logs"} for entry in self.path.iterdir()
            ):
                raise LocalStackError(
                    f"{self.path} is not empty, and not a local stack's.", next_step="Use another --data-dir."
                )
            self.logs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise LocalStackError(
                f"{self.path} can't be used: {os.strerror(error.errno or 0)}.",
                next_step="Use another --data-dir.",
            ) from error

    @contextmanager
    def lock(self) -> Generator[None]:
        """Be the only one who runs the instance.

        Raises:
            AlreadyRunningError: Somebody else is.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._already_running() from None
            yield
        finally:
            os.close(descriptor)

    def _already_running(self) -> AlreadyRunningError:
        where = ""
        with contextlib.suppress(LocalStackError):
            instance = self.read()
            if instance is not None and instance.is_running and instance.supervisor is not None:
                where = f" (process {instance.supervisor.pid}, {instance.url})"
        return AlreadyRunningError(
            f"A local stack already runs on {self.path}{where}.",
            next_step="Stop it with `jamestronic local stop`, or use another --data-dir.",
        )

    def log(self, name: str, *, limit: int = 4 << 20) -> Path:
        """Path of a log file; one that is longer than the limit (bytes) is put aside first."""
        path = self.logs / name
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > limit:
                path.replace(path.with_suffix(".old.log"))
        return path


def _make_folder(path: Path, mode: int) -> None:
    """A new folder with exactly this mode, whatever the umask is."""
    path.mkdir(mode=0o700)
    path.chmod(mode)
