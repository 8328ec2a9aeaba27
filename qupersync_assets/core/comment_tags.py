"""The tags that tools write into the comments of their statements, which are not data.

dbt and others begin or end a statement with a JSON object in a comment; Looker quotes one.
"""

import re

_KEYS = (
    "app|application|dbt_version|dbt_cloud_(?:job|project|run)_id|profile_name|target_name|target_schema|project_name"
    "|package_name|node_(?:id|name|alias|package_name|resource_type|original_file_path)|model|resource_type|materialized"
    "|file|invocation_id|thread_id|full_refresh|connection_name|dag_id|task_id|run_id"
    "|user_id|history_id|history_slug|instance_slug|dashboard_id|look_id|query_id"
)
# Redshift spells line breaks and tabs as a backslash and a letter.
_SPACE = r"(?:\s|\\[nrt])*"
_STRING = r'"(?:[^"\\]|\\.)*"'
_PAIR = rf"{_STRING}{_SPACE}:{_SPACE}(?:{_STRING}|[\w.+-]+)"
_TAGS = re.compile(
    rf"{_SPACE}(?:Looker\ Query\ Context{_SPACE})?(?P<quote>'?)\{{{_SPACE}"
    rf"(?:(?:{_PAIR}|\?){_SPACE}(?:,{_SPACE}(?:{_PAIR}|\?){_SPACE})*)?\}}(?P=quote){_SPACE}"
)
_EACH = re.compile(_PAIR)
_KNOWN = re.compile(rf'"(?:{_KEYS})"{_SPACE}:{_SPACE}(?:"[\w.:/ -]{{0,200}}"|\w{{1,10}})')
_LONGEST = 4000


def shown_tags(comment: str) -> str | None:
    """Return the text of a comment that consists of tags, without the tags that are not known; else None."""
    if "{" not in comment or len(comment) > _LONGEST or not _TAGS.fullmatch(comment):
        return None
    return _EACH.sub(lambda pair: pair[0] if _KNOWN.fullmatch(pair[0]) else "?", comment)
