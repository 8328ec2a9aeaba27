"""Secrets that are short or ordinary words, and control characters, in texts and errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qupersync_assets.core import redaction
from qupersync_assets.core.errors import SyncError, message, sync_error
from qupersync_assets.core.redaction import Redacted, escape_controls, redact, redact_exceptions, redacted

ORDINARY = (
    "Reading the database of a cluster at port 5439 failed: password authentication, for example, is off (28P01)."
)
SHORT = ["a", "e", ".", " ", "of", "5439", "test", "fail", "read", "password", "postgres", "redshift"]
QUOTING = [
    "no login with the password '{}'",
    "PASSWORD={}, HOST=x",
    "password: {}",
    'cannot connect with {{"user": "u", "password": "{}"}}',
    "cannot connect with {{'user': 'u', 'password': '{}'}}",
    r"it said \"password\": \"{}\"",
    "postgresql://user:{}@host/db",
    "host=h password={} user=u",
    "host=h password = '{}' user=u",
]


@pytest.fixture
def password(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    value: str = request.param
    monkeypatch.setenv("POSTGRES_PASSWORD", value)
    return value


@pytest.mark.parametrize("password", SHORT, indirect=True)
def test_a_short_password_does_not_show_by_gaps_in_ordinary_texts(password: str) -> None:
    assert redact(ORDINARY) == ORDINARY


@pytest.mark.parametrize(
    "password", ["a", "e", "x", ".", "of", "5439", "test", "ab1", "hunter2", "postgres"], indirect=True
)
@pytest.mark.parametrize("text", QUOTING)
def test_a_short_password_is_hidden_where_a_text_quotes_it(password: str, text: str) -> None:
    assert redact(text.format(password)) == text.format("***")


@pytest.mark.parametrize("password", ["hunter2", "s3cr3t", "Winter-2026-in-Oslo", "correct horse"], indirect=True)
def test_a_password_that_is_no_word_is_hidden_everywhere(password: str) -> None:
    assert redact(f"it was {password} (or {password})") == "it was *** (or ***)"


@pytest.mark.parametrize("password", ["analytics"], indirect=True)
def test_a_password_that_is_also_a_shown_name_is_hidden_in_its_place_only(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_DATABASE", password)
    assert redact("database analytics, password 'analytics'") == "database analytics, password '***'"
    # A password in a wrong variable does not show.
    monkeypatch.setenv("POSTGRES_PASSWORD", "hunter2-of-postgres")
    monkeypatch.setenv("POSTGRES_HOST", "hunter2-of-postgres")
    assert redact("No connection to hunter2-of-postgres:5432") == "No connection to ***:5432"


@pytest.mark.parametrize("password", ["a", "SyncError"], indirect=True)
def test_an_error_keeps_its_class_unless_a_text_of_it_has_the_secret(password: str) -> None:
    error = RuntimeError("a sentence without a secret")
    assert redacted(error) is error
    with pytest.raises(Redacted, match=r"password=\*\*\*") as refusal, redact_exceptions():
        raise ValueError(f"password={password}") from KeyError(f"'{password}'")
    assert f"'{password}'" not in str(refusal.value)


TERMINAL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x00 \u202eevil\u202c"


def test_control_characters_are_shown_as_escapes() -> None:
    assert escape_controls("a\tb\nc") == "a\tb\nc"
    assert escape_controls(TERMINAL) == r"\x1b]0;owned\x07\x1b[2J\x9b31m\r\x00 \u202eevil\u202c"
    for text in (message(RuntimeError(TERMINAL)), redact(TERMINAL), str(redacted(RuntimeError(TERMINAL)))):
        assert "owned" in text and not any(character in text for character in "\x1b\x07\x9b\u202e")


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    shown = escape_controls(text)
    assert escape_controls(shown) == shown
    assert not [c for c in shown if (ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160]


def test_a_sync_error_of_a_server_has_no_control_character() -> None:
    error = sync_error(RuntimeError(TERMINAL), "POSTGRES", "It failed")
    assert isinstance(error, SyncError) and "\x1b" not in str(error) and "owned" in str(error)


def test_learned_secrets_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_learned", {})
    for number in range(redaction.MAX_LEARNED + 1):
        redaction.learn_secret("the-first-password" if number % 2 else f"temporary-password-{number}")
    assert redact("the-first-password, temporary-password-200, temporary-password-2") == "***, ***, ***"
    for number in range(redaction.MAX_LEARNED):
        redaction.learn_secret(f"another-password-{number}")
    assert redact("the-first-password, another-password-0") == "the-first-password, ***"
