"""`qupersync migrate`: upgrade the schema quper."""

from qupersync_assets.cli.console import Json, exit_on_errors, out, print_json


def migrate(as_json: Json = False) -> None:
    """Upgrade the schema quper to the version of this QuperSync, also if SYNC_AUTO_MIGRATE is false."""
    with exit_on_errors(as_json):
        from qupersync_assets.postgres import schema
        from qupersync_assets.postgres.resource import postgres_resource
        from qupersync_assets.settings import Settings
        from qupersync_assets.sync.job_choice import jobs_on

        settings = Settings.load(logins=False)
        before, after = schema.migrate(postgres_resource(settings), jobs_on(settings))
        if as_json:
            print_json({"before": before, "after": after})
        elif before == after:
            out().print(f"The schema already has version {after}.")
        else:
            out().print(f"Upgraded the schema from version {before or 'none'} to {after}.")
