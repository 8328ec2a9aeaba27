"""Changes the first messages of a session where Redshift's drivers and PostgreSQL are incompatible."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_AUTHENTICATION_SASL = 10

# Parameters of Redshift drivers that PostgreSQL refuses as unknown settings. All others are passed on.
_REDSHIFT_PARAMETERS = frozenset(
    b"client_protocol_version driver_version os_version driver_discovery_version plugin_name provider_name "
    b"idp_type identity_namespace token_type idc_client_display_name".split()
)


@dataclass
class Received:
    """Counts of client messages.

    Attributes:
        tls_requests: requests for TLS.
        tls_handshakes: completed TLS handshakes.
        tls_failures: failed TLS handshakes.
        startups: start-up packets.
        passwords: messages with a password or a proof of one.
    """

    tls_requests: int = 0
    tls_handshakes: int = 0
    tls_failures: int = 0
    startups: int = 0
    passwords: int = 0


def without_redshift_parameters(packet: bytes) -> bytes:
    """Return the start-up packet without the parameters that only Redshift knows."""
    parts = packet[8:].split(b"\0")
    pairs = zip(parts[::2], parts[1::2], strict=False)
    body = b"".join(name + b"\0" + value + b"\0" for name, value in pairs if name and name not in _REDSHIFT_PARAMETERS)
    return struct.pack("!i", len(body) + 9) + packet[4:8] + body + b"\0"


def with_parameter(packet: bytes, name: bytes, value: bytes) -> bytes:
    """Return the start-up packet with an additional parameter."""
    body = packet[4:-1] + name + b"\0" + value + b"\0\0"
    return struct.pack("!i", len(body) + 4) + body


def with_short_mechanism_list(data: bytes) -> bytes:
    """Return `data` without the terminator of the list of SASL mechanisms, if its first message has one.

    PostgreSQL ends the list with an empty name. redshift_connector 2.2 reads it as a mechanism and fails.
    """
    kind: bytes
    length: int
    kind, length, code = struct.unpack_from("!cii", data.ljust(9, b"\0"))
    end = length + 1
    if kind != b"R" or code != _AUTHENTICATION_SASL or not data[:end].endswith(b"\0\0"):
        return data
    return kind + struct.pack("!i", length - 1) + data[5 : end - 1] + data[end:]


def error_response(sqlstate: str, message: str) -> bytes:
    """Build the message that refuses a connection."""
    fields = {"S": "FATAL", "V": "FATAL", "C": sqlstate, "M": message}
    body = b"".join(f"{key}{value}\0".encode() for key, value in fields.items()) + b"\0"
    return b"E" + struct.pack("!i", len(body) + 4) + body
