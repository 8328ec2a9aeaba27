"""A failed run and a failed check send one message each, without secrets; and nothing if nobody asked for it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import dagster as dg
import pytest

from qupersync_assets.definitions import build_code_location
from qupersync_assets.sandbox.gateway.tls import Authority
from qupersync_assets.settings import Settings
from qupersync_assets_tests.integration.conftest import Query, Sync
from qupersync_assets_tests.support.alert_servers import MailServer, Slack

MAIL_PASSWORD = token_hex()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that the sensor and the runs share."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as local:
        yield local


@pytest.fixture
def mail(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], tmp_path: Path
) -> Iterator[MailServer]:
    """E-mail is configured."""
    authority = Authority(tmp_path / "tls")
    with MailServer(authority.server(["127.0.0.1"]), "bot", MAIL_PASSWORD) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
        for name, value in {
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(server.port),
            "SMTP_USER": "bot",
            "SMTP_PASSWORD": MAIL_PASSWORD,
            "EMAIL_FROM": "bot@example.com",
            "EMAIL_TO": "me@example.com, you@example.com",
        }.items():
            monkeypatch.setenv(f"ALERT_{name}", value)
        yield server


class Watcher:
    """The sensor of a channel, with its cursor; `look` is a tick of the daemon."""

    def __init__(self, instance: dg.DagsterInstance, channel: str) -> None:
        self._instance = instance
        self._name = f"qupersync_alerts_{channel}"
        self.cursor: str | None = None
        self.look()

    def look(self) -> str:
        definitions = build_code_location(Settings.load())
        sensor = definitions.resolve_sensor_def(self._name)
        top = definitions.get_repository_def().get_top_level_resources()
        with dg.build_sensor_context(
            instance=self._instance,
            cursor=self.cursor,
            definitions=definitions,
            resources={key: top[key] for key in sensor.required_resource_keys},
        ) as context:
            data = sensor.evaluate_tick(context)
        self.cursor = data.cursor
        return data.skip_message or ""


@pytest.fixture
def bad_row(source: Query) -> None:
    source("INSERT INTO stv_node_storage_capacity VALUES (NULL, 1, 2)")


def test_without_configuration_there_is_nothing(environment: dict[str, str]) -> None:
    definitions = build_code_location(Settings.load()).get_repository_def()
    assert not [name for name in definitions.sensor_defs if "alerts" in name.name]
    assert not [name for name in definitions.get_top_level_resources() if "alerts" in name]


def test_a_failed_run_is_told_once_until_it_was_well(
    slack: Slack, sync: Sync, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(instance, "slack")
    assert sync("applications").success
    watcher.look()
    assert not slack.messages
    with monkeypatch.context() as outage:
        outage.setenv("REDSHIFT_PORT", "1")
        run_id = sync("applications", "node_details").run_id
        watcher.look()
        (message,) = slack.messages
        assert message["path"] == "/api/chat.postMessage" and message["channel"] == "#data"
        text = message["text"]
        assert "cluster sandbox: 2 jobs failed" in text and f"https://dagster.example/runs/{run_id}" in text
        assert (
            "application_sync: " in text and "node_details_sync: " in text and "Check REDSHIFT_HOST" in text
        )
        watcher.look()
        sync("applications")
        watcher.look()
        assert len(slack.messages) == 1  # it goes on, which is no news
        sync("alert_events")
        watcher.look()
        assert len(slack.messages) == 2 and "alert_events_sync" in slack.messages[1]["text"]
    assert sync("applications").success
    monkeypatch.setenv("REDSHIFT_PORT", "1")
    sync("applications")
    watcher.look()
    assert len(slack.messages) == 3 and "1 job failed" in slack.messages[2]["text"]


def test_a_failed_check_is_told_once_until_it_passed(
    mail: MailServer, sync: Sync, instance: dg.DagsterInstance, source: Query, bad_row: None
) -> None:
    watcher = Watcher(instance, "email")
    for _ in range(2):
        assert sync("node_details").success
        watcher.look()
    (sent,) = mail.box.mails
    assert mail.box.recipients == ["me@example.com", "you@example.com"]
    assert sent["Subject"] == "QuperSync, cluster sandbox: 1 check failed"
    assert "node_details_sync, check no_skipped_rows: error, 1 of 1 rows" in sent.get_content()
    source("DELETE FROM stv_node_storage_capacity")
    assert sync("node_details").success
    watcher.look()
    source("INSERT INTO stv_node_storage_capacity VALUES (NULL, 1, 2)")
    assert sync("node_details").success
    watcher.look()
    assert len(mail.box.mails) == 2


def test_a_maintenance_that_fails_is_told(
    slack: Slack, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(instance, "slack")
    with monkeypatch.context() as outage:
        outage.setenv("POSTGRES_PORT", "1")
        job = build_code_location(Settings.load()).resolve_job_def("qupersync_maintenance")
        job.execute_in_process(instance=instance, raise_on_error=False)
    watcher.look()
    (message,) = slack.messages
    assert "qupersync_maintenance: " in message["text"] and "POSTGRES_PORT" in message["text"]


def test_a_foreign_job_is_not_ours_to_tell(slack: Slack, instance: dg.DagsterInstance) -> None:
    @dg.op
    def fail() -> None:
        raise RuntimeError

    @dg.job
    def foreign() -> None:
        fail()

    watcher = Watcher(instance, "slack")
    foreign.execute_in_process(instance=instance, raise_on_error=False)
    assert watcher.look() == "0 alerts sent." and not slack.messages


def test_what_could_not_be_sent_is_sent_later_and_only_once(
    slack: Slack, sync: Sync, instance: dg.DagsterInstance, bad_row: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(instance, "slack")
    assert sync("node_details").success
    slack.fault = "channel_not_found"
    with pytest.raises(Exception, match="channel_not_found"):
        watcher.look()
    slack.fault = ""
    monkeypatch.setenv("REDSHIFT_PORT", "1")
    sync("applications")
    assert watcher.look() == "2 alerts sent."
    assert watcher.look() == "0 alerts sent."
    assert len(slack.messages) == 2


def test_channels_do_not_wait_for_each_other(
    slack: Slack, mail: MailServer, sync: Sync, instance: dg.DagsterInstance, bad_row: None
) -> None:
    watchers = [Watcher(instance, channel) for channel in ("slack", "email")]
    assert sync("node_details").success
    slack.fault = "fatal_error"
    with pytest.raises(Exception, match="fatal_error"):
        watchers[0].look()
    watchers[1].look()
    assert len(mail.box.mails) == 1 and not slack.messages


def test_no_secret_is_told(
    slack: Slack,
    mail: MailServer,
    sync: Sync,
    instance: dg.DagsterInstance,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watchers = [Watcher(instance, channel) for channel in ("slack", "email")]
    secrets = [
        environment["REDSHIFT_PASSWORD"],
        environment["POSTGRES_PASSWORD"],
        slack.token,
        MAIL_PASSWORD,
    ]
    # A failure that quotes them all.
    monkeypatch.setenv("REDSHIFT_HOST", f"{'.'.join(secrets)}.invalid")
    sync("applications")
    for watcher in watchers:
        watcher.look()
    told = [slack.messages[0]["text"], mail.box.mails[0].as_string(), *(str(w.cursor) for w in watchers)]
    assert "***" in told[0]
    # Nor when a channel fails.
    monkeypatch.setenv("ALERT_SLACK_TOKEN", slack.token + "-wrong")
    monkeypatch.setenv("ALERT_SMTP_PASSWORD", f"{MAIL_PASSWORD}-wrong")
    monkeypatch.setenv("REDSHIFT_HOST", "no-such-host.invalid")
    sync("node_details")
    for watcher in watchers:
        with pytest.raises(Exception, match=r"invalid_auth|535|Authentication") as refusal:
            watcher.look()
        told += traceback.format_exception(refusal.value)
    assert not [secret for secret in secrets for text in told if secret in text]


def test_a_mail_server_that_nobody_vouches_for_gets_no_password(
    mail: MailServer, sync: Sync, instance: dg.DagsterInstance, bad_row: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(instance, "email")
    assert sync("node_details").success
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(Exception, match="certificate verify failed"):
        watcher.look()
    assert not mail.box.mails
