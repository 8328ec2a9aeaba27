"""quper.load_errors: lines that COPY could not load, from sys_load_error_detail or stl_load_errors."""

from sqlalchemy import BigInteger, Integer, Text

from qupersync_assets.spec import UTC_TIME, SyncSpec, Variant, column, quper_table, source_expression

_FILE_MD5 = "MD5(COALESCE(RTRIM({0}), ''))"

SPEC = SyncSpec(
    sync_job_id="load_errors_sync",
    optional=True,
    table=quper_table(
        "load_errors",
        column("user_id", Integer, "user who sent the COPY; 1 is Redshift itself"),
        column(
            "source_view",
            Text,
            "view that logged the error; `query` is a query identifier of this view",
            "query_id",
            "'sys_load_error_detail'",
        ),
        column("query", BigInteger, "query identifier of the SYS or of the STL views, see source_view", "query_id"),
        column("query_id", BigInteger, "the COPY in quper.query_history; NULL from stl_load_errors"),
        column("transaction_id", BigInteger, "transaction; NULL from stl_load_errors"),
        column("session_id", Integer, "process id of the session"),
        column("database_name", Text, "database; NULL from stl_load_errors", padded=True),
        column("table_id", BigInteger, "OID of the table that is loaded"),
        column("start_time", UTC_TIME, "start of the COPY (UTC)"),
        column("file_name", Text, "path of the file", padded=True, sensitive="data"),
        column("file_md5", Text, "md5 of that path", "file_name", _FILE_MD5.format("file_name")),
        column("line_number", BigInteger, "line of the file; -1 if unknown", sql="COALESCE(line_number, -1)"),
        column("column_name", Text, "column with the error", sql="COALESCE(RTRIM(column_name), '')"),
        column("column_type", Text, "type of that column", padded=True),
        column("column_length", Text, "length of that column, if its type has one", padded=True),
        column("position", Integer, "place of the error in the field; -1 if unknown", sql='COALESCE("position", -1)'),
        column("error_code", Integer, "number of the error in AWS's load error reference"),
        column("error_message", Text, "text of the error", padded=True, sensitive="message"),
        column(
            "raw_line",
            Text,
            "line with the error; NULL from sys_load_error_detail, which does not have it",
            reads=(),
            sensitive="data",
        ),
        column(
            "raw_field_value",
            Text,
            "value with the error; NULL from sys_load_error_detail, which does not have it",
            reads=(),
            sensitive="data",
        ),
        key=("source_view", "query", "file_md5", "line_number", "column_name", "position"),
        comment="Errors of COPY commands, one row per line and column; kept longer than in Redshift.",
        indexes=[("start_time",), ("table_id", "start_time"), ("query_id",)],
        shared_indexes=[("start_time",)],
    ),
    kind="history",
    time_column="start_time",
    late_arriving=True,
    description="Lines that COPY could not load: file, line, column and reason.",
    sources=("sys_load_error_detail",),
    from_clause="""
FROM sys_load_error_detail
WHERE start_time >= {since} OR start_time IS NULL
ORDER BY start_time, query_id, line_number""",
    alternatives=(
        Variant(
            sources=("stl_load_errors",),
            expressions={
                "user_id": source_expression("userid"),
                "source_view": source_expression("query", "'stl_load_errors'"),
                "query": source_expression("query"),
                "session_id": source_expression("session"),
                "table_id": source_expression("tbl"),
                "start_time": source_expression("starttime"),
                "file_name": source_expression("filename", padded=True),
                "file_md5": source_expression("filename", _FILE_MD5.format("filename")),
                "line_number": source_expression("line_number", "COALESCE(line_number, -1)"),
                "column_name": source_expression("colname", "COALESCE(RTRIM(colname), '')"),
                "column_type": source_expression("type", padded=True),
                "column_length": source_expression("col_length", padded=True),
                "position": source_expression("position", 'COALESCE("position", -1)'),
                "error_code": source_expression("err_code"),
                "error_message": source_expression("err_reason", padded=True),
                "raw_line": source_expression("raw_line", padded=True),
                "raw_field_value": source_expression("raw_field_value", padded=True),
            },
            from_clause="""
FROM stl_load_errors
WHERE starttime >= {since} OR starttime IS NULL
ORDER BY starttime, query, line_number""",
        ),
    ),
)
