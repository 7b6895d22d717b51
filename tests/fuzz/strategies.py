"""What is sent: values that are nearly right, and values that are nothing like it."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

from hypothesis import strategies as st

VPNS = ("gluetun", "gluetun_2")

TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        *VPNS,
        "",
        "firing",
        "resolved",
        "MayDay",
        "MaydayDown",
        "TestAlert",
        "\x00",
        "\r\nX-Injected: 1",
        "\ud800",
        "a\udcffb",
        "\u202e",
        "💥" * 20,
        "x" * 1025,
        "4",
        "1",
    ]
)
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**400), 2**63, 2**64, float("nan"), float("inf"), -0.0, 1e308])
)
TIMES = st.sampled_from(
    [
        "2026-03-04T05:06:07.891234567Z",
        "2026-03-04T05:06:07+01:00",
        "2026-03-04",
        "20260304T050607",
        "2026-W10-3",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59.999999-14:00",
        "2026-03-04T24:00:00Z",
        "2026-02-30T00:00:00Z",
        "２０２６-03-04T05:06:07Z",
        "now",
    ]
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4)


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | TIMES, _nested, max_leaves=12
)


def mostly(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Seven times out of eight what is right, else anything."""
    return st.integers(0, 7).flatmap(lambda n: ANYTHING if n == 0 else right)


