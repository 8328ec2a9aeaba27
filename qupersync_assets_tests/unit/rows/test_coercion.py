"""Coercion of the columns of each sync job: valid values, invalid values and counts."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from qupersync_assets.rows.coercion import MissingColumn, transform
from qupersync_assets.rows.page import Page
from qupersync_assets.spec import SyncSpec
from qupersync_assets.sync_jobs import all_specs
from qupersync_assets_tests.support.value_strategies import bad, bad_values, good, good_values

SPECS = pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.sync_job_id)
# No shrinking: it takes minutes with so many columns, and other tests check single values.
PROPERTY = settings(max_examples=12, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))


def plain_row(spec: SyncSpec) -> dict[str, Any]:
    """Return a row of values that need no coercion."""
    return {c.name: next(v for v, to_load in good_values(c.type) if v == to_load) for c in spec.columns}


def page(spec: SyncSpec, *rows: dict[str, Any]) -> Page:
    names = tuple(c.name for c in spec.columns)
    return Page(names, [[row[name] for name in names] for row in rows])


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def by_type(spec: SyncSpec) -> list[sa.Column[Any]]:
    """Return one column of each type and nullability, in the key and outside it."""
    return list({(repr(c.type), c.nullable, c.name in spec.key_inputs): c for c in spec.columns}.values())


@SPECS
def test_edge_values_of_each_column_are_loaded_exactly(spec: SyncSpec) -> None:
    names = [c.name for c in spec.columns]
    for column in spec.columns:
        values = good_values(column.type, column.name in spec.key_inputs) + ([(None, None)] if column.nullable else [])
        rows, skipped = transform(spec, page(spec, *(plain_row(spec) | {column.name: v} for v, _ in values)))
        assert not skipped
        for row, (value, to_load) in zip(rows, values, strict=True):
            loaded = dict(zip(names, row, strict=True))[column.name]
            assert same(loaded, to_load), f"{column.name}: {value!r} became {loaded!r}"
            assert not hasattr(to_load, "tzinfo") or loaded.utcoffset().total_seconds() == 0


@SPECS
def test_only_the_row_with_an_invalid_value_is_skipped(spec: SyncSpec) -> None:
    plain = plain_row(spec)
    (plain_loaded,), _ = transform(spec, page(spec, plain))
    for column in spec.columns:
        values = bad_values(column.type, column.name in spec.key_inputs) + ([] if column.nullable else [(None, "NULL")])
        for value, reason in values:
            invalid = plain | {column.name: value}
            rows, skipped = transform(spec, page(spec, plain, invalid, plain))
            assert rows == [plain_loaded, plain_loaded], f"{column.name}: {value!r}"
            assert [(r.column, r.row) for r in skipped] == [(column.name, invalid)]
            assert reason in skipped[0].reason


@SPECS
@PROPERTY
@given(data=st.data())
def test_the_rows_of_any_page_add_up_in_any_order_of_columns(spec: SyncSpec, data: st.DataObject) -> None:
    columns = by_type(spec)
    names = [c.name for c in spec.columns]
    plain = plain_row(spec)
    (plain_loaded,), _ = transform(spec, page(spec, plain))
    rows, loaded, expected_skipped = [], [], []
    for is_good in data.draw(st.lists(st.booleans(), max_size=6)):
        drawn = {c.name: data.draw(good(c, c.name in spec.key_inputs)) for c in columns}
        row = plain | {name: value for name, (value, _) in drawn.items()}
        expected = dict(zip(names, plain_loaded, strict=True)) | {n: to_load for n, (_, to_load) in drawn.items()}
        if is_good:
            loaded.append(tuple(expected.values()))
        else:
            faulty = data.draw(st.lists(st.sampled_from(columns), min_size=1, max_size=2, unique=True))
            row |= {c.name: data.draw(bad(c, c.name in spec.key_inputs))[0] for c in faulty}
            expected_skipped.append((row | {"extra": 1}, {c.name for c in faulty}))
        rows.append(row | {"extra": 1})
    order = data.draw(st.permutations([*names, "extra"]))
    got, skipped = transform(spec, Page(tuple(order), [[row[name] for name in order] for row in rows]))
    assert got == loaded
    assert [r.row for r in skipped] == [row for row, _ in expected_skipped]
    assert all(r.column in faulty for r, (_, faulty) in zip(skipped, expected_skipped, strict=True))
    assert len(rows) == len(got) + len(skipped)


@SPECS
def test_a_missing_column_is_named(spec: SyncSpec) -> None:
    whole = page(spec, plain_row(spec))
    for missing in whole.columns:
        kept = [i for i, name in enumerate(whole.columns) if name != missing]
        less = Page(tuple(whole.columns[i] for i in kept), [[row[i] for i in kept] for row in whole.rows])
        with pytest.raises(MissingColumn, match=rf"\b{missing}$"):
            transform(spec, less)


@SPECS
def test_an_empty_page_has_no_rows(spec: SyncSpec) -> None:
    assert transform(spec, page(spec)) == ([], [])


def test_a_huge_exponent_is_refused_quickly() -> None:
    spec = next(s for s in all_specs() if s.sync_job_id == "node_details_sync")
    started = time.process_time()
    rows, skipped = transform(spec, page(spec, plain_row(spec) | {"used_mb": Decimal("1E+200000")}))
    assert not rows and "range" in skipped[0].reason
    assert time.process_time() - started < 0.5
