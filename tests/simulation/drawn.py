"""The settings of one simulated life, drawn from its seed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.settings.settings import from_environment
from tests.simulation.network import ALERTMANAGER, SECRET
from tests.support.settings import vpn_variables

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from exporter.settings.settings import Settings

ALERT_EXPIRY_S = 1200.0


def draw_settings(rng: random.Random, directory: Path, *, field: bool) -> tuple[Settings, float]:
    """Two to five VPNs, odd numbers of engines, few ports, with and without Alertmanager's API.

    With `field`, also how long a failure lasts before engines are evacuated, which is returned besides.
    """
    count = rng.choice([2, 2, 2, 3, 4, 5])
    minimum = rng.choice([0, 1, 2, 3, 5, 7, 10])
    names = [f"vpn{number}" for number in range(1, count + 1)]
    environment = {
        **vpn_variables(*names),
        "MIN_REPLICAS": str(minimum),
        "MAX_REPLICAS": str(minimum + rng.choice([0, 1, minimum, 2 * minimum])),
        "EMERGENCY_CAPACITY": rng.choice(["reduced", "share", "full"]),
        "ENGINE_STOP_TIMEOUT_S": rng.choice(["0", "0", "3"]),
        "API_KEY": SECRET,
        "WEBHOOK_TOKEN": SECRET,
        "STATE_DIR": str(directory),
    }
    if rng.random() < 0.15:
        few = max(rng.choice([2, 4, 6]), -(-minimum // count))
        for number in range(1, count + 1):
            environment[f"GLUETUN_PORT_RANGE_{number}"] = f"{19000 + 100 * number}-{19000 + 100 * number + few - 1}"
    if rng.random() < 0.5:
        environment["ALERTMANAGER_URL"] = ALERTMANAGER
    delay_s = rng.choice([0, 5, 5, 20]) if field else 5
    environment["EVACUATION_DELAY_S"] = str(delay_s)
    return replace(from_environment(environment), alert_expiry_s=ALERT_EXPIRY_S), float(delay_s)
