-- Privileges of QuperSync in Amazon Redshift. A superuser (the admin user) runs this file once, in the database of
-- REDSHIFT_DATABASE, in a query editor or with psql. Without changes it runs on every kind of cluster. Statements that
-- are commented out are alternatives, or are for provisioned clusters. Sources: docs/reference/redshift.md.

-- 1. The user. Without a password it can log in by IAM only (REDSHIFT_IAM=true). For a login by password, or by a
--    secret, set one: 8 to 64 characters, with an upper case letter, a lower case letter and a digit.
CREATE USER qupersync_reader PASSWORD DISABLE;
--    ALTER USER qupersync_reader PASSWORD '...';

-- 2. The rows of all users. Without one of these two privileges Redshift shows a user only the rows of its own work,
--    without an error, in sys_query_history, sys_query_detail, sys_vacuum_history, stl_scan, stl_query,
--    svl_query_metrics_summary and stl_alert_event_log, and in the views of optional jobs that 6. does not name. These rows contain the texts of statements, and the values in
--    them.
--    The first statement opens all rows of views that all users may read. The second opens all system views: use it if
--    the first is refused. AWS documents it for Serverless.
ALTER USER qupersync_reader SYSLOG ACCESS UNRESTRICTED;
--GRANT ROLE sys:monitor TO qupersync_reader;

-- 3. Views for superusers. All users may read the others: svv_columns, pg_attribute and those of 2.
GRANT SELECT ON svv_table_info TO qupersync_reader;
GRANT SELECT ON sys_connection_log TO qupersync_reader;
--    Grants on svv_ views hold in one database: with REDSHIFT_DATABASES run the first statement, and that on
--    svv_alter_table_recommendations of 6. if it is needed, in each of these databases too.

-- 4. The same, only on provisioned clusters in one Availability Zone: remove the dashes. Serverless and Multi-AZ have
--    none of these views; QuperSync reads SYS views there.
--GRANT SELECT ON stl_vacuum TO qupersync_reader;
--GRANT SELECT ON stv_node_storage_capacity TO qupersync_reader;
--    Only before patch 172 (November 2022), which has no sys_connection_log:
--GRANT SELECT ON stl_connection_log TO qupersync_reader;

-- 5. Only if there is a view of this name, which AWS does not document (see docs/reference/redshift.md):
--GRANT SELECT ON svl_user_activity TO qupersync_reader;

-- 6. Views for superusers that only optional jobs read, if SYNC_JOBS names the job: remove the dashes.
--    table_recommendations_sync, auto_table_optimizations_sync, analyze_history_sync:
--GRANT SELECT ON svv_alter_table_recommendations TO qupersync_reader;
--GRANT SELECT ON sys_auto_table_optimization TO qupersync_reader;
--GRANT SELECT ON sys_analyze_history TO qupersync_reader;
--    analyze_history_sync, only on a provisioned cluster without sys_analyze_history:
--GRANT SELECT ON stl_analyze TO qupersync_reader;
--    wlm_queues_sync, wlm_rules_sync, only on provisioned clusters:
--GRANT SELECT ON stv_wlm_service_class_config TO qupersync_reader;
--GRANT SELECT ON stv_wlm_classification_config TO qupersync_reader;
--GRANT SELECT ON stv_wlm_qmr_config TO qupersync_reader;
--    serverless_usage_sync, only on Serverless:
--GRANT SELECT ON sys_serverless_usage TO qupersync_reader;
