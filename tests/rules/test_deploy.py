"""What docker-compose.yml brings up: valid, wired, with the least of privileges, and every file read by its program."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rules.shipped import ALERTS, promtool

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name in SERVICES if not name.startswith("gluetun")]
"""Gluetun makes network interfaces: it needs root and NET_ADMIN."""
ALERTMANAGER = ROOT / "deploy/alertmanager/alertmanager.yml"


def test_the_compose_file_keeps_to_the_specification() -> None:
    """The Compose specification's own schema finds no fault."""
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        "docker-compose.yml",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_mayday_alone_is_the_same_mayday() -> None:
    """deploy/mayday-only.yml keeps to the specification, and its proxy and Mayday are those of docker-compose.yml."""
    path = ROOT / "deploy/mayday-only.yml"
    alone = yaml.safe_load(path.read_text())
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert alone["services"].keys() == {"docker-proxy", "mayday"}
    assert alone["services"]["docker-proxy"] == SERVICES["docker-proxy"]
    ours, theirs = SERVICES["mayday"], alone["services"]["mayday"]
    elsewhere = {"build", "env_file", "environment", "networks"}
    assert {key: value for key, value in ours.items() if key not in elsewhere} == {
        key: value for key, value in theirs.items() if key not in elsewhere
    }
    for name in ("build", "env_file"):
        assert (path.parent / theirs[name]).resolve() == (ROOT / ours[name]).resolve()
    assert theirs["environment"].items() <= ours["environment"].items()
    assert alone["networks"]["docker-proxy"] == COMPOSE["networks"]["docker-proxy"]


