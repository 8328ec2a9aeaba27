"""Looks up known vulnerabilities of the packages of the image with pip-audit; `make audit`.

The exit code is 1 if there are some, and 0 if there are none or the database cannot be reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
COMMAND = [
    ".venv/audit/bin/pip-audit",
    "--requirement",
    "deploy/requirements/image.txt",
    "--disable-pip",
    "--require-hashes",
]


def main() -> int:
    """Run pip-audit and print its findings; return the exit code."""
    done = subprocess.run(
        [*COMMAND, "--format", "json", "--progress-spinner", "off"], cwd=PROJECT, capture_output=True, text=True
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        print(f"Skipped: the database of vulnerabilities cannot be reached ({reason[:200]}).")
        return 0
    found = [(package, known) for package in packages for known in package.get("vulns", [])]
    for package, known in found:
        fixed = ", ".join(known["fix_versions"]) or "no version"
        print(f"{package['name']} {package['version']}: {known['id']}, fixed in {fixed}")
    print(f"{len(packages)} packages have {len(found)} known vulnerabilities.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
