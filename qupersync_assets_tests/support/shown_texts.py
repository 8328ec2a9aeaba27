"""Everything that webserver and daemon show, write and store, where a secret could be."""

from __future__ import annotations

import gzip
import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psutil
from psycopg2 import sql

from qupersync_assets.defs.names import JOB_NAME
from qupersync_assets.sandbox import Sandbox
from qupersync_assets.serve.event_storage import decompress
from qupersync_assets_tests.support.demo_process import Served

REPOSITORY = '{repositoryLocationName: "qupersync", repositoryName: "__repository__"}'
JOB = REPOSITORY.replace("}", f', pipelineName: "{JOB_NAME}"}}')
ERROR = "{ message stack className causes { message stack } errorChain { error { message stack } } }"
# What the pages of the UI ask for: Deployment with its configuration, daemons and code location; Resources;
# Launchpad; Runs; Automation.
PAGES = {
    "PostgresRunStorage": "{ instance { info } }",
    "SENSOR": f"{{ instance {{ daemonHealth {{ allDaemonStatuses {{ daemonType lastHeartbeatErrors {ERROR} }} }} }} }}",
    "qupersync": "{ workspaceOrError { ... on Workspace { locationEntries { name displayMetadata { key value } "
    "locationOrLoadError { ... on RepositoryLocation { dagsterLibraryVersions { name version } } "
    f"... on PythonError {ERROR} }} }} }} }} }}",
    "postgres_io_manager": f"{{ allTopLevelResourceDetailsOrError(repositorySelector: {REPOSITORY}) "
    "{ ... on ResourceDetailsList { results { name configFields { name description defaultValueAsJson } "
    "configuredValues { key value type } nestedResources { name resource { configuredValues { key value } } } } } } }",
    "utilizedEnvVarsOrError": f"{{ utilizedEnvVarsOrError(repositorySelector: {REPOSITORY}) "
    "{ ... on EnvVarWithConsumersList { results { envVarName envVarConsumers { name } } } } }",
    "resources": f"{{ runConfigSchemaOrError(selector: {JOB}) {{ ... on RunConfigSchema {{ rootDefaultYaml "
    "allConfigTypes { key description ... on CompositeConfigType { fields { name defaultValueAsJson } } } } } }",
    JOB_NAME: "{ runsOrError { ... on Runs { results { runConfigYaml tags { key value } "
    "executionPlan { steps { key metadata { key value } } } } } } }",
    "qupersync_alerts_1_json": f"{{ sensorsOrError(repositorySelector: {REPOSITORY}) {{ ... on Sensors {{ results {{ name "
    f"sensorState {{ ticks {{ skipReason error {ERROR} }} }} }} }} }} }}",
}
LOGS = """{ logsForRun(runId: "%s") { ... on EventConnection { events { __typename ... on MessageEvent { message }
  ... on ErrorEvent { error %s } ... on EngineEvent { metadataEntries { label description } }
  ... on LogsCapturedEvent { fileKey stepKey externalStdoutUrl } } } } }"""
# The texts of Dagster's events in the rows of its tables.
COMPRESSED = re.compile(r"z1:[\w+/=]+")
CAPTURED = '{ capturedLogs(logKey: ["%s", "compute_logs", "%s"]) { stdout stderr } }'


def stored(sandbox: Sandbox) -> Iterator[str]:
    """Yield each row of the target database: those of QuperSync and of Dagster."""
    with closing(sandbox.connect_quper()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('quper', 'public')")
        for schema, table in cursor.fetchall():
            cursor.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, table)))
            yield from (COMPRESSED.sub(lambda found: decompress(found[0]), text) for (text,) in cursor.fetchall())


def command_of(process: psutil.Process) -> str:
    """Return the command line of a process, "" if the process has ended."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def page(served: Served, query: str) -> str:
    return json.dumps(served.ask(query), ensure_ascii=False)


def shown_texts(served: Served, run_id: str) -> dict[str, str]:
    """Return what a running server shows, writes and stores, by kind; with the logs of one run."""
    pages = {query: page(served, query) for query in PAGES.values()}
    for word, query in PAGES.items():
        assert word in pages[query], pages[query][:500]
    logs = served.ask(LOGS % (run_id, ERROR))
    keys = [event["fileKey"] for event in logs["logsForRun"]["events"] if event.get("fileKey")]
    debug = f"http://127.0.0.1:{served.port}/download_debug/{run_id}"
    with urllib.request.urlopen(debug, timeout=60) as answer:
        downloaded = gzip.decompress(answer.read()).decode()
    family: list[Any] = [psutil.Process(served.process.pid)]
    family += family[0].children(recursive=True)
    files = [path for path in served.project.rglob("*") if path.is_file() and path.name != ".env"]
    return {
        "pages": "\n".join(pages.values()),
        "log of the run": json.dumps(logs),
        "compute logs": "\n".join(page(served, CAPTURED % (run_id, key)) for key in keys),
        "debug file": downloaded,
        "commands": "\n".join(map(command_of, family)),
        "tables": "\n".join(stored(served.sandbox)),
        "output": served.output(),
        "files": "\n".join(path.read_text("utf-8", errors="replace") for path in files),
    }
