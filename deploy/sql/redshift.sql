-- Rights of QuperSync in Amazon Redshift: what a superuser (the admin user) runs, once, in the database that is
-- REDSHIFT_DATABASE; in a query editor or with psql. As it stands it runs on every kind of cluster. What is commented
-- out is a choice, or is for provisioned clusters. docs/redshift.md says where each fact comes from.

-- 1. The user. There is no password in this file: a user like this can log in by IAM only (REDSHIFT_IAM=true). For a
--    login by password, or by a secret, type one in addition: 8 to 64 characters, with an upper and a lower case
--    letter and a digit.
CREATE USER qupersync_reader PASSWORD DISABLE;
--    ALTER USER qupersync_reader PASSWORD '...';

-- 2. Everybody's rows. Without one of these two rights Redshift shows a user the rows of its own work only, without any
--    error, in sys_query_history, sys_query_detail, sys_vacuum_history, stl_scan and stl_alert_event_log. The texts of
--    statements are among these rows, and with them what people wrote into them.
--    The first opens all rows of views that everybody may read, and nothing more. The second opens all system views
--    besides: take it instead if the first is refused. It is the one that AWS documents for Serverless.
ALTER USER qupersync_reader SYSLOG ACCESS UNRESTRICTED;
--GRANT ROLE sys:monitor TO qupersync_reader;

-- 3. Views that are for superusers, one by one. Everybody may read the others: svv_columns, pg_attribute and those
--    of 2.
GRANT SELECT ON svv_table_info TO qupersync_reader;
GRANT SELECT ON sys_connection_log TO qupersync_reader;

-- 4. The same, only on provisioned clusters in one Availability Zone: take the dashes away. Serverless and Multi-AZ
--    have none of these views; QuperSync reads SYS views instead.
--GRANT SELECT ON stl_vacuum TO qupersync_reader;
--GRANT SELECT ON stv_node_storage_capacity TO qupersync_reader;
--    Only before patch 172 (November 2022), which has no sys_connection_log:
--GRANT SELECT ON stl_connection_log TO qupersync_reader;

-- 5. Only where there is a view of this name, which AWS does not document (see docs/redshift.md):
--GRANT SELECT ON svl_user_activity TO qupersync_reader;
