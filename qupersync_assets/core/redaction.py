"""Replaces secrets in texts and exceptions before they are stored or shown."""

import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from itertools import groupby
from urllib.parse import unquote, urlsplit

# Suffixes of the environment variables that hold secrets (of the settings, boto3 and libpq), or URLs with a password.
SECRET_SUFFIXES = ("_PASSWORD", "_ACCESS_KEY_ID", "_SECRET_ACCESS_KEY", "_SESSION_TOKEN", "PGPASSWORD", "ALERT_URLS")
URL_SUFFIXES = ("_BROKER_URL", "_BACKEND_URL")

# The other variables of the settings, whose values are shown.
SHOWN_PREFIXES = ("REDSHIFT_", "POSTGRES_", "CLUSTER", "SYNC_", "UI_")

# Secrets from AWS, which are in no variable; the newest are last. Temporary ones expire.
_learned: dict[str, None] = {}
MAX_LEARNED = 200
# Secrets of settings that were not read from the environment.
_kept: set[str] = set()


def keep_secret(secret: str) -> None:
    """Register a secret, or a text of URLs with secrets, for as long as the process lives."""
    _kept.update({secret, *(_secret_parts(secret) if "://" in secret else ())})


def learn_secret(secret: str | None) -> None:
    """Register a secret that is not in the environment; the last MAX_LEARNED are kept."""
    if secret:
        _learned.pop(secret, None)
        _learned[secret] = None
        for expired in [*_learned][:-MAX_LEARNED]:
            _learned.pop(expired, None)


def redact(text: str) -> str:
    """Replace each secret in a text by ***, also if it is escaped, and show control characters as escapes.

    A short secret, or one that is an ordinary word, is replaced only where a text has a value: between quotes, after
    the name of a password, and in the login of a URL. Elsewhere the gaps in ordinary words would spell it.
    """
    secrets = {value for name, value in os.environ.items() if name.endswith(SECRET_SUFFIXES) and value}
    secrets |= {_password(value) for name, value in os.environ.items() if name.endswith(URL_SUFFIXES)} - {""}
    secrets |= _secret_parts(os.environ.get("ALERT_URLS", ""))
    shown = _shown_values()
    for secret in sorted({*secrets, *_kept, *_learned}, key=len, reverse=True):
        text = _pattern(secret, secret in shown).sub(r"\g<before>***", text)
    return escape_controls(text)


def _shown_values() -> set[str]:
    """Return the values of variables that messages show, such as the name of a database."""
    secret = (*SECRET_SUFFIXES, *URL_SUFFIXES)
    return {v for n, v in os.environ.items() if n.startswith(SHOWN_PREFIXES) and not n.endswith(secret)}


# Characters that a terminal executes, and those that change the direction of the text around them.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def escape_controls(text: str) -> str:
    r"""Show each control character but tab and line feed as an escape such as \x1b, so that no terminal executes it."""
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


def _password(url: str) -> str:
    """Return the password in a URL, "" without one."""
    try:
        return unquote(urlsplit(url).password or "")
    except ValueError:  # for example an unbalanced bracket
        return url


def split_urls(text: str) -> list[str]:
    """Return the URLs of a text; white space separates them, or a comma that is not part of a list in a URL."""
    return [url for url in re.split(r"\s+|,+(?=\s|$|[A-Za-z][A-Za-z0-9]*://)", text) if url]


# Letters and digits, or many small and capital letters. Shorter and plainer words are in ordinary texts too.
_RANDOM = re.compile(r"(?=.*[A-Za-z])(?=.*\d).{8,}|(?=.*[a-z])(?=.*[A-Z])\w{16,}")
# Words that are shorter, or one of these, are in ordinary texts too.
_SHORT = 8
_ORDINARY = {"password", "postgres", "postgresql", "qupersync", "redshift", "warehouse", "database", "localhost"}
# At least four characters, among them a letter and a digit or a sign: no word.
_CODE = re.compile(r"(?=.*[A-Za-z])(?=.*[^A-Za-z\s]).{4,}", re.DOTALL)


