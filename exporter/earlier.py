"""What the settings of an earlier run were, as far as engines that it made depend on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.settings.settings import Settings


class EarlierSettings:
    """Remembers the settings; after a restart it says what has changed, and what follows."""

    key = "settings"

    def __init__(self, settings: Settings) -> None:
        policy, label = settings.policy, settings.label
        self._now: dict[str, Any] = {
            "vpns": list(policy.vpns),
            "min_replicas": policy.min_replicas,
            "max_replicas": policy.max_replicas,
            "label": f"{label.key}={label.value}",
            "ports": {vpn: f"{ports.start}-{ports.stop - 1}" for vpn, ports in policy.ports.items()},
        }
        self._before: Mapping[str, Any] = self._now

    def remember(self, _times: object) -> dict[str, Any]:
        """The settings of this run."""
        return self._now

    def restore(self, saved: Any, _times: object) -> None:
        """Take over those of an earlier run; what it did not remember counts as unchanged."""
        self._before = {**self._now, **dict(saved)}

    def changes(self) -> Iterator[str]:
        """What is not as it was, and what follows from it, a phrase each."""
        before, now = self._before, self._now
        for name in before["vpns"]:
            if name not in now["vpns"]:
                yield f"VPN '{name}' is no longer configured: its engines are left alone and not managed"
        for name in now["vpns"]:
            if name not in before["vpns"]:
                yield f"VPN '{name}' is new"
            elif before["ports"].get(name) != now["ports"][name]:
                changed = f"{before['ports'].get(name)} -> {now['ports'][name]}"
                yield f"the ports of VPN '{name}': {changed}; engines at other ports stay where they are"
        if before["label"] != now["label"]:
            changed = f"{before['label']} -> {now['label']}"
            yield f"CONTAINER_LABEL {changed}: engines with the old label are left alone, and keep their ports"
        for key in ("min_replicas", "max_replicas"):
            if before[key] != now[key]:
                more = "" if now[key] > before[key] else "; surplus engines stay, POST /control/surplus removes them"
                yield f"{key.upper()} {before[key]} -> {now[key]}{more}"
