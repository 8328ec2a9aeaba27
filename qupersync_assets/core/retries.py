"""Calls a function again after transient errors."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

T = TypeVar("T")
ATTEMPTS = 5
# The sentence of `Attempt.failure`.
FAILED_ATTEMPT = re.compile(r"attempt \d+ of \d+ failed: .*; next attempt in \d+ s$", re.DOTALL)


@dataclass(frozen=True)
class Attempt:
    """One of the attempts of a sync job within a run; by default the only one."""

    number: int = 1
    total: int = 1
    delay: float = 0.0  # seconds before the next attempt

    @property
    def is_last(self) -> bool:
        """Whether no attempt follows, so that a failure is final."""
        return self.number >= self.total

    def failure(self, reason: str) -> str:
        """Return the sentence about a failure after which another attempt follows."""
        return f"attempt {self.number} of {self.total} failed: {reason.rstrip('.')}; next attempt in {self.delay:.0f} s"


def attempt(number: int, max_retries: int, delay: float) -> Attempt:
    """Return the attempt `number`, from 1 on. The first retry follows after about `delay` seconds; the delay then
    doubles, with up to `delay` seconds more or less: jobs that fail together are not retried together."""
    jitter = random.uniform(-delay, delay)  # noqa: S311
    return Attempt(number, max_retries + 1, (2**number - 1) * delay + jitter)


def call_with_retries(function: Callable[[], T], is_transient: Callable[[BaseException], bool], first_wait: float) -> T:
    """Return the result of the first call that succeeds.

    The second attempt is at most `first_wait` seconds later; the maximum doubles up to ten times as much. The error
    of the fifth attempt is raised, and at once an error that is not transient.
    """
    retrying = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=first_wait, max=10 * first_wait),
        retry=retry_if_exception(is_transient),
        reraise=True,
    )
    return retrying(function)
