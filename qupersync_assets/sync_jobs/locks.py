"""quper.locks: locks of open transactions, and requests that wait for them, from svv_transactions."""

from sqlalchemy import BigInteger, Boolean, Integer, Text

from qupersync_assets.spec import UTC_TIME, SyncSpec, column, quper_table

SPEC = SyncSpec(
    sync_job_id="locks_sync",
    optional=True,
    table=quper_table(
        "locks",
        column("user_name", Text, "owner of the transaction", "txn_owner", padded=True),
        column("database_name", Text, "database of the transaction", "txn_db", padded=True),
        column("transaction_id", BigInteger, "transaction", "xid"),
        column("session_id", Integer, "process id of the session", "pid"),
        column("transaction_start", UTC_TIME, "start of the transaction (UTC)", "txn_start"),
        column("lock_mode", Text, "AccessShareLock, ShareRowExclusiveLock, AccessExclusiveLock ...", padded=True),
        column("lockable_object_type", Text, "relation: a table; transactionid: the transaction itself", padded=True),
        column("table_id", BigInteger, "table OID; 0 if the object is no table", "relation", "COALESCE(relation, 0)"),
        column("granted", Boolean, "true: the transaction has the lock; false: it waits for it"),
        key=("transaction_id", "session_id", "lockable_object_type", "table_id", "lock_mode"),
        comment="Locks at the time of each sync; removed_at: first sync without the lock. Shorter ones are missed.",
        indexes=[("transaction_start",)],
    ),
    kind="snapshot",
    transient=True,
    description="Open transactions, the locks that they hold, and the locks that they wait for.",
    sources=("svv_transactions",),
    # QuperSync's own transaction is always open while it reads.
    from_clause="FROM svv_transactions WHERE {include_own_queries} OR txn_owner IS NULL OR txn_owner <> CURRENT_USER",
)
