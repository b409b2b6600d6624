"""The manifests for Kubernetes: their shape, and that they and Kaskad mean the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from gateway.ingress.http.routes import ROUTES
from gateway.settings.tables import Lanes, Server

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "config" / "kubernetes"
OVERLAYS = sorted((FOLDER / "overlays").iterdir())
ADMIN_PORT = 9090
KUSTOMIZE = "kustomize.config.k8s.io/v1beta1"

NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
QUANTITY = {"type": "string", "pattern": "^[0-9]+(m|Mi|Gi)?$"}
QUANTITIES = {
    "type": "object",
    "properties": {"cpu": QUANTITY, "memory": QUANTITY},
    "additionalProperties": False,
}
HANDLER = {
    "httpGet": {
        "type": "object",
        "required": ["path", "port"],
        "properties": {"path": {"type": "string", "pattern": "^/"}, "port": NAME},
        "additionalProperties": False,
    },
    "exec": {
        "type": "object",
        "required": ["command"],
        "properties": {"command": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
        "additionalProperties": False,
    },
}
SECONDS = {"type": "integer", "minimum": 1}
PROBE = {
    "type": "object",
    "properties": HANDLER
    | {"periodSeconds": SECONDS, "timeoutSeconds": SECONDS, "failureThreshold": SECONDS},
    "additionalProperties": False,
}
CONTAINER = {
    "type": "object",
    "required": ["name", "image", "resources", "securityContext", "volumeMounts"],
    "properties": {
        "name": NAME,
        "image": {"type": "string"},
        "args": {"type": "array", "items": {"type": "string"}},
        "command": {"type": "array", "items": {"type": "string"}},
        "env": {"type": "array", "items": {"type": "object", "required": ["name"]}},
        "envFrom": {"type": "array"},
        "ports": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "containerPort"],
                "properties": {"name": NAME, "containerPort": {"type": "integer"}},
                "additionalProperties": False,
            },
        },
        "startupProbe": PROBE,
        "livenessProbe": PROBE,
        "readinessProbe": PROBE,
        "lifecycle": {
            "type": "object",
            "properties": {"preStop": {"type": "object", "properties": HANDLER}},
            "additionalProperties": False,
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
        "volumeMounts": {
            "type": "array",
            "items": {"type": "object", "required": ["name", "mountPath"]},
        },
    },
    "additionalProperties": False,
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
OBJECT = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata"],
    "properties": {
        "metadata": {"type": "object", "required": ["name"], "properties": {"name": NAME}}
    },
}
VERSIONS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "Service": "v1",
    "ServiceAccount": "v1",
    "PodDisruptionBudget": "policy/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
}


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


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_every_object_has_the_shape_that_kubernetes_wants(folder: Path) -> None:
    names = set()
    for each in built(folder):
        jsonschema_rs.validate(OBJECT, each)
        assert each["apiVersion"] == VERSIONS[each["kind"]]
        names.add((each["kind"], each["metadata"]["name"]))
    for pod in pods(folder).values():
        jsonschema_rs.validate(POD, pod)
        volumes = {volume["name"] for volume in pod.get("volumes", ())} | {"data"}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for counted in said["replicas"]:
        assert ("Deployment", counted["name"]) in names


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


def test_no_file_holds_a_secret() -> None:
    for folder in OVERLAYS:
        assert all(each["kind"] != "Secret" for each in built(folder))
        containers = [c for pod in pods(folder).values() for c in pod["containers"]]
        literal = {env["name"] for c in containers for env in c["env"] if "value" in env}
        assert literal == {"KASKAD_CONFIG"}
