"""A Dagster project of others: an executor, resources, assets and a job of its own, and two QuperSyncs."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

FILES = {
    "dg.toml": """
        directory_type = "project"

        [project]
        root_module = "host_project"
        """,
    "dagster.yaml": "telemetry: { enabled: false }\n",
    "host_project/__init__.py": "",
    "host_project/definitions.py": """
        from pathlib import Path

        import dagster as dg


        @dg.definitions
        def defs() -> dg.Definitions:
            return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
        """,
    "host_project/defs/__init__.py": "",
    "host_project/defs/own.py": """
        import dagster as dg


        @dg.asset(group_name="billing", key=["billing", "invoices"])
        def invoices(postgres: dg.ResourceParam[str], redshift: dg.ResourceParam[str]) -> str:
            return postgres + redshift


        host_executor = dg.in_process_executor.configured({}, name="executor_of_the_host")
        nightly = dg.define_asset_job("nightly", dg.AssetSelection.assets(invoices))
        defs = dg.Definitions(
            assets=[invoices],
            jobs=[nightly],
            schedules=[dg.ScheduleDefinition(job=nightly, cron_schedule="0 2 * * *")],
            resources={"postgres": "host ", "redshift": "resources"},
            executor=host_executor,
        )
        """,
    # The three lines that docs/embedding.md promises, and a target.
    "host_project/defs/warehouse/defs.yaml": """
        type: qupersync_assets.QuperSyncComponent
        attributes:
          source: { host: "{{ env.WAREHOUSE_HOST }}", port: "{{ env.WAREHOUSE_PORT }}", database: redshift,
                    user: qupersync_reader, password: "{{ env.WAREHOUSE_PASSWORD }}", ssl: false }
          target: { host: "{{ env.HEALTH_HOST }}", port: "{{ env.HEALTH_PORT }}", database: quper,
                    user: qupersync, password: "{{ env.HEALTH_PASSWORD }}" }
        """,
    "host_project/defs/regions/defs.yaml": """
        type: qupersync_assets.QuperSyncComponent
        attributes:
          name: regions
          key_prefix: [regions]
          clusters:
            north: { host: "{{ env.WAREHOUSE_HOST }}", port: "{{ env.WAREHOUSE_PORT }}", database: redshift,
                     user: qupersync_reader, password: "{{ env.WAREHOUSE_PASSWORD }}", ssl: false }
            south: { host: "{{ env.WAREHOUSE_HOST }}", port: "{{ env.WAREHOUSE_PORT }}", database: redshift,
                     user: qupersync_reader, password: "{{ env.WAREHOUSE_PASSWORD }}", ssl: false, sync_interval: 600 }
          target: { host: "{{ env.HEALTH_HOST }}", port: "{{ env.HEALTH_PORT }}", database: regions,
                    user: qupersync, password: "{{ env.HEALTH_PASSWORD }}" }
          jobs: [node_details_sync, locks_sync]
          schedule: { running: true, interval: 120, timezone: Europe/Berlin, job_intervals: { locks_sync: 1200 } }
          retention: { history_days: 400, log_days: 30 }
          group: clusters
          owners: [team:regions]
          translation: { tags: { table: "{{ name }}" } }
          alert_urls: "{{ env.ALERTS }}"
          settings: { sync_executor: in_process }
        """,
}


def write_host_project(folder: Path) -> None:
    """Write the project into an empty folder."""
    for name, text in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text).lstrip(), "utf-8")


def host_environment(variables: dict[str, str], alerts: str = "json://127.0.0.1/alerts") -> dict[str, str]:
    """Return the variables of the project, for a sandbox with these variables and a receiver of alerts."""
    return {
        "ALERTS": alerts,
        "WAREHOUSE_HOST": variables["REDSHIFT_HOST"],
        "WAREHOUSE_PORT": variables["REDSHIFT_PORT"],
        "WAREHOUSE_PASSWORD": variables["REDSHIFT_PASSWORD"],
        "HEALTH_HOST": variables["POSTGRES_HOST"],
        "HEALTH_PORT": variables["POSTGRES_PORT"],
        "HEALTH_PASSWORD": variables["POSTGRES_PASSWORD"],
    }
