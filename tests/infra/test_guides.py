"""The guides are true as far as this machine can tell: blocks marked `# run` run, `kubectl create` is tried dry."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pipeline.config import load_pipeline_config

REPOSITORY = Path(__file__).parents[2]
OVERLAYS = sorted(f"overlays/{folder.name}" for folder in (REPOSITORY / "infra/kubernetes/overlays").iterdir())
GUIDES = {name: (REPOSITORY / "docs" / f"{name}.md").read_text() for name in ("gke", "onprem")}
MARKS = ("# run", "# validated", "# not run")
PATH = f"{Path(sys.executable).parent}:/usr/bin:/bin"

every_guide = pytest.mark.parametrize("guide", GUIDES)


def blocks(guide: str, *marks: str) -> list[str]:
    """The guide's shell blocks with one of these marks, in order."""
    found = re.findall(r"^```sh\n(.*?)^```$", GUIDES[guide], re.MULTILINE | re.DOTALL)
    return [block for block in found if block.splitlines()[0] in marks]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder to run blocks in: a copy of infra."""
    shutil.copytree(REPOSITORY / "infra", tmp_path / "infra")
    return tmp_path


def run(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    full = {"PATH": PATH, "HOME": str(folder), **environment}
    return subprocess.run(["bash", "-euc", script], cwd=folder, env=full, capture_output=True, text=True, check=False)


@every_guide
def test_every_block_says_how_far_it_was_checked_and_is_shell(guide: str) -> None:
    every = re.findall(r"^```sh\n(.*?)^```$", GUIDES[guide], re.MULTILINE | re.DOTALL)
    assert blocks(guide, *MARKS) == every
    assert len(every) == GUIDES[guide].count("```sh")
    for block in every:
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stderr}"


@every_guide
def test_the_blocks_that_claim_to_run_do_and_fill_in_every_placeholder(guide: str, checkout: Path) -> None:
    done = run("\n".join(blocks(guide, "# run")), checkout)
    assert done.returncode == 0, done.stderr
    kinds = [item["kind"] for item in yaml.safe_load_all(done.stdout)]
    assert {"Deployment", "StatefulSet", "Role"} <= set(kinds)
    for file in (checkout / "infra/kubernetes/overlays" / guide).glob("*.yaml"):
        text = "\n".join(line for line in file.read_text().splitlines() if not line.startswith("#"))
        assert not re.search(r"PROJECT_ID|REGION|REGISTRY|NFS_SERVER", text), text


@every_guide
def test_what_would_be_created_is_valid(guide: str, checkout: Path) -> None:
    """`kubectl create` as it stands but for --dry-run; `kubectl apply` is test_kubernetes.py's."""
    (checkout / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    script = "\n".join([blocks(guide, "# run")[0], *blocks(guide, "# validated")])
    applied = re.findall(r"^kubectl apply -[fk] (\S+)$", script, re.MULTILINE)
    assert applied == ["infra/kubernetes/base/namespace.yaml", f"infra/kubernetes/overlays/{guide}"]
    assert all((REPOSITORY / path).exists() for path in applied)
    script = re.sub(r"^kubectl apply .*", "", script, flags=re.MULTILINE)
    dry = 'kubectl() { command kubectl "$@" --dry-run=client -o yaml; echo ---; }\n'
    done = run(dry + script, checkout, REGISTRY_USER="someone", REGISTRY_PASSWORD="secret")
    assert done.returncode == 0, done.stderr
    created = [item for item in yaml.safe_load_all(done.stdout) if item]
    assert len(created) >= 2
    for item in created:
        kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)
        assert item["metadata"]["namespace"] in ("cxrflow", "kubeflow")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_are_named_but_never_contained_and_the_guide_makes_them(objects: Any, overlay: str) -> None:
    assert not objects.of_kind("Secret")
    contained = {item["metadata"]["name"] for item in objects.of_kind("ConfigMap")}
    text = GUIDES["onprem" if overlay.endswith("onprem") else "gke"]
    needed = set()
    for path, node in objects.below(objects):
        if path.endswith(("secretKeyRef", "secretRef", "imagePullSecrets")):
            assert re.search(rf"kubectl create secret \S+ {node['name']} ", text), node
            needed.add((node["name"], node.get("key")))
        elif path.endswith(("configMapRef", "configMap")) and node["name"] not in contained:
            assert f"kubectl create configmap {node['name']} " in text, node
    assert ("cxrflow-postgres", "password") in needed
    assert "--from-literal=password=" in text


