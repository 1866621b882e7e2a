"""The SQL files and their export as migrations; no database."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from jamestronic_sdk import errors, sql

NOW = datetime(2026, 11, 22, 14, 30, 59, 999_999, tzinfo=UTC)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two files that stands in for the package's own."""
    folder = tmp_path / "sql"
    folder.mkdir()
    (folder / "010_one.sql").write_text("select 1;\n")
    (folder / "020_two.sql").write_text("select 2;\n")
    monkeypatch.setattr(sql, "_folder", lambda: folder)
    return folder


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_shipped_files_come_in_order_with_true_checksums() -> None:
    """What the package ships is complete, sorted and numbered in equal width."""
    found = sql.files()

    assert sorted(file.name for file in found) == [file.name for file in found]
    assert {"010_schema", "020_functions", "030_policies", "040_realtime", "050_commands"} <= {
        file.stem for file in found
    }
    assert all(re.fullmatch("[0-9a-f]{64}", file.checksum) for file in found)


@pytest.mark.parametrize("file", sql.files(), ids=lambda file: file.stem)
class TestHouseRules:
    """What every shipped file must and must not hold."""

    @staticmethod
    def code(file: sql.SqlFile) -> str:
        """The file without comments and string literals."""
        return re.sub(r"--[^\n]*|'(?:[^']|'')*'", "", file.text)

    def test_first_line_says_what_it_is(self, file: sql.SqlFile) -> None:
        assert file.text.startswith(f"-- {file.stem}: ")

    def test_last_statement_reloads_the_api(self, file: sql.SqlFile) -> None:
        assert file.text.endswith("\nnotify pgrst, 'reload schema';\n")

    def test_keywords_are_lower_case(self, file: sql.SqlFile) -> None:
        upper = re.findall(
            r"\b(SELECT|CREATE|ALTER|GRANT|REVOKE|INSERT|UPDATE|DELETE|BEGIN|END)\b", self.code(file)
        )
        assert upper == []

    def test_the_cli_can_apply_it_in_one_transaction(self, file: sql.SqlFile) -> None:
        """CONCURRENTLY or a transaction statement makes the CLI commit each statement for itself."""
        assert not re.search(
            r"\bconcurrently\b|^\s*(begin|commit|rollback)\s*;", self.code(file), re.MULTILINE
        )

    def test_each_function_fixes_its_search_path_and_loses_public_execute(self, file: sql.SqlFile) -> None:
        created = re.findall(r"create or replace function (\w+\.\w+)\(", file.text)
        headers = re.findall(r"create or replace function (\w+\.\w+)\([^$]*?set search_path = ''", file.text)
        revoked = re.findall(r"revoke all on function (\w+\.\w+)\([^;]*?from public", file.text)
        commented = re.findall(r"comment on function (\w+\.\w+)\(", file.text)
        assert created == headers
        assert created == revoked
        assert created == commented

    def test_each_policy_and_trigger_says_who_calls_it(self, file: sql.SqlFile) -> None:
        """Triggers on tables of Auth can't carry a comment: only the owner of a table may write it."""
        policies = re.findall(r"create policy (\w+) on (\w+\.\w+)", file.text)
        triggers = re.findall(r"create or replace trigger (\w+)[^;]*? on ((?!auth\.)\w+\.\w+)", file.text)
        commented = re.findall(r"comment on (?:policy|trigger) (\w+) on (\w+\.\w+)", file.text)
        assert sorted(policies + triggers) == sorted(commented)

    def test_definer_functions_live_in_private(self, file: sql.SqlFile) -> None:
        definers = re.findall(r"create or replace function (\w+)\.\w+\([^$]*?security definer", file.text)
        assert set(definers) <= {"private"}

    def test_no_serialization_failure_is_raised(self, file: sql.SqlFile) -> None:
        assert not re.search(r"errcode\s*=\s*'40001'|sqlstate\s+'40001'", file.text)


@pytest.mark.usefixtures("source")
def test_first_export_writes_every_file_in_increasing_seconds(tmp_path: Path) -> None:
    """The copies keep the order of the sources."""
    written = sql.export(tmp_path / "deep" / "migrations", now=NOW)

    assert names(written) == ["20261122143059_010_one.sql", "20261122143100_020_two.sql"]
    one = sql.files()[0]
    copy = written[0].read_text()
    assert copy.startswith(f"-- jamestronic_sdk: 010_one.sql sha256:{one.checksum}\nselect 1;\n")
    assert copy == one.migration
    assert f"values ('010_one.sql', '{one.checksum}')" in copy


@pytest.mark.usefixtures("source")
def test_export_of_unchanged_files_writes_nothing(tmp_path: Path) -> None:
    """Twice is once, at whatever time."""
    sql.export(tmp_path / "m", now=NOW)

    assert sql.export(tmp_path / "m", now=NOW + timedelta(days=1)) == []


