"""The compose file cannot be run here, so what can be read off it is checked."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
PROCESSES = ("worker", "sink", "api", "batch", "notices", "fulfilment")
SECRETS = {"POSTGRES_PASSWORD", "LOYALNEST_MASTER_KEY", "LOYALNEST_SHOPIFY_SECRETS"}
# ${NAME}, ${NAME:-default}, ${NAME:?message}
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<rest>[^}]*)\}")


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = [line.removeprefix("#").split("=", 1) for line in lines if re.match(r"#?[A-Z_]+=", line)]
    return dict(pairs)


def test_it_has_the_services_of_the_house() -> None:
    assert set(SERVICES) == {"kafka", "database", "migrate", "topics", *PROCESSES}


@pytest.mark.parametrize("name", SERVICES)
def test_every_setting_is_one_the_code_knows(name: str) -> None:
    settings = [key for key in SERVICES[name]["environment"] if key.startswith("LOYALNEST_")]
    known = {f"LOYALNEST_{field.upper()}" for field in Settings.model_fields}
    assert set(settings) <= known
    assert (name in OURS) == bool(settings)


def test_the_settings_are_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # away from a .env of the developer's own
    for service in OURS.values():
        for key, value in service["environment"].items():
            filled = VARIABLE.sub(
                lambda found: found["rest"].removeprefix(":-") if ":-" in found["rest"] else "x", str(value)
            )
            monkeypatch.setenv(key, filled)
        settings = Settings()
        assert settings.kafka_servers() == "kafka:9092"
        assert settings.database_url() == "postgresql://loyalnest:x@database:5432/loyalnest"


def test_no_secret_has_a_default() -> None:
    found = [(match["name"], match["rest"]) for match in VARIABLE.finditer(TEXT)]
    assert {name for name, _ in found} >= SECRETS
    for name, rest in found:
        assert rest.startswith(":?" if name in SECRETS else ":-"), name
    for service in SERVICES.values():
        for key, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|KEY", key):
                assert VARIABLE.fullmatch(value), f"{key} is written out"


def test_the_example_names_every_variable_and_fills_in_no_secret() -> None:
    names = {match["name"] for match in VARIABLE.finditer(TEXT)}
    assert set(example()) == names
    assert {name for name, value in example().items() if not value} == SECRETS


@pytest.mark.parametrize("name", ["kafka", "database", *PROCESSES])
def test_who_answers_on_a_port_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    for port in re.findall(r":(\d+)/", " ".join(check["test"])):
        environment = SERVICES[name]["environment"]
        assert port in SERVICES[name]["command"] or int(port) == environment.get("LOYALNEST_WORKER_PORT")


def test_nobody_starts_before_what_it_needs() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            condition = how["condition"]
            assert condition in {"service_healthy", "service_completed_successfully"}, name
            assert (condition == "service_healthy") == ("healthcheck" in SERVICES[other]), (name, other)
    for name in PROCESSES:
        assert set(SERVICES[name]["depends_on"]) == {"migrate", "topics"}


def test_images_are_pinned_and_volumes_exist() -> None:
    for name, service in SERVICES.items():
        assert name in OURS or re.search(r":\d+\.\d+\.\d+", service["image"]), f"{name} has no version"
        for volume in service["volumes"]:
            assert volume.split(":")[0] in COMPOSE["volumes"]


def test_only_the_api_is_reachable_and_only_from_this_machine() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "api": ["127.0.0.1:8000:8000"]
    }


def test_the_image_installs_from_the_lock_and_does_not_run_as_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users
    assert users[-1] not in {"root", "0"}
    installs = [line for line in lines if "pip install" in line]
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
    copied = [line.split()[1] for line in lines if line.startswith("COPY ")]
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(copied) == sorted(let_in)
    assert [path for path in copied if not (ROOT / path).exists()] == []
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert {each.partition(".")[0] for each in packages} <= set(copied)
