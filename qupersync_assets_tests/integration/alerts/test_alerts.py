"""A failed run and a failed check send one alert each, without secrets; and nothing without ALERT_URLS."""

from __future__ import annotations

import logging
import re
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from urllib.parse import quote_plus

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from qupersync_assets.alerts import apprise_notifier
from qupersync_assets.alerts.apprise_notifier import MAX_CHARACTERS, Alert, AlertError, send_alert
from qupersync_assets.definitions import build_code_location
from qupersync_assets.sandbox.gateway.tls import Authority
from qupersync_assets.settings import Settings
from qupersync_assets.settings.alerts import AlertUrl
from qupersync_assets_tests.support.alert_servers import MailServer, Webhook
from qupersync_assets_tests.support.integration import Materialize, Query

MAIL_PASSWORD = token_hex()


def mail_url(server: MailServer, password: str = MAIL_PASSWORD) -> str:
    recipients = "me@example.com,you@example.com"
    return f"mailtos://bot:{password}@127.0.0.1:{server.port}/?from=bot@example.com&to={recipients}"


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], tmp_path: Path) -> Iterator[MailServer]:
    """E-mail is the only entry of ALERT_URLS."""
    authority = Authority(tmp_path / "tls")
    with MailServer(authority.server(["127.0.0.1"]), "bot", MAIL_PASSWORD) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
        monkeypatch.setenv("ALERT_URLS", mail_url(server))
        yield server


