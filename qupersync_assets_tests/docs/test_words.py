"""The word list: what it finds, and what it leaves alone."""

from __future__ import annotations

import pytest

from tools.check_words import files, findings, is_checked


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("there are no news", "news"),
        ("Whoever reads it", "Whoever"),
        ("def test_a_row_is_told_once", "told"),
        ("if is_left_over:", "left_over"),
        ("a page is read-ahead", "read-ahead"),
        ("class Feed:", "Feed"),
        ("row.read_why", "read_why"),
        ("how often it hurts", "hurts"),
        ("statements beside the week before", "beside the week"),
    ],
)
def test_an_unwanted_word_is_reported_with_its_line(line: str, word: str) -> None:
    (found,) = findings("a.py", f"first\n{line}\n")
    assert found.startswith(f"a.py:2: {word!r}: write instead: ")


@pytest.mark.parametrize(
    "line", ["newsletter", "the largest", "recommend", "health", "copyrights", "feed(data)", "specs_by_name", "untold"]
)
def test_a_word_within_another_is_not_reported(line: str) -> None:
    assert not list(findings("a.py", line))


def test_an_old_name_is_allowed_where_users_need_it() -> None:
    assert not list(findings("CHANGELOG.md", "`read_why` is now `read_mode`"))


def test_all_text_files_are_checked() -> None:
    names = {path.name for path in filter(is_checked, files())}
    expected = {
        "Makefile",
        "README.md",
        "run",
        "values.yaml",
        "redshift.sql",
        "loader.py",
        "test_loader.py",
        "Dockerfile",
    }
    assert names >= expected and not names & {"LICENSE", "lineage.png"}
