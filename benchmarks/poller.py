"""What users know: an honest, minimal loop that polls every 5 seconds and does one thing after the other.

`python -m benchmarks.poller DOCKER_HOST STABILIZATION_S VPN=SHARE VPN=SHARE` runs it until it is terminated. It has no
events, no parallel calls and no memory; all else is as quick as its calls are.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import docker

from tests.support.lab import IMAGE

INTERVAL_S = 5.0
LABEL = "poller.vpn"


def main() -> None:
    host, stabilization_s, *pairs = sys.argv[1:]
    api = docker.APIClient(host, version="auto", timeout=60)
    shares = {name: int(share) for name, _, share in (pair.partition("=") for pair in pairs)}
    usable_from = dict.fromkeys(shares, 0.0)
    while True:
        healthy = {vpn: _healthy(api, vpn) for vpn in shares}
        for vpn, share in shares.items():
            engines = _engines(api, vpn)
            if not healthy[vpn]:
                usable_from[vpn] = time.monotonic() + float(stabilization_s)
                if any(healthy.values()):
                    for engine in engines:
                        api.remove_container(engine["Id"], force=True)
            elif time.monotonic() >= usable_from[vpn]:
                for number in range(len(engines), share):
                    _create(api, vpn, number)
        time.sleep(INTERVAL_S)


def _healthy(api: Any, vpn: str) -> bool:
    return str(api.inspect_container(vpn)["State"]["Health"]["Status"]) == "healthy"


def _engines(api: Any, vpn: str) -> list[dict[str, Any]]:
    return list(api.containers(all=True, filters={"label": f"{LABEL}={vpn}"}))


def _create(api: Any, vpn: str, number: int) -> None:
    port = 22000 + number
    body = {
        "Image": IMAGE,
        "Cmd": ["/bin/engine"],
        "Env": [f"HTTP_PORT={port}"],
        "Labels": {LABEL: vpn, "acestream.vpn_container": vpn},
        "HostConfig": {"NetworkMode": f"container:{vpn}", "RestartPolicy": {"Name": "unless-stopped"}},
    }
    made = api.create_container_from_config(body, f"poller-{vpn}-{number}")["Id"]
    api.start(made)


if __name__ == "__main__":
    main()