@cache
def _secret_parts(urls: str) -> frozenset[str]:
    """Return what may be secret in Apprise URLs: each URL, its password, its path, and each word that looks
    random, because services take their tokens as host, user, path or parameter."""
    secrets: set[str] = set()
    for url in split_urls(urls):
        rest = url.partition("://")[2]
        words = map(unquote, re.split(r"[/?&=@:#,;+.]|%20", rest))
        secrets |= {url, _password(url), *filter(_RANDOM.fullmatch, words)}
        secrets.update(re.findall("/[^?#]{7,}", rest.partition("?")[0])[:1])
    return frozenset(secrets - {""})


_BACKSLASHES = r"\\{0,8}"
_PERCENT = "%{1,4}(?:25)*"  # URLs escape it again, formats double it
_LETTERS = {"\n": "n", "\t": "t", "\r": "r", "\b": "b", "\f": "f"}


@lru_cache(maxsize=2 * MAX_LEARNED)
def _pattern(secret: str, is_shown: bool) -> re.Pattern[str]:
    """Build the pattern of the places where a text has a secret, and of a group `before` that stays.

    `is_shown` says that a variable which messages show has the same value.
    """
    spellings = _spellings(secret)
    is_plain = secret.casefold() in _ORDINARY or is_shown or len(secret) < _SHORT
    if not is_plain or _CODE.fullmatch(secret):
        return re.compile(f"(?P<before>){spellings}")
    quote = r"""["'`]"""
    before = [
        f"(?<={quote})(?={spellings}{_BACKSLASHES}{quote})",
        rf"(?<=:)(?={spellings}@)",
        rf"(?i:passwor[dt]|passwd|pwd|secret|token|key){_BACKSLASHES}{quote}?\s*[=:]\s*{_BACKSLASHES}{quote}?",
    ]
    return re.compile(f"(?P<before>{'|'.join(before)}){spellings}(?![A-Za-z0-9])")


def _spellings(secret: str) -> str:
    """Return a pattern that matches a secret in each escaped form, also partly or repeatedly (three times)
    escaped: in URLs, JSON, SQL, connection strings, and Python's repr of str and bytes."""
    # A repeated character is one repetition: this limits backtracking.
    return "".join(_run(character, len(list(run))) for character, run in groupby(secret))


def _run(character: str, count: int) -> str:
    octets = character.encode("utf-8", "surrogatepass").hex(" ").split()
    in_url = "(?i:" + "".join(f"{_PERCENT}{octet}" for octet in octets) + ")"
    if character.isalnum() and character.isascii():
        return f"(?:{character}|{in_url}){{{count}}}"
    slash = rf"(?:\\|{_PERCENT}5[cC])"
    if character == "\\":
        return f"{slash}{{{count},{8 * count}}}"
    units = re.findall("....", character.encode("utf-16-be", "surrogatepass").hex())
    codes = [[f"x{ord(character):02x}"], [f"u{ord(character):04x}"], [f"U{ord(character):08x}"]]
    escapes = [[f"x{octet}" for octet in octets], [f"u{unit}" for unit in units], *codes]
    ways = ["".join(f"{slash}{{1,8}}{part}" for part in parts) for parts in escapes]
    if character in _LETTERS:
        ways.append(f"{slash}{{1,8}}{_LETTERS[character]}")
    if character == " ":
        ways.append(rf"\+|{_PERCENT}2b")
    plain = f"{slash}{{0,8}}(?:{in_url}|{re.escape(character)})"
    return f"(?:(?i:{'|'.join(ways)})|{plain}){{{count},{4 * count}}}"  # SQL doubles quotes


class Redacted(Exception):
    """Replaces an error with a secret in its traceback; the text is the redacted traceback."""


def redacted(error: BaseException) -> BaseException:
    """Return the error itself if no text of it and of its causes contains a secret, else a Redacted.

    Dagster stores and shows an error with its causes: hence `raise ... from redacted(error)`.
    """
    text = "".join(traceback.format_exception(error))
    clean = redact(text)
    return error if clean == text else Redacted(clean)


@contextmanager
def redact_exceptions() -> Iterator[None]:
    """Replace an error with a secret in its traceback by a Redacted."""
    try:
        yield
    except Exception as error:
        if (safe := redacted(error)) is not error:
            raise safe from None
        raise
