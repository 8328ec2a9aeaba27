"""Each statement that a sync can send uses only documented columns of Redshift's views."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest

from qupersync_assets.redshift.catalog import catalog_statement
from qupersync_assets.sandbox.rules.dialect import MODES, Mode
from qupersync_assets.sandbox.rules.strict import State, refusal
from qupersync_assets.spec import ReadMode, SyncSpec, Variant, Window, select_statement
from qupersync_assets.spec.redshift_views import column_types, needs_provisioned, needs_serverless
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support import documented_statements as documented

VARIANTS = pytest.mark.parametrize(
    ("spec", "variant"),
    [(spec, variant) for spec in all_specs() for variant in spec.variants],
    ids=lambda value: value.name if isinstance(value, Variant) else value.sync_job_id,
)
# Midnight in UTC, which is the time zone of all statements.
SINCE = datetime(2026, 11, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
NEW_ROWS = Window(ReadMode.INCREMENTAL, "new rows", SINCE, (1, 2**63 - 1))
OPEN = State(in_transaction=True)
UNITS = {"us": "microseconds", "ms": "milliseconds", "s": "seconds"}
# Catalogs that are only joined to find rows of other catalogs.
HELPERS = {"pg_class", "pg_namespace", "pg_user"}


def statements(spec: SyncSpec, variant: Variant) -> list[str]:
    """Return the statements of a variant for clusters with all columns, without one, and without all optional ones."""
    used = {(view, name) for view, names in variant.used_columns().items() for name in names}
    optional = used - spec.required_columns(variant)
    return [
        select_statement(spec, variant),
        *(select_statement(spec, variant, [column]) for column in sorted(optional)),
        select_statement(spec, variant, optional),
        select_statement(spec, variant, (), NEW_ROWS, include_own_queries=True, narrow=used),
    ]


@VARIANTS
def test_each_column_fits_its_target(spec: SyncSpec, variant: Variant) -> None:
    for statement in statements(spec, variant):
        delivered = documented.delivered(documented.parsed(statement))
        assert list(delivered) == [c.name for c in spec.columns]
        for column in spec.columns:
            type_ = delivered[column.name]
            assert documented.holds(column.type, type_), f"{column.name} {column.type!r} cannot hold {type_}"


@VARIANTS
def test_each_source_column_is_declared(spec: SyncSpec, variant: Variant) -> None:
    read = documented.columns_read(documented.parsed(select_statement(spec, variant)))
    declared = {(view, name) for view, names in variant.used_columns().items() for name in names}
    assert {(view, name) for view, name in read if view not in HELPERS} == declared


@VARIANTS
def test_a_missing_column_is_not_read(spec: SyncSpec, variant: Variant) -> None:
    used = {(view, name) for view, names in variant.used_columns().items() for name in names}
    for column in used - spec.required_columns(variant):
        read = documented.columns_read(documented.parsed(select_statement(spec, variant, [column])))
        assert column not in read and {r for r in read if r[0] not in HELPERS} == used - {column}


@VARIANTS
@pytest.mark.parametrize("mode", MODES)
def test_redshift_accepts_the_statement_where_the_views_exist(spec: SyncSpec, variant: Variant, mode: Mode) -> None:
    expected, where_all = "", "provisioned"
    if any(map(needs_provisioned, variant.sources)):
        expected = {"serverless": "42P01", "multi-az": "42501"}.get(mode, "")
    elif any(map(needs_serverless, variant.sources)):
        expected, where_all = "" if mode == "serverless" else "42P01", "serverless"
    # The syntax does not depend on the mode, and all statements of a variant read the same views.
    for statement in statements(spec, variant)[: None if mode == where_all else 1]:
        found = refusal(f"DECLARE a CURSOR FOR {statement}", mode, OPEN)
        assert (found.sqlstate if found else "") == expected, found


@pytest.mark.parametrize("mode", MODES)
def test_the_catalog_statement_is_accepted_in_all_modes(mode: Mode) -> None:
    views = sorted({view for spec in all_specs() for view in spec.all_sources})
    assert refusal(catalog_statement(views), mode, OPEN) is None
    documented.parsed(catalog_statement(views))


@VARIANTS
def test_an_incremental_read_filters_by_time(spec: SyncSpec, variant: Variant) -> None:
    full, incremental = select_statement(spec, variant), select_statement(spec, variant, (), NEW_ROWS)
    assert (full != incremental) == (spec.kind == "history")
    assert not re.search(r"[{}]", full + incremental)
    assert ("2026-11-01 00:00:00" in incremental) == (spec.kind == "history")


@VARIANTS
def test_a_variant_has_the_columns_of_the_key(spec: SyncSpec, variant: Variant) -> None:
    needed = {base for c in spec.key if c.name != "cluster" for base in c.info.get("generated_from", (c.name,))}
    assert needed <= variant.expressions.keys() <= {c.name for c in spec.columns}
    assert spec.version_column is None or spec.version_column in variant.expressions


@VARIANTS
def test_only_a_history_is_sorted(spec: SyncSpec, variant: Variant) -> None:
    assert (spec.kind == "history") == bool(re.search(r"^ORDER BY ", variant.from_clause, re.MULTILINE))


@VARIANTS
def test_the_name_of_a_duration_ends_in_its_unit(spec: SyncSpec, variant: Variant) -> None:
    delivered = documented.delivered(documented.parsed(select_statement(spec, variant)))
    for name, expression in variant.expressions.items():
        durations = [
            source
            for view, source in variant.located(expression.reads)
            if re.search(r"(^|_)(time|duration)$", source) and documented.is_whole(column_types(view)[source.lower()])
        ]
        if durations and documented.is_whole(delivered[name]):
            unit = name.rpartition("_")[2]
            assert unit in UNITS and UNITS[unit] in str(spec.table.c[name].comment), name