@pytest.mark.parametrize("overlay", ["overlays/gke"])
def test_every_google_account_is_made_and_may_be_acted_as(objects: Any) -> None:
    (made,) = re.findall(r"^for account in (.*); do$", GUIDES["gke"], re.MULTILINE)
    allowed = set(re.findall(r"^act_as (\S+) (\S+)$", GUIDES["gke"], re.MULTILINE))
    wanted = set()
    for item in objects.of_kind("ServiceAccount"):
        if google := item["metadata"].get("annotations", {}).get("iam.gke.io/gcp-service-account"):
            place = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
            wanted.add((google.split("@")[0], place))
    assert allowed == wanted
    assert set(made.split()) == {google for google, _ in wanted}
    assert {google for google, _ in wanted} == set(re.findall(r"^grant (\S+) roles", GUIDES["gke"], re.MULTILINE))


@every_guide
def test_the_configuration_is_one_that_the_pipeline_accepts(guide: str, checkout: Path) -> None:
    done = run("\n".join(blocks(guide, "# run")), checkout)
    assert done.returncode == 0, done.stderr
    config = load_pipeline_config(checkout / "cxr.yaml")
    assert config.platform.service_account == "cxrflow-pipeline"
    (secret,) = config.platform.secrets
    assert f"kubectl create secret generic {secret.name} --namespace=kubeflow --from-literal=key=" in GUIDES[guide]
    two_nodes = re.findall(r"^```yaml\n(train:.*?)^```$", GUIDES[guide], re.MULTILINE | re.DOTALL)
    assert len(two_nodes) == (guide == "gke")
    for text in two_nodes:
        values = {**yaml.safe_load((checkout / "cxr.yaml").read_text()), **yaml.safe_load(text)}
        (checkout / "two.yaml").write_text(yaml.safe_dump(values))
        assert load_pipeline_config(checkout / "two.yaml").arguments["train"]["num_nodes"] == 2


def test_mirrored_manifests_name_the_sites_registry_only(checkout: Path) -> None:
    (checkout / "manifest.yaml").write_text(
        "image: ghcr.io/kubeflow/kfp-api-server:2.17.0\n"
        "image: mysql:8.4\nimage: chrislusf/seaweedfs:4.00\n"
        "args: [--executor-image, quay.io/argoproj/argoexec:v3.7.3]\n"
        f"image: registry.k8s.io/jobset/jobset:v0.10.1@sha256:{'0' * 64}\n"
        "apiVersion: rbac.authorization.k8s.io/v1\nvalue: http://ml-pipeline.kubeflow.svc.cluster.local:8888\n"
    )
    script = "\n".join(block for block in blocks("onprem", "# run") if "kubectl" not in block)
    done = run(f"{script}\nimages_of manifest.yaml; echo ---; mirrored manifest.yaml", checkout)
    assert done.returncode == 0, done.stderr
    images, text = done.stdout.split("---\n")
    assert images.split() == [
        "docker.io/chrislusf/seaweedfs:4.00",
        "docker.io/mysql:8.4",
        "ghcr.io/kubeflow/kfp-api-server:2.17.0",
        "quay.io/argoproj/argoexec:v3.7.3",
        "registry.k8s.io/jobset/jobset:v0.10.1",
    ]
    assert text.splitlines() == [
        "image: registry.example.org/mirror/kfp-api-server:2.17.0",
        "image: registry.example.org/mirror/mysql:8.4",
        "image: registry.example.org/mirror/seaweedfs:4.00",
        "args: [--executor-image, registry.example.org/mirror/argoexec:v3.7.3]",
        "image: registry.example.org/mirror/jobset:v0.10.1",
        "apiVersion: rbac.authorization.k8s.io/v1",
        "value: http://ml-pipeline.kubeflow.svc.cluster.local:8888",
    ]