@pytest.fixture
def both(webhook: Webhook, mail: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are entries of ALERT_URLS."""
    monkeypatch.setenv("ALERT_URLS", f"{webhook.url}, {mail_url(mail)}")


class Watcher:
    """The sensor of the only entry of a schema, with its cursor; `poll` is a tick of the daemon."""

    def __init__(self, instance: dg.DagsterInstance, schema: str) -> None:
        self._instance = instance
        self._schema = schema
        self.cursor: str | None = None
        self.poll()

    def poll(self) -> str:
        definitions = build_code_location(Settings.load())
        names = [sensor.name for sensor in definitions.get_repository_def().sensor_defs]
        (name,) = (name for name in names if name.startswith("qupersync_alerts_") and name.endswith(f"_{self._schema}"))
        sensor = definitions.resolve_sensor_def(name)
        with dg.build_sensor_context(instance=self._instance, cursor=self.cursor, definitions=definitions) as context:
            data = sensor.evaluate_tick(context)
        self.cursor = data.cursor
        return data.skip_message or ""


@pytest.fixture
def bad_row(source: Query) -> None:
    source("INSERT INTO stv_node_storage_capacity VALUES (NULL, 1, 2)")


def test_no_sensor_without_alert_urls(environment: dict[str, str]) -> None:
    definitions = build_code_location(Settings.load()).get_repository_def()
    assert not [name for name in definitions.sensor_defs if "alerts" in name.name]
    assert not [name for name in definitions.get_top_level_resources() if "alerts" in name]


def test_each_url_has_a_sensor_that_does_not_show_it(both: None) -> None:
    definitions = build_code_location(Settings.load()).get_repository_def()
    sensors = [sensor for sensor in definitions.sensor_defs if "alerts" in sensor.name]
    assert [sensor.name for sensor in sensors] == ["qupersync_alerts_1_json", "qupersync_alerts_2_mailtos"]
    assert not any(sensor.required_resource_keys for sensor in sensors)
    assert not any(name.startswith("alerts") for name in definitions.get_top_level_resources())
    assert not any("127.0.0.1" in (sensor.description or "") for sensor in sensors)


def test_one_cause_is_one_message_with_its_end(
    webhook: Webhook, materialize: Materialize, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(instance, "json")
    assert materialize("applications").success
    watcher.poll()
    assert not webhook.messages
    with monkeypatch.context() as outage:
        outage.setenv("REDSHIFT_PORT", "1")
        run_id = materialize("applications", "node_details").run_id
        watcher.poll()
        (text,) = webhook.messages
        title, *lines = text.splitlines()
        assert title == "QuperSync, cluster sandbox: Redshift is unreachable"
        assert lines[0].startswith("Error since ") and "Check REDSHIFT_HOST and REDSHIFT_PORT" in lines[1]
        assert lines[2] == "Jobs (2): application_sync, node_details_sync" and lines[3].startswith("What to do: ")
        assert f"https://dagster.example/runs/{run_id}" in text
        materialize("applications")
        materialize("alert_events")  # another job, the same cause
        watcher.poll()
        assert len(webhook.messages) == 1
    for table in ("applications", "alert_events"):
        assert materialize(table).success
        watcher.poll()
    assert len(webhook.messages) == 1, "node_details_sync has not recovered"
    assert materialize("node_details").success
    watcher.poll()
    assert webhook.messages[1].splitlines()[0] == title and "Recovered at " in webhook.messages[1]
    assert webhook.kinds == ["failure", "success"]
    alert_ids = {re.findall("Alert ([0-9a-f]{8})", message)[0] for message in webhook.messages}
    assert len(alert_ids) == 1


def test_a_new_cause_on_the_same_job_is_a_new_message(
    webhook: Webhook, materialize: Materialize, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(instance, "json")
    for variable, value in (("REDSHIFT_PORT", "1"), ("REDSHIFT_PASSWORD", "wr0ng-s3cret")):
        with monkeypatch.context() as fault:
            fault.setenv(variable, value)
            materialize("applications")
            watcher.poll()
    titles = [message.splitlines()[0].partition(": ")[2] for message in webhook.messages]
    over, refused = "Redshift is unreachable", "Redshift refuses the login"
    assert titles == [over, over, refused] and webhook.kinds == ["failure", "success", "failure"]


def test_warnings_are_below_the_severity_of_errors(
    webhook: Webhook,
    materialize: Materialize,
    instance: dg.DagsterInstance,
    source: Query,
    bad_row: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source("INSERT INTO stv_node_storage_capacity SELECT n, 1, 2 FROM generate_series(1, 99) n")
    monkeypatch.setenv("ALERT_SEVERITY", "error")
    watcher = Watcher(instance, "json")
    assert materialize("node_details").success
    watcher.poll()
    assert not webhook.messages
    monkeypatch.delenv("ALERT_SEVERITY")
    assert materialize("node_details").success
    watcher.poll()
    (message,) = webhook.messages
    assert "check no_skipped_rows failed" in message and webhook.kinds == ["warning"]


def test_a_run_that_a_restart_ends_is_not_reported(
    webhook: Webhook, materialize: Materialize, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(instance, "json")

    def stop(*_: object, **__: object) -> None:
        raise DagsterExecutionInterruptedError  # as Dagster raises in a process that gets SIGTERM

    with monkeypatch.context() as restart:
        restart.setattr("qupersync_assets.sync.load_job.load", stop)
        with suppress(DagsterExecutionInterruptedError):
            materialize("node_details")
    (run,) = instance.get_runs()
    assert run.status is dg.DagsterRunStatus.FAILURE
    watcher.poll()
    assert not webhook.messages


def test_a_failed_check_is_reported_once_until_it_passes(
    mail: MailServer, materialize: Materialize, instance: dg.DagsterInstance, source: Query, bad_row: None
) -> None:
    watcher = Watcher(instance, "mailtos")
    for _ in range(2):
        assert materialize("node_details").success
        watcher.poll()
    # One mail per recipient.
    assert mail.box.recipients == ["me@example.com", "you@example.com"]
    assert [sent["To"] for sent in mail.box.mails] == mail.box.recipients
    for sent in mail.box.mails:
        assert sent["Subject"] == "QuperSync, cluster sandbox: check no_skipped_rows failed"
        assert sent.get_content_type() == "text/plain"
        assert "Cause: node_details_sync: 1 of 1 rows" in sent.get_content()
    source("DELETE FROM stv_node_storage_capacity")
    assert materialize("node_details").success
    watcher.poll()
    assert "Recovered at" in mail.box.mails[-1].get_content()
    source("INSERT INTO stv_node_storage_capacity VALUES (NULL, 1, 2)")
    assert materialize("node_details").success
    watcher.poll()
    assert len(mail.box.mails) == 6


def test_a_failed_maintenance_is_reported(
    webhook: Webhook, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(instance, "json")
    with monkeypatch.context() as outage:
        outage.setenv("POSTGRES_PORT", "1")
        job = build_code_location(Settings.load()).resolve_job_def("qupersync_maintenance")
        job.execute_in_process(instance=instance, raise_on_error=False)
    watcher.poll()
    (message,) = webhook.messages
    assert "Jobs (1): qupersync_maintenance" in message and "POSTGRES_PORT" in message


def test_a_job_of_another_project_is_not_reported(webhook: Webhook, instance: dg.DagsterInstance) -> None:
    @dg.op
    def fail() -> None:
        raise RuntimeError

    @dg.job
    def foreign() -> None:
        fail()

    watcher = Watcher(instance, "json")
    foreign.execute_in_process(instance=instance, raise_on_error=False)
    assert watcher.poll() == "0 alerts sent." and not webhook.messages


def test_an_alert_that_was_not_sent_is_sent_later_and_only_once(
    webhook: Webhook,
    materialize: Materialize,
    instance: dg.DagsterInstance,
    bad_row: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = Watcher(instance, "json")
    assert materialize("node_details").success
    webhook.fault = "channel_not_found"
    with pytest.raises(AlertError, match=r"ALERT_URLS: entry 1 \(json\) .*403.*channel_not_found"):
        watcher.poll()
    webhook.fault = ""
    monkeypatch.setenv("REDSHIFT_PORT", "1")
    materialize("applications")
    assert watcher.poll() == "2 alerts sent."
    assert watcher.poll() == "0 alerts sent."
    assert len(webhook.messages) == 2


def test_urls_do_not_wait_for_each_other(
    both: None,
    webhook: Webhook,
    mail: MailServer,
    materialize: Materialize,
    instance: dg.DagsterInstance,
    bad_row: None,
) -> None:
    watchers = [Watcher(instance, schema) for schema in ("json", "mailtos")]
    assert materialize("node_details").success
    webhook.fault = "fatal_error"
    with pytest.raises(AlertError, match="fatal_error"):
        watchers[0].poll()
    watchers[1].poll()
    assert len(mail.box.mails) == 2 and not webhook.messages


def test_an_alert_that_reached_one_of_two_recipients_is_not_repeated(
    mail: MailServer, materialize: Materialize, instance: dg.DagsterInstance, bad_row: None
) -> None:
    watcher = Watcher(instance, "mailtos")
    mail.box.unknown = {"you@example.com"}
    assert materialize("node_details").success
    summary = watcher.poll()
    assert summary.startswith("1 alerts sent. ALERT_URLS: entry 1 (mailtos) did not reach all")
    assert "550" in summary
    assert watcher.poll() == "0 alerts sent."
    assert mail.box.recipients == ["me@example.com"]
    mail.box.unknown.add("me@example.com")
    with pytest.raises(AlertError, match="550"):
        send_alert(AlertUrl(1, mail_url(mail)), Alert("title", "body"))


def test_no_secret_is_in_an_alert_an_error_or_a_log(
    both: None,
    webhook: Webhook,
    mail: MailServer,
    materialize: Materialize,
    instance: dg.DagsterInstance,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    watchers = [Watcher(instance, schema) for schema in ("json", "mailtos")]
    secrets = [
        environment["REDSHIFT_PASSWORD"],
        environment["POSTGRES_PASSWORD"],
        webhook.password,
        webhook.url,
        MAIL_PASSWORD,
    ]
    # A failure that quotes them all.
    monkeypatch.setenv("REDSHIFT_HOST", f"{'.'.join(map(quote_plus, secrets))}.invalid")
    materialize("applications")
    for watcher in watchers:
        watcher.poll()
    texts = [webhook.messages[0], mail.box.mails[0].as_string(), *(str(w.cursor) for w in watchers)]
    assert "***" in texts[0]
    # Nor if a service refuses.
    webhook.password += "-wrong"
    monkeypatch.setenv("ALERT_URLS", f"{webhook.url},{mail_url(mail, MAIL_PASSWORD + '-wrong')}")
    webhook.password = "another"
    monkeypatch.setenv("REDSHIFT_HOST", "no-such-host.invalid")
    materialize("node_details")
    for watcher in watchers:
        with pytest.raises(AlertError, match=r"invalid_auth|535") as refusal:
            watcher.poll()
        texts += traceback.format_exception(refusal.value)
    texts += [caplog.text, *capfd.readouterr()]
    assert not [secret for secret in secrets for text in texts if secret in text]
    assert not [record for record in caplog.records if record.name.startswith(("apprise", "urllib3.conn"))]


def test_a_mail_server_without_a_trusted_certificate_gets_no_password(
    mail: MailServer,
    materialize: Materialize,
    instance: dg.DagsterInstance,
    bad_row: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = Watcher(instance, "mailtos")
    assert materialize("node_details").success
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(AlertError, match="certificate verify failed"):
        watcher.poll()
    assert not mail.box.mails


def test_a_text_is_sent_unchanged_and_truncated(webhook: Webhook) -> None:
    url = AlertUrl(1, webhook.url)
    text = "<b>&amp; *bold* _x_ `code` \\n :smile: http://example.com/?a=1&b=2"
    send_alert(url, Alert("title", text))
    send_alert(url, Alert("title", "x" * 10 * MAX_CHARACTERS))
    assert webhook.messages[0] == f"title\n{text}"
    assert len(webhook.messages[1]) == len("title\n") + MAX_CHARACTERS + len(" ...")


def test_a_service_that_does_not_respond_is_an_error_after_the_timeout(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apprise_notifier, "READ_SECONDS", 0.5)
    webhook.delay = 5
    started = time.monotonic()
    with pytest.raises(AlertError, match=r"entry 1 \(json\).*[Rr]ead timed out"):
        send_alert(AlertUrl(1, webhook.url), Alert("title", "body"))
    assert time.monotonic() - started < webhook.delay
    assert len(webhook.messages) == 1  # the server got the alert and was waited for


def test_a_mail_server_that_does_not_greet_is_an_error_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        url = f"mailto://127.0.0.1:{port}?from=bot@example.com&to=me@example.com&cto=0.5"
        with pytest.raises(AlertError, match=r"entry 1 \(mailto\).*timed out"):
            send_alert(AlertUrl(1, url), Alert("title", "body"))
        server.settimeout(5)
        server.accept()[0].close()  # it had connected
