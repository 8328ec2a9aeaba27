"""The first messages of a session, mended so that Redshift's drivers and PostgreSQL understand each other."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_AUTHENTICATION_SASL = 10

# What the Redshift drivers send and PostgreSQL takes for an unknown setting. Everything else is passed on.
_REDSHIFT_PARAMETERS = frozenset(
    b"client_protocol_version driver_version os_version driver_discovery_version plugin_name provider_name "
    b"idp_type identity_namespace token_type idc_client_display_name".split()
)


@dataclass
class Received:
    """What clients have sent so far: requests for TLS, handshakes done and failed, start-up packets, and the
    messages with (proofs of) passwords."""

    tls_requests: int = 0
    tls_handshakes: int = 0
    tls_failures: int = 0
    startups: int = 0
    passwords: int = 0


def without_redshift_parameters(packet: bytes) -> bytes:
    """The start-up packet with only the parameters that PostgreSQL may know."""
    parts = packet[8:].split(b"\0")
    pairs = zip(parts[::2], parts[1::2], strict=False)
    body = b"".join(
        name + b"\0" + value + b"\0" for name, value in pairs if name and name not in _REDSHIFT_PARAMETERS
    )
    return struct.pack("!i", len(body) + 9) + packet[4:8] + body + b"\0"


def with_parameter(packet: bytes, name: bytes, value: bytes) -> bytes:
    """The start-up packet with one more parameter."""
    body = packet[4:-1] + name + b"\0" + value + b"\0\0"
    return struct.pack("!i", len(body) + 4) + body


def with_short_mechanism_list(data: bytes) -> bytes:
    """`data` with the list in its first message, if that asks for SASL, ended by its last name alone.

    PostgreSQL ends the list with an empty name, which redshift_connector 2.2 takes for a mechanism and fails.
    """
    kind: bytes
    length: int
    kind, length, code = struct.unpack_from("!cii", data.ljust(9, b"\0"))
    end = length + 1
    if kind != b"R" or code != _AUTHENTICATION_SASL or not data[:end].endswith(b"\0\0"):
        return data
    return kind + struct.pack("!i", length - 1) + data[5 : end - 1] + data[end:]
