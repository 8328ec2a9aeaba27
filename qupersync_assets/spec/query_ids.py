"""Finds the SYS number of a query that the STL views number: the two number queries differently.

https://docs.aws.amazon.com/redshift/latest/dg/r_STL_QUERY.html. A query has the same transaction in both, and a
transaction may have many queries; their times distinguish them.
"""

_FITS = "h.start_time <= s.middle AND (h.end_time >= s.middle OR h.end_time IS NULL)"
_BEST = "latest_start = 1 AND earliest_end = 1"


def _rank(order: str) -> str:
    return f"RANK() OVER (PARTITION BY s.query ORDER BY CASE WHEN {_FITS} THEN h.{order} NULLS LAST)"


def sys_query_ids(stl_queries: str) -> str:
    """Return a query for `query`, `query_id` and `query_match` of STL queries that sys_query_history knows.

    `query_match` is `unique`, or `several` if several queries fit equally, and `query_id` is NULL. Of queries that
    contain each other, such as a procedure and its statements, the innermost one fits best.

    The query has the placeholder {since}, see `Variant`.

    Args:
        stl_queries: a query for `query`, `xid`, `started` and `ended`, one row per STL query.
    """
    return f"""
    SELECT query, CASE WHEN best = 1 THEN query_id END AS query_id,
           CASE WHEN best = 1 THEN 'unique' ELSE 'several' END AS query_match
    FROM (
        SELECT query, COUNT(CASE WHEN {_BEST} THEN 1 END) AS best, MIN(CASE WHEN {_BEST} THEN query_id END) AS query_id
        FROM (
            SELECT s.query, h.query_id, {_rank("start_time END DESC")} AS latest_start,
                   {_rank("end_time END")} AS earliest_end
            FROM (
                SELECT query, xid, started, ended, started + (ended - started) / 2 AS middle FROM ({stl_queries}) q
            ) s
            JOIN sys_query_history h ON h.transaction_id = s.xid
                AND h.start_time >= {{since}} - INTERVAL '1 day' AND h.start_time <= s.ended + INTERVAL '1 second'
                AND (h.end_time >= s.started - INTERVAL '1 second' OR h.end_time IS NULL)
        ) candidates
        GROUP BY query
    ) matched"""
