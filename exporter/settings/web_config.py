"""The web configuration file: TLS and basic authentication in the format of Prometheus' exporter toolkit.

The format is described in docs/web-configuration.md of prometheus/exporter-toolkit. What cannot be honoured here is
refused, never ignored.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.settings.files import read_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
CIPHERS = {
    f"TLS_ECDHE_{key}_WITH_{go}": f"ECDHE-{key}-{name}"
    for key in ("RSA", "ECDSA")
    for go, name in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
}
"""Go's names of the suites that both Go and OpenSSL call secure, up to TLS 1.2, and OpenSSL's names."""
HEADERS = {
    "Content-Security-Policy": r"[ -~]+",
    "Strict-Transport-Security": r"[ -~]+",
    "X-Content-Type-Options": r"nosniff",
    "X-Frame-Options": r"(?i:deny|sameorigin)",
    "X-XSS-Protection": r"[ -~]+",
}
HASH = re.compile(r"\$2[aby]\$(0[4-9]|1[0-6])\$[./A-Za-z0-9]{53}")
"""A bcrypt hash of cost 4 to 16; each step doubles the time, and 16 takes some seconds."""
SIZE_LIMIT = 1024 * 1024


class WebConfigError(ValueError):
    """The file cannot be used; the message names the key and what is wrong."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: a request costs one token, one comes back every `interval_s`, and `burst` fit in."""

    interval_s: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What a web configuration file says."""

    tls: ssl.SSLContext | None = None
    allowed_sans: frozenset[str] = frozenset()
    users: Mapping[str, bytes] = field(default_factory=dict)
    """bcrypt hashes by user."""
    headers: Mapping[str, str] = field(default_factory=dict)
    rate_limit: RateLimit | None = None
    files: tuple[Path, ...] = ()
    """Every file that was read; when one of them changes, the configuration has to be read again."""


def load(path: Path) -> WebConfig:
    """Read the file, and the certificates it names (relative to its folder). Blocks.

    Raises:
        WebConfigError: it cannot be read or used.
    """
    try:
        text = read_text(path, SIZE_LIMIT)
    except ValueError as error:
        raise WebConfigError(str(error)) from error
    document = parse(text)
    known = {"tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"}
    top = _mapping({} if document is None else document, "the file", known)
    files = [path]
    tls, sans = _tls(top.get("tls_server_config"), path.parent, files)
    return WebConfig(
        tls=tls,
        allowed_sans=sans,
        users=_users(top.get("basic_auth_users")),
        headers=_headers(top.get("http_server_config")),
        rate_limit=_rate_limit(top.get("rate_limit")),
        files=tuple(files),
    )


def parse(text: str) -> object:
    """The plain values in a YAML text.

    Raises:
        WebConfigError: it is no YAML, has a key twice, or merges mappings, which can make a small text huge.
    """
    import yaml  # noqa: PLC0415 - only with such a file

    class Loader(yaml.SafeLoader):
        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if any(tag == "tag:yaml.org,2002:merge" for tag, _ in keys):
                raise WebConfigError("merging mappings by '<<' is not supported")
            if len(keys) > len(set(keys)):
                raise WebConfigError(f"names a key twice in the mapping in line {node.start_mark.line + 1}")

    try:
        return yaml.load(text, Loader)  # noqa: S506 - made from the safe one
    except WebConfigError:
        raise
    except (
        yaml.YAMLError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        # The library raises others than its own where a value does not fit its tag. Their messages may quote the file,
        # which holds secrets.
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise WebConfigError(f"is not YAML{where}") from error


def _mapping(value: object, where: str, known: set[str] | None = None) -> dict[str, object]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise WebConfigError(f"{where} is not a mapping with texts as keys")
    for key in value:
        if known is not None and key not in known:
            raise WebConfigError(f"{where}: {key!r:.80} is unknown or not supported; there are {_list(known)}")
    return value


def _tls(value: object, folder: Path, files: list[Path]) -> tuple[ssl.SSLContext | None, frozenset[str]]:
    if value is None:
        return None, frozenset()
    where = "tls_server_config"
    known = {"cert_file", "key_file", "client_auth_type", "client_ca_file", "client_allowed_sans"}
    known |= {"min_version", "max_version", "cipher_suites", "prefer_server_cipher_suites"}
    options = _mapping(value, where, known)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    context.minimum_version = VERSIONS[_choice(options, "min_version", "TLS12", VERSIONS)]
    context.maximum_version = VERSIONS[_choice(options, "max_version", "TLS13", VERSIONS)]
    if context.minimum_version > context.maximum_version:
        raise WebConfigError(f"{where}: min_version is above max_version")
    if not _boolean(options, "prefer_server_cipher_suites", default=True):
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if suites := _texts(options, "cipher_suites"):
        if unknown := set(suites) - CIPHERS.keys():
            raise WebConfigError(f"{where}: cipher_suites: {_list(unknown)}: there are {_list(CIPHERS)}")
        context.set_ciphers(":".join(CIPHERS[suite] for suite in suites))
    certificate, key = (_file(options, name, folder, files) for name in ("cert_file", "key_file"))
    if certificate is None or key is None:
        raise WebConfigError(f"{where}: cert_file and key_file are both needed")
    try:
        # A password callback: without one OpenSSL would ask on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise WebConfigError(f"{where}: cert_file and key_file cannot be used: {_reason(error)}") from error
    sans = frozenset(_texts(options, "client_allowed_sans"))
    _client_auth(context, options, _file(options, "client_ca_file", folder, files), sans)
    return context, sans


def _client_auth(context: ssl.SSLContext, options: dict[str, object], ca: Path | None, sans: frozenset[str]) -> None:
    where = "tls_server_config"
    context.verify_mode = CLIENT_AUTH[_choice(options, "client_auth_type", "NoClientCert", CLIENT_AUTH)]
    if (ca is None) is not (context.verify_mode == ssl.CERT_NONE):
        raise WebConfigError(f"{where}: client_ca_file and a client_auth_type that verifies need each other")
    if sans and context.verify_mode != ssl.CERT_REQUIRED:
        raise WebConfigError(f"{where}: client_allowed_sans needs client_auth_type RequireAndVerifyClientCert")
    if ca is not None:
        try:
            context.load_verify_locations(ca)
        except (OSError, ValueError) as error:
            raise WebConfigError(f"{where}: client_ca_file cannot be used: {_reason(error)}") from error


def _users(value: object) -> dict[str, bytes]:
    users: dict[str, bytes] = {}
    for name, hashed in _mapping({} if value is None else value, "basic_auth_users").items():
        if not name or ":" in name:
            raise WebConfigError("basic_auth_users: a user's name is empty or has a colon in it")
        if not isinstance(hashed, str) or not HASH.fullmatch(hashed):
            raise WebConfigError(f"basic_auth_users: {name!r:.80} has no bcrypt hash of a cost from 4 to 16")
        users[name] = hashed.encode()
    return users


def _headers(value: object) -> dict[str, str]:
    where = "http_server_config"
    options = _mapping({} if value is None else value, where, {"http2", "headers"})
    _boolean(options, "http2", default=True)  # accepted and without effect: clients fall back to HTTP/1.1
    wanted = _mapping({} if options.get("headers") is None else options["headers"], f"{where}: headers", set(HEADERS))
    headers: dict[str, str] = {}
    for name, text in wanted.items():
        if not isinstance(text, str) or (text and not re.fullmatch(HEADERS[name], text)):
            raise WebConfigError(f"{where}: headers: {name} has a value that is not accepted")
        if text:
            headers[name] = text
    return headers


def _rate_limit(value: object) -> RateLimit | None:
    if value is None:
        return None
    options = _mapping(value, "rate_limit", {"interval", "burst"})
    interval, burst = options.get("interval", 0), options.get("burst", 0)
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)", interval) if isinstance(interval, str) else None
    if match is None and not (isinstance(interval, int | str) and interval in (0, "0")):
        raise WebConfigError("rate_limit: interval is not a duration such as 100ms or 1s")
    if isinstance(burst, bool) or not isinstance(burst, int) or not 0 <= burst <= 1_000_000:
        raise WebConfigError("rate_limit: burst is not a whole number from 0 to 1000000")
    seconds = float(match[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0
    if seconds and not burst:
        raise WebConfigError("rate_limit: interval without burst would refuse every request; set burst to 1 or more")
    return RateLimit(seconds, burst) if seconds else None


def _file(options: dict[str, object], name: str, folder: Path, files: list[Path]) -> Path | None:
    value = options.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or "\0" in value:
        raise WebConfigError(f"tls_server_config: {name} is not a path")
    files.append(folder / value)
    return files[-1]


def _choice(options: dict[str, object], name: str, default: str, choices: Collection[str]) -> str:
    value = options.get(name, default)
    if not isinstance(value, str) or value not in choices:
        raise WebConfigError(f"tls_server_config: {name} is none of {_list(choices)}")
    return value


def _boolean(options: dict[str, object], name: str, *, default: bool) -> bool:
    value = options.get(name, default)
    if not isinstance(value, bool):
        raise WebConfigError(f"{name} is neither true nor false")
    return value


def _texts(options: dict[str, object], name: str) -> list[str]:
    value = options.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise WebConfigError(f"tls_server_config: {name} is not a list of texts")
    return value


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
