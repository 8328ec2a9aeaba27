"""Invalid settings, one line each: the variable, its value unless it is secret, and what is allowed."""

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from qupersync_assets.core.redaction import redact

REDSHIFT = "REDSHIFT"
COMBINATION = "combination"
# Type of one of pydantic's errors -> its message.
_MESSAGES = {
    "bool_parsing": "allowed is true or false",
    "float_parsing": "allowed is a number",
    "int_parsing": "allowed is a whole number",
    "string_pattern_mismatch": "not valid",  # the description is clearer than the pattern
}


class SettingsError(ValueError):
    """Settings are missing or have values that are not allowed; each has one of the `lines`."""

    def __init__(self, lines: list[str], heading: str = "Check these environment variables:") -> None:
        self.lines = lines
        super().__init__(redact("\n".join([heading, *lines])))

    def with_hint(self, hint: str) -> "SettingsError":
        """Return the same error with a last line, and without a traceback."""
        return SettingsError([*self.lines, hint], str(self).partition("\n")[0])


def combination_error(text: str) -> PydanticCustomError:
    """Build the error of a field that does not fit the other fields; its line does not show the value."""
    return PydanticCustomError(COMBINATION, "{text}", {"text": text})


def check_names(text: str) -> str:
    """Return names in a text, without the spaces around the commas; a ValueError if one of them is empty."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError("allowed are names with one comma between two; one of these is empty")
    return ",".join(names)


def secret_lines(problems: Mapping[str, str]) -> list[str]:
    """Return the lines about files of secrets, by the variables that name them."""
    return [f"  {variable}: {text}." for variable, text in problems.items()]


def is_secret(field: FieldInfo) -> bool:
    """Return whether a field contains a secret."""
    return "SecretStr" in str(field.annotation)


def message_of(problem: Mapping[str, Any]) -> str:
    """Return the message about one of pydantic's errors: what is allowed."""
    return _MESSAGES.get(problem["type"], str(problem["msg"]).removeprefix("Value error, "))


def explain(problem: Mapping[str, Any], variable: str, field: FieldInfo, prefix: str = REDSHIFT) -> str:
    """Return the line about one of pydantic's errors in a variable; `prefix` is that of the cluster's variables."""
    description = str(field.description).replace(f"{REDSHIFT}_", f"{prefix}_")
    if problem["type"] == "missing":
        return f"  {variable} is not set. {description}"
    message = message_of(problem)
    if problem["type"] == COMBINATION:
        return f"  {variable}: {message.replace(f'{REDSHIFT}_', f'{prefix}_')}. {description}"
    value = "" if is_secret(field) else f"={problem['input']!r}"
    return f"  {variable}{value}: {message}. {description}"
