"""The manifests for Kubernetes: their shape, and that they and Kaskad mean the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.ingress.http.routes import ROUTES
from gateway.settings.tables import Lanes, Server

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "config" / "kubernetes"
OVERLAYS = sorted((FOLDER / "overlays").iterdir())
MORE = {"archive": ["archive", "run"], "reports": ["report", "run"]}  # roles that not all have
ADMIN_PORT = 9090
KUSTOMIZE = "kustomize.config.k8s.io/v1beta1"

# What Kubernetes 1.37 says of these kinds in its OpenAPI document, strictly: no field that there is
# not. As the package kubernetes-validate 1.37.0 has it, without descriptions (Apache License 2.0,
# The Kubernetes Authors).
SCHEMAS = json.loads(Path(__file__).with_name("kubernetes_schemas.json").read_text())

NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
QUANTITY = {"type": "string", "pattern": "^[0-9]+(m|Mi|Gi)?$"}
QUANTITIES = {
    "type": "object",
    "properties": {"cpu": QUANTITY, "memory": QUANTITY},
    "additionalProperties": False,
}
# What Kaskad's pods have beyond what Kubernetes wants.
CONTAINER = {
    "type": "object",
    "required": ["name", "image", "resources", "securityContext", "volumeMounts"],
    "properties": {
        "name": NAME,
        "ports": {
            "type": "array",
            "items": {"required": ["name", "containerPort"], "properties": {"name": NAME}},
        },
        "resources": {
            "type": "object",
            "required": ["requests", "limits"],
            "properties": {"requests": QUANTITIES, "limits": QUANTITIES},
            "additionalProperties": False,
        },
        "securityContext": {
            "const": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        },
    },
}
POD = {
    "type": "object",
    "required": ["automountServiceAccountToken", "terminationGracePeriodSeconds", "containers"],
    "properties": {
        "automountServiceAccountToken": {"const": False},
        "securityContext": {"type": "object", "properties": {"runAsNonRoot": {"const": True}}},
        "containers": {"type": "array", "items": CONTAINER, "minItems": 1},
    },
}


def hold(each: dict[str, Any]) -> None:
    """Raises ValidationError where Kubernetes would not take it as it stands."""
    kind = SCHEMAS["kinds"][f"{each['apiVersion']} {each['kind']}"]
    jsonschema_rs.validate(kind | {"$defs": SCHEMAS["$defs"]}, each)
    jsonschema_rs.validate(NAME, each["metadata"]["name"])


def built(folder: Path) -> Iterator[dict[str, Any]]:
    """Every object of a kustomization, as it stands in its files."""
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert said["apiVersion"] == KUSTOMIZE
    for resource in said["resources"]:
        place = (folder / resource).resolve()
        if place.is_dir():
            yield from built(place)
        else:
            yield from yaml.safe_load_all(place.read_text())


def pods(folder: Path) -> dict[str, dict[str, Any]]:
    """The pods of each role by what their label says."""
    found = {}
    for each in built(folder):
        if each["kind"] in ("Deployment", "StatefulSet"):
            labels = each["spec"]["template"]["metadata"]["labels"]
            assert each["spec"]["selector"]["matchLabels"] == labels
            found[labels["app.kubernetes.io/component"]] = each["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize(
    "folder", [*OVERLAYS, *map(FOLDER.joinpath, MORE)], ids=lambda folder: folder.name
)
def test_every_object_has_the_shape_that_kubernetes_wants(folder: Path) -> None:
    names = set()
    for each in built(folder):
        hold(each)
        names.add((each["kind"], each["metadata"]["name"]))
    for pod in pods(folder).values():
        jsonschema_rs.validate(POD, pod)
        volumes = {volume["name"] for volume in pod.get("volumes", ())} | {"data"}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for counted in said.get("replicas", ()):
        assert ("Deployment", counted["name"]) in names


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "replica"), 3),
        (("spec", "replicas"), "three"),
        (("spec", "template", "spec", "containers", 0, "livenessprobe"), {}),
        (("spec", "template", "spec", "containers", 0, "lifecycle", "preStop"), {"exec": "sleep"}),
        (("spec", "template", "spec", "terminationGracePeriod"), 60),
        (("spec", "selector"), {"matchLabel": {}}),
    ],
)
def test_what_kubernetes_would_not_take_is_found(path: tuple[Any, ...], value: Any) -> None:
    (serve,) = yaml.safe_load_all((FOLDER / "base" / "serve.yaml").read_text())
    hold(serve)
    *inside, last = path
    place = serve
    for key in inside:
        place = place[key]
    place[last] = value
    with pytest.raises(jsonschema_rs.ValidationError):
        hold(serve)


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_services_budgets_and_scales_are_of_what_there_is(folder: Path) -> None:
    roles = pods(folder)
    for each in built(folder):
        spec = each.get("spec", {})
        if each["kind"] == "Service":
            pod = roles[spec["selector"]["app.kubernetes.io/component"]]
            ports = {p["name"] for container in pod["containers"] for p in container["ports"]}
            assert {port.get("targetPort", port["name"]) for port in spec["ports"]} <= ports
        if each["kind"] == "PodDisruptionBudget":
            assert spec["selector"]["matchLabels"]["app.kubernetes.io/component"] in roles
            assert spec["maxUnavailable"] == 1
        if each["kind"] == "HorizontalPodAutoscaler":
            assert spec["scaleTargetRef"]["name"] == "kaskad-serve"


def test_probes_ask_what_the_admin_port_serves_and_a_stop_has_time_to_end() -> None:
    roles = pods(FOLDER / "base")
    served = {route.path for route in ROUTES if route.on_admin_port != "no"}
    (serve,) = roles["serve"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in serve["ports"]}
    assert ports == {"http": Server().port, "admin": ADMIN_PORT}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = serve[name]["httpGet"]
        assert asked["path"] in served
        assert asked["port"] == "admin"
    assert serve["livenessProbe"]["httpGet"]["path"] != "/readyz", "Redis' absence restarts nothing"
    *_, slept = serve["lifecycle"]["preStop"]["exec"]["command"]
    stops = {
        "serve": int(slept) * 1000 + Server().stop_within_ms,
        "dispatch": Lanes().stop_within_ms,
    }
    for role, stop_ms in stops.items():
        assert roles[role]["terminationGracePeriodSeconds"] * 1000 > stop_ms
        assert roles[role]["containers"][0]["args"] == [role]


@pytest.mark.parametrize("role", MORE)
def test_a_role_that_not_all_have_is_named_where_overlays_are_explained(role: str) -> None:
    (pod,) = pods(FOLDER / role).values()
    (container,) = pod["containers"]
    assert (container["name"], container["args"]) == (role, MORE[role])
    assert CliRunner().invoke(app, [*MORE[role], "--help"]).exit_code == 0
    assert f"../../{role}" in (ROOT / "docs" / "kubernetes.md").read_text()
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert ("/var/lib/kaskad/reports" in mounted) is (role == "reports")


def test_no_file_holds_a_secret() -> None:
    for folder in (*OVERLAYS, *map(FOLDER.joinpath, MORE)):
        assert all(each["kind"] != "Secret" for each in built(folder))
        containers = [c for pod in pods(folder).values() for c in pod["containers"]]
        literal = {env["name"] for c in containers for env in c["env"] if "value" in env}
        assert literal == {"KASKAD_CONFIG"}
