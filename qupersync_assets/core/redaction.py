"""Replaces secrets in texts and exceptions before they are stored or shown."""

import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from urllib.parse import unquote, urlsplit

# Suffixes of the environment variables that hold secrets (of the settings, boto3 and libpq), or URLs with a password.
SECRET_SUFFIXES = ("_PASSWORD", "_ACCESS_KEY_ID", "_SECRET_ACCESS_KEY", "_SESSION_TOKEN", "PGPASSWORD", "ALERT_URLS")
URL_SUFFIXES = ("_BROKER_URL", "_BACKEND_URL")

# Secrets from AWS, which are in no variable.
_learned: set[str] = set()


def learn_secret(secret: str | None) -> None:
    """Register a secret that is not in the environment."""
    _learned.update([secret] if secret else [])


def redact(text: str) -> str:
    """Replace each secret in a text by ***, also if it is escaped."""
    secrets = {value for name, value in os.environ.items() if name.endswith(SECRET_SUFFIXES) and value}
    secrets |= {_password(value) for name, value in os.environ.items() if name.endswith(URL_SUFFIXES)} - {""}
    secrets |= _secret_parts(os.environ.get("ALERT_URLS", ""))
    for secret in sorted(secrets | _learned, key=len, reverse=True):
        text = _spellings(secret).sub("***", text)
    return text


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


_PERCENT = "%{1,4}(?:25)*"  # URLs escape it again, formats double it
_LETTERS = {"\n": "n", "\t": "t", "\r": "r", "\b": "b", "\f": "f"}


@cache
def _spellings(secret: str) -> re.Pattern[str]:
    """Build a pattern that matches a secret in each escaped form, also partly or repeatedly (three times)
    escaped: in URLs, JSON, SQL, connection strings, and Python's repr of str and bytes."""
    # A repeated character is one repetition: this limits backtracking.
    return re.compile("".join(_run(character, len(list(run))) for character, run in groupby(secret)))


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
    """Return the error itself if its traceback contains no secret, else a Redacted.

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
