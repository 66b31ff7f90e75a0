"""docker-compose.yml and the Dockerfile, checked without an engine: what they name exists, and nothing is exposed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from compose_spec import PyCompose

from lawn_tune.cli.main import app
from lawn_tune.settings import SETTINGS
from lawn_tune.storage import StorageUrl

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def test_it_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    text = yaml.safe_dump(compose)  # with the merge keys resolved
    assert set(PyCompose.from_yaml(text).services or {}) == set(compose["services"])
    for wrong in ("    imagine: postgres:18", "    image: [postgres]"):
        with pytest.raises(ValueError, match=r"imagine|invalid type"):
            PyCompose.from_yaml(text.replace("    image: postgres:18", wrong))


def test_services_name_only_what_is_defined(compose: dict[str, Any]) -> None:
    services = compose["services"]
    started = {"postgres", "ray-head", "dashboard"}
    assert started == {name for name, service in services.items() if "profiles" not in service}
    assert {"gpu-worker", "cpu-worker", "lawn-tune", "optuna-dashboard"} == set(services) - started
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        named = {volume.split(":")[0] for volume in service.get("volumes", []) if not volume.startswith(".")}
        assert named <= set(compose["volumes"])
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy"
            assert "healthcheck" in services[needed]


def test_nothing_listens_beyond_this_host(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for port in service.get("ports", []):
            assert str(port).startswith("127.0.0.1:")
        assert "privileged" not in service
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service.get("network_mode") != "host"


def test_secrets_come_from_files_that_are_not_committed(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    ignored = (ROOT / ".gitignore").read_text().split()
    for secret in compose["secrets"].values():
        assert secret["file"].startswith("./secrets/")
    assert "secrets/" in ignored
    assert "secrets" in (ROOT / ".dockerignore").read_text().split()
    assert not re.search(r"PASSWORD: (?!/run/secrets)", text)


def test_workers_never_see_the_password_and_no_command_holds_a_secret(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name in ("ray-head", "gpu-worker", "cpu-worker"):
        assert services[name]["secrets"] == ["ray_token"]
    for service in services.values():
        for line in [*service.get("command", []), *service.get("entrypoint", [])]:
            for secret in re.findall(r"/run/secrets/(\w+)", line):
                assert secret in service["secrets"]


def test_commands_are_understood(compose: dict[str, Any]) -> None:
    from ray.scripts.scripts import start  # seconds to import

    services = compose["services"]
    for name in ("ray-head", "gpu-worker", "cpu-worker"):
        program, command, *options = services[name]["command"]
        assert (program, command) == ("ray", "start")
        start.make_context(name, options)
    group: Any = typer.main.get_command(app)
    name, command, options = group.resolve_command(
        group.make_context("lawn-tune", ["plan"]), services["dashboard"]["command"]
    )
    assert command.make_context(name, options).params["host"] == "0.0.0.0"


def test_settings_of_the_services_are_settings(compose: dict[str, Any]) -> None:
    variables = {setting.variable for setting in SETTINGS}
    for service in compose["services"].values():
        ours = {name: value for name, value in service["environment"].items() if name.startswith("LAWN_TUNE_")}
        assert set(ours) <= variables
        if "LAWN_TUNE_STORAGE" in ours:
            StorageUrl.parse(ours["LAWN_TUNE_STORAGE"])  # refuses a password


def test_the_image_copies_every_package_and_runs_without_rights() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]}
    assert {"lawn_tune", "search_spaces", "trainables", "dashboards", "pyproject.toml", "constraints.txt"} <= copied
    assert all((ROOT / name).exists() for name in copied)
    assert any(line.startswith("USER ") and line != "USER root" for line in lines)
    tags = re.findall(r"^(?:FROM|\s+image:) (\S+)$", "\n".join(lines), re.MULTILINE)
    assert all(":" in tag for tag in tags), "images have a version"
