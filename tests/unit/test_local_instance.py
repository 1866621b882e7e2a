"""The data directory: secrets, lock, and folders of other people."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from jamestronic_sdk.errors import AlreadyRunningError, LocalStackError
from jamestronic_sdk.local._folders import barrier, readable_copy
from jamestronic_sdk.local._processes import Account, Identity
from jamestronic_sdk.local.instance import DataFolder, Instance, default_data_dir

STRANGER = Account(uid=12345, gid=12345)


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "a" / "data")
    folder.prepare(None)
    return folder


def test_an_instance_is_read_as_it_was_written(data: DataFolder) -> None:
    """Only its owner may read it, and it is told in no repr."""
    instance = Instance.new()
    data.write(instance)
    assert data.read() == instance
    assert stat.S_IMODE((data.path / "instance.json").stat().st_mode) == 0o600
    assert [path.name for path in data.path.iterdir() if path.name.startswith(".")] == []
    secrets = (
        instance.jwt_secret,
        instance.database_password,
        instance.secret_key,
        instance.service_role_key,
    )
    assert all(secret not in repr(instance) for secret in secrets)


def test_every_instance_has_its_own_secrets() -> None:
    """Nothing is the same in two of them."""
    one, two = Instance.new(), Instance.new()
    for name in (
        "jwt_secret",
        "anon_key",
        "service_role_key",
        "publishable_key",
        "secret_key",
        "database_password",
    ):
        assert getattr(one, name) != getattr(two, name)


def test_it_runs_while_its_supervisor_lives(data: DataFolder) -> None:
    """A dead one, or another process with its pid, is not running."""
    data.write(Instance.new())
    assert not data.update(supervisor=None).is_running
    assert data.update(supervisor=Identity.current()).is_running
    assert not data.update(supervisor=Identity(os.getpid(), "earlier")).is_running


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}', '{"format": 99}'])
def test_a_damaged_file_is_a_typed_error(data: DataFolder, content: str) -> None:
    """It says what to do; nothing is overwritten."""
    (data.path / "instance.json").write_text(content)
    with pytest.raises(LocalStackError, match="--data-dir"):
        data.read()
    assert (data.path / "instance.json").read_text() == content


def test_one_holder_of_the_lock(data: DataFolder) -> None:
    """The second is refused, with who holds it; afterwards it is free."""
    data.write(Instance.new())
    data.update(supervisor=Identity.current(), port=4711)
    with (
        data.lock(),
        pytest.raises(AlreadyRunningError, match=f"process {os.getpid()}, http://127.0.0.1:4711"),
    ):
        data.lock().__enter__()
    with data.lock():
        pass


def test_the_folder_is_made_for_its_owner(tmp_path: Path) -> None:
    """Closed to all others; for root, PostgreSQL's account may walk through."""
    for account, mode in ((None, 0o700), (Account(os.getuid(), os.getgid()), 0o711)):
        folder = DataFolder(tmp_path / str(mode))
        folder.prepare(account)
        assert stat.S_IMODE(folder.path.stat().st_mode) == mode
        assert stat.S_IMODE(folder.logs.stat().st_mode) == 0o700


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    """A folder with other things in it is refused."""
    (tmp_path / "letter").write_text("hello")
    with pytest.raises(LocalStackError, match="not empty"):
        DataFolder(tmp_path).prepare(None)
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]


def test_a_file_in_the_way_is_a_typed_error(tmp_path: Path) -> None:
    """Not an OSError."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalStackError, match="can't be used"):
        DataFolder(tmp_path / "file" / "data").prepare(None)


def test_the_barrier_is_the_first_closed_folder(tmp_path: Path) -> None:
    """Named, so that the message can say it; there is none for one's own account."""
    closed = tmp_path / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    found = barrier(closed / "inner" / "new", STRANGER)
    assert found is not None
    assert closed.is_relative_to(found)
    assert barrier(closed / "inner", None) is None
    assert barrier(Path("/"), STRANGER) is None


def test_a_long_log_is_put_aside(data: DataFolder) -> None:
    """Logs do not grow for ever."""
    data.log("x.log").write_text("x" * 100)
    assert data.log("x.log", limit=1000).read_text() == "x" * 100
    assert not data.log("x.log", limit=10).exists()
    assert (data.logs / "x.old.log").read_text() == "x" * 100


def test_the_default_folder_depends_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two projects have two stacks; root's is where `nobody` can enter."""
    monkeypatch.chdir(tmp_path)
    one = default_data_dir()
    monkeypatch.chdir("/")
    assert one != default_data_dir()
    if os.geteuid() == 0:
        assert one.is_relative_to("/var/lib/jamestronic")
    else:
        assert one == tmp_path / ".jamestronic"


def test_what_can_be_read_is_not_copied(tmp_path: Path) -> None:
    """A copy is for another account that is locked out."""
    program = tmp_path / "program"
    program.write_text("x")
    assert readable_copy(tmp_path, ["program"], None, label="test") == tmp_path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs programs as somebody else (expected)")
def test_what_cannot_be_read_is_copied_once(tmp_path: Path) -> None:
    """By content, whole, readable for everybody; the original stays as it is."""
    root = tmp_path / "closed"
    (root / "tree" / "bin").mkdir(parents=True)
    program = root / "tree" / "bin" / "program"
    program.write_text(f"{tmp_path}")
    program.chmod(0o700)
    (root / "other").write_text("not asked for")
    root.chmod(0o700)
    parts = ["tree", "missing"]
    copy = readable_copy(root, parts, STRANGER, label="test")
    try:
        assert barrier(copy / "tree" / "bin", STRANGER) is None
        assert stat.S_IMODE((copy / "tree" / "bin" / "program").stat().st_mode) == 0o755
        assert [path.name for path in copy.iterdir()] == ["tree"]
        assert readable_copy(root, parts, STRANGER, label="test") == copy
        assert stat.S_IMODE(root.stat().st_mode) == 0o700
        assert stat.S_IMODE(program.stat().st_mode) == 0o700
    finally:
        shutil.rmtree(copy)