def shape(required: dict[str, st.SearchStrategy[Any]], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A JSON object with most of these fields, most of them right, and perhaps one that nobody knows."""
    fields = {name: mostly(kind) for name, kind in {**required, **more}.items()}
    known = st.fixed_dictionaries({}, optional=fields) | st.fixed_dictionaries(fields)
    return st.tuples(known, st.dictionaries(TEXTS, ANYTHING, max_size=1)).map(lambda two: {**two[1], **two[0]})


LABELS = st.fixed_dictionaries(
    {"alertname": TEXTS | st.just("ProbeFailed"), "vpn": st.sampled_from(VPNS) | TEXTS},
    optional={"severity": TEXTS, "\ud83d": TEXTS, "": TEXTS},
)
ALERT = shape(
    {"status": st.sampled_from(["firing", "resolved"]), "labels": LABELS, "startsAt": TIMES},
    fingerprint=TEXTS | st.just("00c0ffee12345678"),
    endsAt=TIMES,
    annotations=st.dictionaries(TEXTS, TEXTS, max_size=2),
    generatorURL=TEXTS,
    # Grafana's own
    values=st.dictionaries(TEXTS, NUMBERS, max_size=2) | st.none(),
    valueString=TEXTS,
    silenceURL=TEXTS,
    orgId=NUMBERS,
)
MESSAGE = shape(
    {"version": st.sampled_from(["4", "1"]), "alerts": st.lists(ALERT, max_size=4)},
    receiver=TEXTS,
    status=st.sampled_from(["firing", "resolved"]),
    groupKey=TEXTS,
    truncatedAlerts=NUMBERS,
    orgId=NUMBERS,
    state=st.sampled_from(["alerting", "ok"]),
    title=TEXTS,
    message=TEXTS,
)


def encoded(value: Any) -> bytes:
    """As JSON, with all that Python's writer allows and JSON does not: NaN, lone surrogates as escapes."""
    return json.dumps(value).encode()


def twice(body: bytes) -> bytes:
    """Every first field of an object named twice."""
    return body.replace(b'{"', b'{"version": 4, "', 1)


DEEP = st.integers(1, 200_000).flatmap(
    lambda n: st.sampled_from([b"[" * n, b'{"a":' * n, b'{"version": "4", "alerts": ' + b"[" * n, b"[" * n + b"]" * n])
)
BIG_NUMBERS = st.integers(1, 20_000).map(lambda n: b'{"version": "4", "duration_seconds": ' + b"9" * n + b"}")


def bodies(value: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Bodies that hold such a value, whole, damaged, written twice, or in another encoding; and such as hold none."""
    whole = value.map(encoded)
    damaged = st.tuples(whole, st.integers(0, 400), st.binary(max_size=3)).map(
        lambda cut: cut[0][: cut[1]] + cut[2] + cut[0][cut[1] + 1 :]
    )
    foreign = st.tuples(value, st.sampled_from(["utf-8", "utf-16", "utf-32", "utf-8-sig"])).map(
        lambda two: json.dumps(two[0], ensure_ascii=False).encode(two[1], "surrogatepass")
    )
    return st.one_of(
        whole,
        whole,
        whole,
        damaged,
        foreign,
        whole.map(twice),
        ANYTHING.map(encoded),
        st.binary(max_size=200),
        DEEP,
        BIG_NUMBERS,
    )


def packed(body: bytes, coding: str) -> bytes:
    """The body in a content coding; for `broken` it only claims to be."""
    if coding == "gzip":
        return gzip.compress(body)
    return zlib.compress(body) if coding == "deflate" else body


# --- heads ------------------------------------------------------------------------------------------------------------

FIELD_BYTES = st.binary(max_size=40).map(lambda raw: bytes(b for b in raw if b >= 32 and b != 127).decode("latin-1"))
AUTHORIZATION = st.one_of(
    FIELD_BYTES,
    FIELD_BYTES.map(lambda value: f"Bearer {value}"),
    FIELD_BYTES.map(lambda value: f"Basic {value}"),
    st.sampled_from(["Basic Og==", "Basic /////w==", "Basic YTpi", "bearer", "Bearer ", "Basic", "Digest x=y", "é"]),
)
CONTENT_TYPES = st.sampled_from(
    [
        "application/json",
        "application/json; charset=nonsense",
        "application/json; charset=utf-16",
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        ";;;=",
        "",
    ]
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Content-Type": CONTENT_TYPES,
        "Accept": FIELD_BYTES
        | st.sampled_from(
            [
                "application/openmetrics-text",
                "application/openmetrics-text; version=1.0.0",
                "application/openmetrics-text; version=x.y",
                "application/openmetrics-text; version=",
                "text/plain; version=99999999999999999999; escaping=allow-utf-8",
                "text/plain;version;escaping",
                "application/openmetrics-text;escaping=values;q=nan, */*",
            ]
        ),
        "Accept-Encoding": st.sampled_from(["gzip", "br", "gzip;q=0", "*", ",,,", "identity"]) | FIELD_BYTES,
        "Cookie": FIELD_BYTES,
        "Expect": st.sampled_from(["200-ok", "", "x"]),
        "Range": st.sampled_from(["bytes=0-", "bytes=9-1", "x"]),
        "If-Modified-Since": FIELD_BYTES,
        "X-Forwarded-For": FIELD_BYTES,
        "Forwarded": FIELD_BYTES,
        "Upgrade": st.sampled_from(["websocket", "h2c", "x"]),
        "Origin": FIELD_BYTES | st.sampled_from(["null", "http://[", "http://[::1/", "http://127.0.0.1", "//"]),
        "Host": FIELD_BYTES | st.sampled_from(["[", "[::1", "localhost:x", "a:99999999", "127.0.0.1", ""]),
        "Sec-Fetch-Site": st.sampled_from(["none", "same-origin", "cross-site", "x"]),
    },
)

# --- targets ----------------------------------------------------------------------------------------------------------

SEGMENTS = st.one_of(
    st.sampled_from(
        [*VPNS, "acestream-1", "..", ".", "%00", "%2F", "%2e%2e", "%0d%0a", "%ff", "%ED%A0%80", "%", "%zz", "{x}"]
    ),
    st.text(alphabet="abcdef0123456789-_~!$&'()*+,;=:@%", min_size=1, max_size=80),
    st.text(min_size=1, max_size=6).map(
        lambda text: "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))
    ),
)
QUERY_VALUES = SEGMENTS | st.sampled_from(
    [
        "",
        "0",
        "-1",
        "1000",
        "1001",
        "9007199254740993",
        "9" * 30,
        "%D9%A3",
        "1e3",
        "mode",
        "phase",
        "signal",
        "true",
        "2025-11-07T22:03:33Z",
        "2025-11-07",
        "0001-01-01T00:00:00%2B14:00",
        "9999-12-31T23:59:59-14:00",
        "now",
        "a" * 1000,
    ]
)
QUERIES = st.lists(
    st.tuples(
        st.sampled_from(["vpn", "kind", "since", "until", "limit", "before", "usable", "name[]", "", "x"]), QUERY_VALUES
    ),
    max_size=4,
).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))