def test_everything_to_fill_in_is_in_the_example() -> None:
    """Each variable of docker-compose.yml is in .env.example, and each of .env.example is documented as somebody's."""
    example = dict(re.findall(r"^([A-Z_0-9]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    used = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    assert used
    assert used <= example.keys()


@pytest.mark.parametrize("guide", ["compose", "existing"])
def test_the_settings_that_a_new_user_ends_up_with_are_good(guide: str, tmp_path: Path) -> None:
    """.env.example, with what the compose file or the guide for an existing stack adds, passes `--check-config`."""
    settings = dict(re.findall(r"^([A-Z_0-9]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    if guide == "compose":
        settings |= SERVICES["mayday"]["environment"]
    else:
        settings |= yaml.safe_load((ROOT / "deploy/mayday-only.yml").read_text())["services"]["mayday"]["environment"]
        lines = re.findall(r"^ {7}([A-Z_0-9]+)=(.*)$", (ROOT / "docs/existing-stack.md").read_text(), re.MULTILINE)
        assert len(lines) > 5
        settings |= dict(lines)
    (tmp_path / "secret").write_text("a-secret-that-is-long-enough")
    settings = {name: str(tmp_path / "secret") if name.endswith("_FILE") else text for name, text in settings.items()}
    command = [sys.executable, "-m", "exporter", "--check-config"]
    result = subprocess.run(
        command, env={**settings, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", OURS)
def test_a_service_has_the_least_of_privileges(name: str) -> None:
    """Not root, no capability, no new privileges, nothing writable but volumes, an image of a fixed version."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.match(r"[1-9]\d*:", service["user"])
    assert "privileged" not in service
    assert "cap_add" not in service
    assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    assert service.get("healthcheck") or "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()


def test_only_the_proxy_sees_the_docker_socket() -> None:
    """And nobody but Mayday is on the proxy's network."""
    assert [name for name, service in SERVICES.items() if "docker.sock" in str(service.get("volumes"))] == [
        "docker-proxy"
    ]
    assert {name for name, service in SERVICES.items() if "docker-proxy" in service.get("networks", ())} == {
        "docker-proxy",
        "mayday",
    }
    assert COMPOSE["networks"]["docker-proxy"] == {"internal": True}
    assert "ports" not in SERVICES["docker-proxy"]


def test_whatever_is_mounted_exists() -> None:
    """Every file and folder of this checkout that a service mounts is there; secrets are made by the script."""
    mounted = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    ]
    assert mounted
    for path in mounted:
        assert (ROOT / path).exists(), path
    script = (ROOT / "scripts/secrets.sh").read_text()
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
        assert re.search(rf"\b{name}\b", script)
    volumes = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if volume[0] not in "./"
    }
    assert volumes == COMPOSE["volumes"].keys()


def test_every_address_in_the_stack_is_a_service() -> None:
    """host:port in the configurations names a service of the stack."""
    texts = [ALERTMANAGER, ROOT / "deploy/prometheus/prometheus.yml", *(ROOT / "grafana/provisioning").rglob("*.yml")]
    found = set()
    for path in texts:
        lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
        found |= set(re.findall(r"\b([a-z][a-z-]+):(\d{4})\b", "\n".join(lines)))
    assert ("mayday", "8000") in found
    for host, _ in found - {("localhost", "9090")}:
        assert host in SERVICES, host


def test_prometheus_reads_its_configuration_and_the_rules(tmp_path: Path) -> None:
    """`promtool check config` accepts the mounted files as they lie in the container."""
    (tmp_path / "prometheus.yml").write_text((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (tmp_path / "rules").symlink_to(ROOT / "rules")
    result = promtool("check", "config", tmp_path / "prometheus.yml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len([1 for path, _ in ALERTS.values() if path.stem == 'fleet'])} rules found" in result.stdout


def routes(**labels: str) -> list[str]:
    words = [f"{name}={value}" for name, value in labels.items()]
    command = ["amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *words]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return result.stdout.strip().split(",")


def test_alertmanager_reads_its_configuration() -> None:
    """`amtool check-config` finds no fault."""
    result = subprocess.run(["amtool", "check-config", ALERTMANAGER], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_alerts_that_name_a_vpn_go_to_mayday_and_to_the_operator() -> None:
    """A probe's alert is a signal, and is not hidden from people."""
    assert routes(alertname="VpnProbeFailing", vpn="gluetun_2") == ["mayday", "operator"]


@pytest.mark.parametrize("name", ALERTS)
def test_maydays_own_alerts_never_go_to_mayday(name: str) -> None:
    """Whatever labels they carry."""
    receiver = "drills" if name == "MaydayDrill" else "operator"
    assert routes(alertname=name, vpn="gluetun_2", instance="mayday:8000") == [receiver]


def test_a_drill_pages_nobody() -> None:
    """The receiver of drills has no way out; people are told of all else."""
    receivers = {item["name"]: item for item in yaml.safe_load(ALERTMANAGER.read_text())["receivers"]}
    assert receivers["drills"] == {"name": "drills"}


def test_only_maydays_own_alerts_are_inhibited() -> None:
    """An alert that is a signal is never held back, for it would be lost; and every name in a rule is an alert."""
    config = yaml.safe_load(ALERTMANAGER.read_text())
    for rule in config["inhibit_rules"]:
        for matcher in rule["target_matchers"]:
            assert re.match(r'alertname(=|=~|!=)"Mayday', matcher)
        first = re.fullmatch(r'alertname=~?"(.*)"', rule["target_matchers"][0])
        assert first
        assert any(re.fullmatch(first[1], name) for name in ALERTS)
        source = re.fullmatch(r'alertname=~?"(.*)"', rule["source_matchers"][0])
        assert source
        assert any(re.fullmatch(source[1], name) for name in ALERTS)


def test_a_living_alert_is_repeated_before_mayday_forgets_it() -> None:
    """The route's repeat_interval, rounded up to the next group_interval, is below Mayday's expiry."""
    from exporter.settings.settings import DEFAULT_ALERT_EXPIRY_S

    route = yaml.safe_load(ALERTMANAGER.read_text())["route"]["routes"][0]
    assert route["receiver"] == "mayday"
    seconds = {"s": 1, "m": 60, "h": 3600}
    interval, repeat = (int(route[key][:-1]) * seconds[route[key][-1]] for key in ("group_interval", "repeat_interval"))
    assert interval + repeat < DEFAULT_ALERT_EXPIRY_S


def test_the_secrets_script_keeps_what_is_there(tmp_path: Path) -> None:
    """It makes three different secrets, readable by the containers' users, in a folder that keeps others out."""
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts/secrets.sh"
    script.write_text((ROOT / "scripts/secrets.sh").read_text())
    subprocess.run(["bash", script], check=True, capture_output=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert made.keys() == COMPOSE["secrets"].keys()
    assert len(set(made.values())) == 3
    assert all(re.fullmatch(r"[\w-]{30,}", text) for text in made.values())
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    assert (tmp_path / "secrets/webhook_token").stat().st_mode & 0o777 == 0o644
    subprocess.run(["bash", script], check=True, capture_output=True)
    assert made == {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}


def test_the_dashboards_that_compose_mounts_are_json() -> None:
    """Every dashboard is one JSON object with an identity of its own."""
    paths = sorted((ROOT / "grafana/dashboards").glob("*.json"))
    assert paths
    uids = [json.loads(path.read_text())["uid"] for path in paths]
    assert len(set(uids)) == len(uids)
