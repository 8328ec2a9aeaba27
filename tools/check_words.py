"""Finds words in code and documents that the project does not use; run by `make lint`.

The project uses the standard terms of Dagster, PostgreSQL, Redshift and data engineering. Each pattern
below is a whole word; its first letter may also be a capital.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1]
# Generated files, and text that is not ours.
SKIPPED_FILES = {
    "LICENSE",
    "docs/benchmark.json",
    "docs/benchmark.svg",
    "qupersync_assets/spec/redshift_views.json",
    "tools/check_words.py",
}
# Text of other people, or names that users have to know.
ALLOWED = {
    "CHANGELOG.md": {"read_why"},
    "qupersync_assets/postgres/migrations/versions/0005_read_mode.py": {"read_why"},
}
SUFFIXES = {".py", ".md", ".sql", ".toml", ".yaml", ".yml", ".json", ".sh", ".example", ""}

# Pattern -> what to write instead.
WORDS = {
    r"abandon(s|ed|ing)?": "mark_stale, stop",
    r"ahead": "prefetch, newer than",
    r"amiss": "wrong, a problem",
    r"anew": "again",
    r"anybody|everybody|nobody|somebody": "a user, all users, no user",
    r"be it": "also if it is",
    r"clears? away|clear_away": "close_stale_rows, delete",
    r"doubt(s|ed|ful)?": "NeedsCoercion, unknown",
    r"gone": "missing, removed, ended",
    r"heal(s|ed|ing)?": "recover",
    r"judg(e|es|ed|ing)": "evaluate, check",
    r"keeps? up|keep_up": "update_counts",
    r"left over|left_over": "remaining",
    r"lest": "so that ... not",
    r"mend(s|ed|ing)?": "fix",
    r"news": "new rows",
    r"ours": "own",
    r"reckon(s|ed|ing)?": "compute, count",
    r"rights": "privileges",
    r"still going|are going|is going": "running",
    r"tells?|telling|told": "show, report, say",
    r"vouch(es|ed)?": "ensure",
    r"who has": "a user with",
    r"whoever|whatever it|whosoever": "a user who",
    # Identifiers of earlier versions.
    r"BadValue": "InvalidValue",
    r"Busy": "JobLocked",
    r"Feed|feed": "SyncRequest, LoadResult",
    r"LoadError": "SyncError",
    r"Rejected": "SkippedRow",
    r"StoredRows": "DirectCopy",
    r"UndecodedPage": "RawPage",
    r"by_name": "as_env_var",
    r"find_window": "plan_window",
    r"in_clear|in clear": "as_plain_text, readable",
    r"job_lock": "advisory_lock",
    r"logged_late": "late_arriving",
    r"newer_by": "version_column",
    r"purge_books|the books": "purge_logs, bookkeeping tables",
    r"read_ahead": "prefetch",
    r"read_why": "read_reason",
    r"secrets_kept": "redact_exceptions",
    r"still_there": "present_where",
    r"why_not_done": "failed_jobs",
    r"without_secrets": "redacted",
}


def _pattern(words: str) -> str:
    """Match each alternative as a whole word, also with a capital first letter.

    An underscore separates words: `left_over` is found in `is_left_over`.
    """
    alternatives = []
    for word in re.split(r"\|(?![^(]*\))", words):
        first = f"[{word[0]}{word[0].upper()}]" if word[0].islower() else word[0]
        alternatives.append(first + word[1:])
    return rf"(?<![A-Za-z0-9])(?:{'|'.join(alternatives)})(?![A-Za-z0-9])"


PATTERNS = [(re.compile(_pattern(words)), instead) for words, instead in WORDS.items()]


def files() -> Iterator[Path]:
    """Yield the files that Git tracks or would track; without Git, those of the folder."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if listed.returncode == 0:
        paths = [PROJECT / name for name in listed.stdout.splitlines()]
    else:
        hidden = re.compile(r"/\.(?!ci/|env\.example|pre-commit)|/build/|\.egg-info")
        paths = [path for path in PROJECT.rglob("*") if not hidden.search(f"/{path.relative_to(PROJECT)}")]
    yield from sorted(paths)


def is_checked(path: Path) -> bool:
    """Return whether a file is text of the project."""
    name = path.relative_to(PROJECT).as_posix()
    return path.is_file() and path.suffix in SUFFIXES and name not in SKIPPED_FILES


def findings(name: str, text: str) -> Iterator[str]:
    """Yield a line for each unwanted word of a text.

    Args:
        name: path of the file in the project.
        text: its content.
    """
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, instead in PATTERNS:
            for found in pattern.finditer(line):
                if found[0] not in ALLOWED.get(name, ()):
                    yield f"{name}:{number}: {found[0]!r}: write instead: {instead}"


def main() -> int:
    """Print the findings in the given files, or in all; return the exit code."""
    paths = [Path(name).resolve() for name in sys.argv[1:]] or list(files())
    found = [
        line
        for path in filter(is_checked, paths)
        for line in findings(path.relative_to(PROJECT).as_posix(), path.read_text("utf-8"))
    ]
    print("\n".join(found) or "No unwanted words.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
