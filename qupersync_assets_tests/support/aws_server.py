"""A simulated AWS: the operations of Redshift, Redshift Serverless and Secrets Manager that logins use."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import pytest

from qupersync_assets.sandbox.gateway.relay import Gateway
from qupersync_assets_tests.support.background_server import InBackground
from qupersync_assets_tests.support.integration import Query

ROLE = "IAM:qupersync_reader"
REDSHIFT_XML = "<{0}Response xmlns='http://redshift.amazonaws.com/doc/2012-12-01/'>{1}</{0}Response>"


class Aws(BaseHTTPRequestHandler):
    """Responds to the operations, with passwords that are valid from then on; records all requests."""

    server: AwsServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        arguments = json.loads(body) if operation else dict(parse_qsl(body, keep_blank_values=True))
        operation = operation or arguments["Action"]
        self.server.calls.append((operation, arguments, dict(self.headers)))
        status, text = self.server.respond(operation, arguments)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


class AwsServer(InBackground, ThreadingHTTPServer):
    """Issues logins of ROLE for `endpoint`; `source` sets each issued password."""

    def __init__(self, source: Query, endpoint: Gateway) -> None:
        super().__init__(("127.0.0.1", 0), Aws)
        source(f'DROP ROLE IF EXISTS "{ROLE}"; CREATE ROLE "{ROLE}" LOGIN IN ROLE qupersync_reader')
        self.calls: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.secret: dict[str, Any] | str = {}
        self.failure: tuple[int, str] | None = None  # status and code of the next responses
        self.message = "refused"  # text of the failure
        self.good = True  # whether issued passwords are valid
        self.status = "available"  # of the cluster or workgroup
        self.passwords: list[str] = []
        self._source = source
        self._endpoint = endpoint

    def operations(self) -> list[str]:
        return [operation for operation, _, _ in self.calls]

    def password(self) -> str:
        self.passwords.append(token_hex())
        self._source(f"""ALTER ROLE "{ROLE}" PASSWORD '{self.passwords[-1]}'""")
        return self.passwords[-1] if self.good else "something else"

    def respond(self, operation: str, arguments: dict[str, str]) -> tuple[int, str]:
        end = datetime.now(UTC) + timedelta(minutes=15)
        endpoint = self._endpoint
        if self.failure:
            return self._error(operation, *self.failure)
        if operation == "GetSecretValue":
            secret = self.secret if isinstance(self.secret, str) else json.dumps(self.secret)
            return 200, json.dumps({"ARN": arguments["SecretId"], "SecretString": secret})
        if operation == "GetCredentials":
            login = {"dbUser": ROLE, "dbPassword": self.password(), "expiration": end.timestamp()}
            return 200, json.dumps(login)
        if operation == "GetWorkgroup":
            return 200, json.dumps(
                {
                    "workgroup": {
                        "status": self.status.upper(),
                        "endpoint": {"address": endpoint.host, "port": endpoint.port},
                    }
                }
            )
        if operation == "GetClusterCredentials" and "CustomDomainName" not in arguments:
            login = {
                "DbUser": f"IAM:{arguments['DbUser']}",
                "DbPassword": self.password(),
                "Expiration": f"{end:%FT%TZ}",
            }
            return self._result(operation, "".join(f"<{k}>{v}</{k}>" for k, v in login.items()))
        if operation == "DescribeClusters":
            at = f"<Endpoint><Address>{endpoint.host}</Address><Port>{endpoint.port}</Port></Endpoint>"
            return self._result(
                operation, f"<Clusters><Cluster><ClusterStatus>{self.status}</ClusterStatus>{at}</Cluster></Clusters>"
            )
        return self._error(operation, 404, "CustomDomainAssociationNotFoundFault")

    def _result(self, operation: str, inner: str) -> tuple[int, str]:
        return 200, REDSHIFT_XML.format(operation, f"<{operation}Result>{inner}</{operation}Result>")

    def _error(self, operation: str, status: int, code: str) -> tuple[int, str]:
        if operation in ("GetSecretValue", "GetCredentials", "GetWorkgroup"):
            return status, json.dumps({"__type": code, "message": self.message})
        return (
            status,
            f"<ErrorResponse><Error><Code>{code}</Code><Message>{escape(self.message)}</Message></Error></ErrorResponse>",
        )


def use(server: AwsServer, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let boto3 use the server, with the default key MACHINE and a profile `quper`."""
    profiles = folder / "credentials"
    profiles.write_text("[quper]\naws_access_key_id = PROFILE\naws_secret_access_key = s\n")
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "MACHINE",
        "AWS_SECRET_ACCESS_KEY": "machine-s3cret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_SHARED_CREDENTIALS_FILE": str(profiles),
        "AWS_CONFIG_FILE": str(folder / "none"),
    }.items():
        monkeypatch.setenv(name, value)
