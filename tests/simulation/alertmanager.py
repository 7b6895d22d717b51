"""A simulated Alertmanager: which alerts are true, the webhooks it sends and what becomes of them, and its API."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.support.alerts import message, wire_alert

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Callable, Coroutine

    from tests.simulation.truth import Truth

RULES = ("ProbeFailed", "TunnelSlow")
OWN_RULE = "MaydayEmergencyMode"
REPEATS_AFTER_S = 600.0


class Alertmanager:
    """Alerts by their fingerprint. `deliver` hands one message to Mayday and returns what Mayday's answer was."""

    def __init__(
        self,
        truth: Truth,
        rng: random.Random,
        tally: Counter[str],
        deliver: Callable[[dict[str, Any]], Coroutine[Any, Any, None]],
    ) -> None:
        self._truth = truth
        self._rng = rng
        self._tally = tally
        self._deliver = deliver
        self.firing: dict[str, dict[str, Any]] = {}
        self.fault: str | None = None
        """What is wrong with the API: away, slow, rubbish; None: nothing."""
        self.lossy = 0.0
        self._number = 0
        self._newest: dict[str, int] = {}
        self._under_way: set[asyncio.TimerHandle] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sent: dict[tuple[str, str], dict[str, Any]] = {}

    # --- what happens ------------------------------------------------------------------------------------------------

    def change(self, vpn: str) -> str:
        """One alert about a VPN begins, ends, or is told again; what happened, for the story."""
        rule = self._rng.choice([*RULES, *RULES, OWN_RULE])
        key = f"{rule}-{vpn}"
        known = self.firing.get(key)
        if known is None:
            item = self._item(rule, vpn)
            self.firing[key] = item
            word = "fires"
        elif self._rng.random() < 0.6:
            del self.firing[key]
            item = {**known, "status": "resolved", "endsAt": self._wall()}
            word = "is resolved"
        else:
            item, word = known, "is repeated"
        self._tally[f"alert: {word}"] += 1
        says = self._truth.says[vpn]
        if word == "fires" and says == "good":
            self._tally["alert: contradicts Docker"] += 1
        self.send(item)
        return f"alert {key} {word}, Docker says {says}"

    def set(self, vpn: str, *, firing: bool) -> str:
        """One alert about a VPN fires, or ends; for the story."""
        key = f"{RULES[0]}-{vpn}"
        known = self.firing.pop(key, None)
        item = known or self._item(RULES[0], vpn)
        if firing:
            self.firing[key] = item
        self.send(item if firing else {**item, "status": "resolved", "endsAt": self._wall()})
        return f"alert {key} {'fires' if firing else 'is resolved'}"

    def _item(self, rule: str, vpn: str) -> dict[str, Any]:
        return wire_alert("firing", f"{rule}-{vpn}", self._wall(), alertname=rule, vpn=vpn, severity="critical")

    def _wall(self) -> str:
        return self._truth.clock.wall().isoformat().replace("+00:00", "Z")

    def repeat(self) -> None:
        """Tell all firing alerts again, as after `repeat_interval`."""
        for item in list(self.firing.values()):
            self._tally["alert: is repeated"] += 1
            self.send(item)

    def send(self, item: dict[str, Any]) -> None:
        """Send a webhook, which may be lost, come late (and so out of order), or twice."""
        rng = self._rng
        self._sent[item["fingerprint"], item["startsAt"]] = item
        if rng.random() < self.lossy:
            self._tally["webhook: lost"] += 1
            return
        copies = 2 if rng.random() < 0.1 else 1
        self._tally["webhook: sent twice"] += copies - 1
        for _ in range(copies):
            delay = rng.choice([0.0, 0.0, 0.5, 30.0, 300.0]) * rng.random()
            if delay > 1:
                self._tally["webhook: late"] += 1
            self._later(delay, item)

    def _later(self, delay: float, item: dict[str, Any]) -> None:
        self._number += 1
        number = self._number

        def now() -> None:
            self._under_way.discard(handle)
            if number < self._newest.get(item["fingerprint"], 0):
                self._tally["webhook: overtaken by a later one"] += 1
            self._newest[item["fingerprint"]] = max(number, self._newest.get(item["fingerprint"], 0))
            task = asyncio.get_running_loop().create_task(self._deliver(message(item)), name="webhook")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        handle = asyncio.get_running_loop().call_later(delay, now)
        self._under_way.add(handle)

    def end(self) -> list[dict[str, Any]]:
        """Everything is over: nothing is under way any more; the last words about each alert."""
        for handle in self._under_way:
            handle.cancel()
        self._under_way.clear()
        self.firing.clear()
        self.fault, self.lossy = None, 0.0
        last = [item for _, item in sorted(self._sent.items(), key=lambda pair: pair[0])]
        over = {"status": "resolved", "endsAt": self._wall()}
        return [item if item["status"] == "resolved" else {**item, **over} for item in last]

    # --- the API -----------------------------------------------------------------------------------------------------

    async def list_active(self, life: int) -> tuple[int, bytes]:
        """`GET /api/v2/alerts`."""
        asked_at = self._truth.clock.age()
        if self.fault is not None:
            self._tally[f"Alertmanager's API: {self.fault}"] += 1
        if self.fault == "away":
            raise aiohttp.ClientConnectionError("connection refused")
        if self.fault == "rubbish":
            return self._rng.choice([(200, b"{}"), (200, b"[{"), (500, b""), (200, b'[{"labels": 7}]')])
        listed = list(self.firing.values())
        self._tally["Alertmanager's API: answers"] += 1
        # The answer is as old as the question when it comes slowly.
        await asyncio.sleep(8.0 * self._rng.random() if self.fault == "slow" else 0.01)
        active = [(i["fingerprint"], i["labels"]["vpn"], i["startsAt"]) for i in listed if not own(i)]
        self._truth.listed(active, asked_at, life)
        return 200, json.dumps([{k: v for k, v in item.items() if k != "status"} for item in listed]).encode()


def own(item: dict[str, Any]) -> bool:
    """Whether Mayday's own rules made this alert."""
    return str(item["labels"]["alertname"]).startswith("Mayday")