def test_only_the_changed_file_gets_a_new_copy(tmp_path: Path, source: Path) -> None:
    """Old copies stay: the database's history names them."""
    sql.export(tmp_path / "m", now=NOW)
    (source / "020_two.sql").write_text("select 22;\n")

    assert names(sql.export(tmp_path / "m", now=NOW + timedelta(hours=1))) == ["20261122153059_020_two.sql"]
    assert len(list((tmp_path / "m").iterdir())) == 3


def test_a_file_that_changes_back_is_exported_again(tmp_path: Path, source: Path) -> None:
    """The newest copy counts, not any copy."""
    for n, text in enumerate(("select 2;\n", "select 22;\n", "select 2;\n")):
        (source / "020_two.sql").write_text(text)
        written = sql.export(tmp_path / "m", now=NOW + timedelta(hours=n))
        assert names(written)[-1].endswith("_020_two.sql")


@pytest.mark.usefixtures("source")
def test_new_copies_sort_after_migrations_of_the_future(tmp_path: Path) -> None:
    """The CLI refuses a new file whose number is lower than an applied one."""
    (tmp_path / "20301231235959_app.sql").write_text("select 1;\n")

    assert names(sql.export(tmp_path, now=NOW)) == [
        "20310101000000_010_one.sql",
        "20310101000001_020_two.sql",
    ]


@pytest.mark.usefixtures("source")
def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    """Short numbers and names that the CLI skips do not disturb."""
    (tmp_path / "0001_app.sql").write_text("select 1;\n")
    (tmp_path / "notes.txt").write_text("notes\n")
    (tmp_path / "20260101000000_app.sql").write_bytes(b"\xff\xfe")

    assert len(sql.export(tmp_path, now=NOW)) == 2
    assert (tmp_path / "20260101000000_app.sql").read_bytes() == b"\xff\xfe"


@pytest.mark.usefixtures("source")
def test_local_time_is_converted(tmp_path: Path) -> None:
    """Versions are UTC, wherever the exporting machine stands."""
    berlin_winter = timezone(timedelta(hours=1))

    written = sql.export(tmp_path, now=NOW.astimezone(berlin_winter))

    assert written[0].name.startswith("20261122143059")


@pytest.mark.usefixtures("source")
def test_naive_time_is_refused(tmp_path: Path) -> None:
    """A naive time could be any zone's."""
    with pytest.raises(errors.SqlError, match="time zone"):
        sql.export(tmp_path, now=NOW.replace(tzinfo=None))


@pytest.mark.usefixtures("source")
def test_unwritable_target_is_one_clear_error(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "m").write_text("")

    with pytest.raises(errors.SqlError, match="can't be written"):
        sql.export(tmp_path / "m", now=NOW)


@pytest.mark.usefixtures("source")
def test_a_number_that_is_no_time_stops_the_export(tmp_path: Path) -> None:
    """No version can be found that sorts after it and is a time."""
    (tmp_path / "99999999999999_app.sql").write_text("select 1;\n")

    with pytest.raises(errors.SqlError, match="99999999999999"):
        sql.export(tmp_path, now=NOW)


@pytest.mark.parametrize(
    "name", ["10_short.sql", "0100_long.sql", "030_Upper.sql", "030-dash.sql", "030_.sql"]
)
def test_malformed_name_is_refused(source: Path, name: str) -> None:
    """The order of the files hangs on their names."""
    (source / name).write_text("select 1;\n")

    with pytest.raises(errors.SqlError, match=re.escape(name)):
        sql.files()


def test_two_files_with_one_number_are_refused(source: Path) -> None:
    (source / "020_other.sql").write_text("select 1;\n")

    with pytest.raises(errors.SqlError, match="same number"):
        sql.files()


def test_line_ends_do_not_change_the_checksum(source: Path) -> None:
    """A checkout on another system gives the same migrations."""
    before = sql.files()[0]
    (source / "010_one.sql").write_bytes(b"select 1;\r\n")

    assert sql.files()[0] == before


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff"])
def test_unreadable_file_is_refused(source: Path, content: bytes) -> None:
    (source / "010_one.sql").write_bytes(content)

    with pytest.raises(errors.SqlError, match="010_one"):
        sql.files()


def test_empty_folder_is_refused(source: Path) -> None:
    for file in source.iterdir():
        file.unlink()

    with pytest.raises(errors.SqlError, match="empty"):
        sql.files()


def test_repr_does_not_print_the_file() -> None:
    assert "create" not in repr(sql.files()[0])


def test_the_documentation_names_everything() -> None:
    """docs/sql.md lists each table, function, policy and trigger."""
    page = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()
    created = {
        name
        for file in sql.files()
        for name in re.findall(
            r"create (?:or replace )?(?:table if not exists|function|policy|trigger) (?:\w+\.)?(\w+)",
            file.text,
        )
    }
    documented = set(re.findall(r"\w+", page))

    assert sorted(created - documented) == []
