"""A patch level that lacks columns costs no speed: the rows have the same types, and pages are copied directly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pytest
import sqlalchemy as sa

from qupersync_assets.redshift.catalog import missing_columns, narrow_columns
from qupersync_assets.spec import SyncSpec, Variant, select_statement
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets.sync_jobs.query_history import SPEC as QUERIES
from qupersync_assets_tests.support.integration import Materialize, Query

VIEW = "sys_query_history"
COLUMNS = (
    "SELECT v, a.attname, a.atttypid IN (21, 23) FROM unnest(%s) v, pg_catalog.pg_attribute a "
    "WHERE a.attrelid = to_regclass(v) AND a.attnum > 0 AND NOT a.attisdropped"
)
TEXTS = dict.fromkeys(("character varying", "character", "name"), "text")
Missing = set[tuple[str, str]]


def optional_columns(spec: SyncSpec, variant: Variant) -> Missing:
    used = {(view, name) for view, names in variant.used_columns().items() for name in names}
    return {(view, name) for view, name in used - spec.required_columns(variant) if not view.startswith("pg_")}


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.table.name)
def test_the_types_of_the_rows_do_not_depend_on_the_patch_level(source: Query, spec: SyncSpec) -> None:
    catalog: dict[str, dict[str, bool]] = {}
    for view, name, is_narrow in source(COLUMNS, [spec.all_sources]):
        catalog.setdefault(view, {})[name] = is_narrow
    names = ", ".join(f'pg_typeof(x."{c.name}")::text' for c in spec.columns)

    def types(variant: Variant, missing: Missing) -> list[str]:
        present = {
            view: {n: c for n, c in columns.items() if (view, n) not in missing} for view, columns in catalog.items()
        }
        assert missing_columns(spec, variant, present) == missing
        narrow = narrow_columns(variant, present)
        statement = select_statement(spec, variant, missing, narrow=narrow)
        (row,) = source(
            f"SELECT {names} FROM (SELECT 1) one LEFT JOIN (SELECT * FROM ({statement}) s LIMIT 0) x ON true"
        )
        return [TEXTS.get(str(type_), str(type_)) for type_ in row]

    for variant in spec.variants:
        optional = optional_columns(spec, variant)
        assert optional
        whole = types(variant, set())
        for missing in [{column} for column in sorted(optional)] + [optional]:
            assert types(variant, missing) == whole, missing


@pytest.fixture
def merges() -> Iterator[list[str]]:
    """Collect the merge statements."""
    found: list[str] = []

    def listen(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        found.extend([statement] if "merged AS" in statement else [])

    sa.event.listen(sa.Engine, "before_cursor_execute", listen)
    yield found
    sa.event.remove(sa.Engine, "before_cursor_execute", listen)


@pytest.fixture
def queries(source: Query) -> None:
    source(
        "INSERT INTO sys_query_history (user_id, query_id, status, start_time, query_text, result_cache_query_id) "
        "SELECT 100, n, 'success', getdate() - interval '1 hour' + n * interval '1 second', 'q', n "
        "FROM generate_series(1, 40) n"
    )


@contextmanager
def altered(query: Query, changes: list[str], back: list[str]) -> Iterator[None]:
    query("; ".join(changes))
    try:
        yield
    finally:
        query("; ".join(back))


def fast_path(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance) -> tuple[str, list[str]]:
    """Return what the metadata and the log of a sync say about the fast path."""
    (event,) = result.get_asset_materialization_events()
    text = str(event.materialization.metadata["fast_path"].value)
    said = [entry.user_message for entry in instance.all_logs(result.run_id) if "fast path" in entry.user_message]
    return text, said


def test_pages_of_an_old_patch_level_are_copied_directly(
    queries: None,
    materialize: Materialize,
    source: Query,
    target: Query,
    merges: list[str],
    instance: dg.DagsterInstance,
) -> None:
    optional = sorted(name for view, name in optional_columns(QUERIES, QUERIES.variants[0]) if view == VIEW)
    changes = [f"ALTER TABLE {VIEW} RENAME COLUMN {name} TO {name}_new" for name in optional]
    back = [f"ALTER TABLE {VIEW} RENAME COLUMN {name}_new TO {name}" for name in optional]
    with altered(source, changes, back):
        for counts in ((40, 0), (0, 40)):
            result = materialize("query_history")
            assert result.success and (merges, fast_path(result, instance)) == ([], ("on", []))
            log = target("SELECT rows_inserted, rows_unchanged FROM quper.sync_logs ORDER BY id DESC LIMIT 1")
            assert log == [counts]
    assert target("SELECT count(*), count(result_cache_query_id) FROM quper.query_history") == [(40, 0)]


def test_a_column_of_another_type_turns_the_fast_path_off_and_is_named(
    queries: None,
    materialize: Materialize,
    source: Query,
    target: Query,
    merges: list[str],
    instance: dg.DagsterInstance,
) -> None:
    change = "ALTER TABLE {} ALTER COLUMN {} TYPE {}"
    changes, back = [change.format(VIEW, "session_id", "bigint")], [change.format(VIEW, "session_id", "integer")]
    with altered(source, changes, back):
        result = materialize("query_history")
    reason = "session_id is bigint, not integer"
    assert fast_path(result, instance) == (f"off: {reason}", [f"The fast path is off: {reason}"])
    assert merges and target("SELECT count(*) FROM quper.query_history") == [(40,)]


def test_redaction_turns_the_fast_path_off(
    queries: None, materialize: Materialize, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_QUERY_TEXT", "redacted")
    text, said = fast_path(materialize("query_history"), instance)
    assert "SYNC_QUERY_TEXT" in text and len(said) == 1
