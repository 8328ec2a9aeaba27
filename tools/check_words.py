"""Finds words in code and documents that the project does not use; run by `make lint`.

The project uses the standard terms of Dagster, PostgreSQL, Redshift and data engineering.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1]
# Generated files, and text of others.
SKIPPED_FILES = {
    "LICENSE",
    "docs/benchmark.json",
    "docs/benchmark.svg",
    "qupersync_assets/spec/redshift_views.json",
    "qupersync_assets_tests/docs/test_words.py",
    "qupersync_assets_tests/support/schema_0004.sql",
    "tools/check_words.py",
}
# A file -> words that it may contain: names and values of version 0004, and a user of the system.
ALLOWED = {
    "CHANGELOG.md": {"clear_away", "read_why"},
    "qupersync_assets/postgres/migrations/versions/0004_baseline.sql": {"read_why"},
    "qupersync_assets/postgres/migrations/versions/0005_read_mode.py": {"read_why", "news"},
    "qupersync_assets/sandbox/server/postgres_server.py": {"nobody"},
    "qupersync_assets_tests/integration/postgres/test_migrations.py": {"read_why", "news"},
}
SUFFIXES = {".py", ".md", ".j2", ".sql", ".toml", ".yaml", ".yml", ".json", ".sh", ".example", ""}

# Regular expression -> what to write instead. An underscore separates words: `gone` is found in `is_gone`.
WORDS = {
    r"abandon(?:s|ed|ing)?": "mark_stale, stop",
    r"amiss": "a problem",
    r"and the like": "such as, before examples",
    r"anew": "again",
    r"(?:any|every|no|some)body": "a user, all users, no user",
    r"(?:at|with) each look": "each time",
    r"be it": "also if it is",
    r"beside the (?:days|seven|week)": "compared with",
    r"clears?[ _]away": "close_stale_rows, delete",
    r"doubt(?:s|ed|ful)?": "NeedsCoercion, unknown",
    r"for ever": "forever",
    r"gone": "missing, removed, ended",
    r"heal(?:s|ed|ing)?": "recover",
    r"hurts?": "occurs, costs",
    r"in[ _]clear": "as_plain_text, readable",
    r"judg(?:e|es|ed|ing)": "evaluate, check",
    r"keeps?[ _]up": "update_counts",
    r"left[ _]over": "remaining",
    r"lest": "so that ... not",
    r"mend(?:s|ed|ing)?": "fix",
    r"news": "new rows",
    r"ours": "own",
    r"read[ _-]ahead|reading ahead": "prefetch",
    r"reckon(?:s|ed|ing)?": "compute, count",
    r"rights": "privileges",
    r"(?:still|are|is) going": "running",
    r"take[sn]? (?:a|it|one|them) (?:\w+ )*for (?:a )?dead": "treat as dead",
    r"tell(?:s|ing)?|told": "show, report, say",
    r"the books|purge_books": "bookkeeping tables, purge_logs",
    r"under way": "running",
    r"vouch(?:es|ed)?": "ensure",
    r"whoever|whosoever": "a user who",
    r"who has": "a user with",
}
# Identifiers of earlier versions -> their present names.
IDENTIFIERS = {
    "BadValue": "InvalidValue",
    "Busy": "JobLocked",
    "Feed": "SyncRequest, LoadResult",
    "LoadError": "SyncError",
    "Rejected": "SkippedRow",
    "StoredRows": "DirectCopy",
    "UndecodedPage": "RawPage",
    "by_name": "as_env_var",
    "find_window": "plan_window",
    "job_lock": "advisory_lock",
    "logged_late": "late_arriving",
    "newer_by": "version_column",
    "read_why": "read_mode, read_reason",
    "secrets_kept": "redact_exceptions",
    "still_there": "present_where",
    "why_not_done": "failed_jobs",
    "without_secrets": "redacted",
}

PATTERNS = [
    *(
        (re.compile(rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])", re.IGNORECASE), instead)
        for words, instead in WORDS.items()
    ),
    *((re.compile(rf"\b{name}\b"), instead) for name, instead in IDENTIFIERS.items()),
]


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
