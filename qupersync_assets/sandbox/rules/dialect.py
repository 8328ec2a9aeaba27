"""Names of the relations, functions, types and settings of Redshift's SQL.

https://docs.aws.amazon.com/redshift/latest/dg/cm_chap_SQLCommandRef.html
"""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

from qupersync_assets.spec.redshift_views import documented_views

Mode = Literal["provisioned", "single-node", "serverless", "multi-az"]
MODES: tuple[Mode, ...] = get_args(Mode)
Availability = Literal["readable", "denied", "absent"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Relations besides the documented views: catalogs of the leader node, views of users and their grants, and
# a view that an administrator may create.
CATALOGS = _names("pg_class pg_namespace pg_attribute pg_user pg_type pg_database")
OTHERS = _names("svv_user_info svv_user_grants svl_user_activity")
DENIED_ON_MULTI_AZ = ("stl_", "stv_", "svl_", "svcs_")
# System tables and views, without the catalogs.
VIEW_PREFIXES = (*DENIED_ON_MULTI_AZ, "svv_", "sys_")
SYSTEM_PREFIXES = (*VIEW_PREFIXES, "pg_")

# PostgreSQL has these columns in every table; Redshift's system views lack them.
HIDDEN_COLUMNS = _names("ctid xmin xmax cmin cmax tableoid")

COMMANDS = _names(
    """
    select with begin start commit end rollback abort declare fetch close set reset show explain insert
    update delete create drop alter truncate grant revoke analyze vacuum lock comment deallocate prepare
    execute call unload cancel merge
    """
)

_AGGREGATES = _names(
    """
    any_value approximate avg bit_and bit_or bool_and bool_or count max min stddev stddev_pop stddev_samp
    sum var_pop var_samp variance cume_dist dense_rank first_value lag last_value lead nth_value ntile
    percent_rank rank ratio_to_report row_number grouping grouping_id
    """
)
_SCALARS = _names(
    """
    coalesce decode greatest least nullif nvl nvl2 extract position substring trim overlay cast convert
    add_months convert_timezone date_cmp date_cmp_timestamp date_part date_part_year date_trunc dateadd
    datediff date_diff getdate interval_cmp last_day months_between next_day timeofday timezone trunc
    to_timestamp to_char to_date to_number text_to_int_alt text_to_numeric_alt try_cast abs acos asin atan
    atan2 cbrt ceil ceiling cos cot degrees dexp dlog1 dlog10 exp floor ln mod pi pow power radians random
    round sign sin sqrt tan ascii bpcharcmp btrim bttext_pattern_cmp char_length character_length charindex
    chr collate concat crc32 difference initcap left len length lower lpad ltrim octet_length octetindex
    quote_ident quote_literal regexp_count regexp_instr regexp_replace regexp_substr repeat replace
    replicate reverse right rpad rtrim soundex split_part split_to_array strpos strtol textlen translate
    upper checksum digest farmfingerprint64 fnv_hash func_sha1 md5 murmur3_32_hash sha sha1 sha2
    can_json_parse is_valid_json is_valid_json_array json_array_length json_extract_array_element_text
    json_extract_path_text json_parse json_serialize json_size json_typeof to_hex from_hex current_database
    current_namespace current_user_id row set_config slice_num user_is_member_of role_is_member_of
    pg_last_copy_count pg_last_copy_id pg_last_query_id pg_last_unload_count pg_cancel_backend
    pg_terminate_backend
    """
)

# https://docs.aws.amazon.com/redshift/latest/dg/c_SQL_functions_leader_node_only.html, and functions of
# PostgreSQL that the leader node supports.
LEADER_ONLY = _names(
    """
    current_schema current_schemas has_database_privilege has_schema_privilege has_table_privilege
    has_column_privilege substr factorial log age current_time current_timestamp localtime localtimestamp
    isfinite now getbit get_bit get_byte set_bit set_byte to_ascii generate_series current_setting
    pg_backend_pid pg_get_userbyid pg_get_viewdef pg_table_is_visible format_type format_encoding version
    """
)
# Leader-node functions that are written without parentheses.
LEADER_KEYWORDS = _names("current_schema current_time current_timestamp localtime localtimestamp")
COMPUTE_ONLY = _names("listagg median percentile_cont percentile_disc approximate_percentile_disc")
FUNCTIONS = _AGGREGATES | _SCALARS | LEADER_ONLY | COMPUTE_ONLY

# Words before a parenthesis that are not functions.
KEYWORDS = _names(
    """
    all and any as between by case cube distinct else except exists from group having ilike in intersect
    interval is join lateral like limit minus not on or over partition qualify rollup select sets similar
    some then to top union using values when where with within filter decimal numeric varchar char character
    varying nvarchar nchar bpchar timestamp time float varbyte precision
    """
)

# The names that sqlglot uses.
TYPES = _names(
    """
    smallint int bigint decimal numeric float double real char nchar bpchar varchar nvarchar text date
    timestamp timestamptz timestampntz time timetz boolean hllsketch super varbinary binary geometry
    geography interval object_identifier oid name
    """
)

# https://docs.aws.amazon.com/redshift/latest/dg/cm_chap_ConfigurationRef.html
# The last two are SET SESSION AUTHORIZATION and SET SESSION CHARACTERISTICS.
POSTGRES_SETTINGS = _names(
    """
    application_name client_encoding datestyle extra_float_digits seed statement_timeout timezone
    authorization characteristics
    """
)
REDSHIFT_SETTINGS = _names(
    """
    analyze_threshold_percent cast_super_null_on_error default_geometry_encoding
    describe_field_name_in_uppercase downcase_delimited_identifier enable_case_sensitive_identifier
    enable_case_sensitive_super_attribute enable_numeric_rounding enable_result_cache_for_session
    enable_vacuum_boost error_on_nondeterministic_update json_serialization_enable
    json_serialization_parse_nested_strings max_concurrency_scaling_clusters max_cursor_result_set_size
    mv_enable_aqmv_for_session navigate_super_null_on_error parse_super_null_on_error
    pg_federation_repeatable_read query_group search_path spectrum_query_maxerror
    stored_proc_log_min_messages wlm_query_slot_count
    """
)


def availability(relation: str, mode: Mode, lists_absent: bool) -> Availability:
    """Return whether a system relation is readable with the privilege, denied to all users, or absent.

    Args:
        relation: name of the relation; unknown ones are absent.
        mode: the kind of Redshift.
        lists_absent: relations that the mode lacks are listed and denied.
    """
    facts = documented_views().get(relation)
    if facts is None:
        return "readable" if relation in CATALOGS or relation in OTHERS else "absent"
    if not facts["serverless" if mode == "serverless" else "provisioned"]:
        return "denied" if lists_absent else "absent"
    return "denied" if mode == "multi-az" and relation.startswith(DENIED_ON_MULTI_AZ) else "readable"


@cache
def node(relation: str) -> str:
    """Return the nodes that read a relation: `leader`, `compute` or `both`."""
    if relation in CATALOGS:
        return "leader"
    facts = documented_views().get(relation)
    return "both" if facts is None else str(facts["node"])
