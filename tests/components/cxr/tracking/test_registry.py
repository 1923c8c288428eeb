"""The aliases `champion` and `challenger` move from the versions that were seen, and from no others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from components.cxr.tracking.registry import challenger_version, champion_version, register_model, set_champion
from components.cxr.tracking.tracking import joined_run, with_client

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """A registry with three versions of the model `cxr`."""
    root = Root(tmp_path_factory.mktemp("registry"))

    def register(client: MlflowClient) -> None:
        client.create_registered_model("cxr")
        for _ in range(3):
            client.create_model_version("cxr", source=Path(root.uri, "bundle").as_uri())

    with_client(root, register)
    return root


def test_a_champion_made_meanwhile_is_not_replaced(root: Root) -> None:
    assert champion_version(root, "cxr") is None
    assert champion_version(root, "never registered") is None
    set_champion(root, name="cxr", version="1", expected=None)
    set_champion(root, name="cxr", version="1", expected=None)  # has it already
    assert champion_version(root, "cxr") == "1"
    for expected in (None, "3"):
        with pytest.raises(UserError, match=r"another model has become champion since.*found version 1, expected"):
            set_champion(root, name="cxr", version="2", expected=expected)
    assert champion_version(root, "cxr") == "1"
    set_champion(root, name="cxr", version="2", expected="1")
    assert champion_version(root, "cxr") == "2"


def test_of_two_evaluations_at_once_one_is_challenger_and_the_other_is_told(
    root: Root, capsys: pytest.CaptureFixture[str]
) -> None:
    def name_versions(client: MlflowClient) -> None:
        for version in ("2", "3"):
            client.set_model_version_tag("cxr", version, "bundle_hash", f"of {version}")

    with_client(root, name_versions)
    with joined_run(root, experiment="of two") as run:
        assert challenger_version(run, "cxr") is None
        assert challenger_version(run, "never registered") is None
        both_saw = challenger_version(run, "cxr")
        keys = {
            "name": "cxr",
            "artifacts": {},
            "pathologies": [],
            "params": {},
            "description": "",
            "tags": {"decision": "promoted"},
        }
        second = register_model(run, **keys, identity={"bundle_hash": "of 3"}, instead_of=both_saw)
        first = register_model(run, **keys, identity={"bundle_hash": "of 2"}, instead_of=both_saw)
        assert (first.version, second.version) == ("2", "3")
        assert challenger_version(run, "cxr") == "3"
        told = "warning: version 3 of cxr has become challenger meanwhile and stays it; this is version 2\n"
        assert capsys.readouterr().err == told
        register_model(run, **keys, identity={"bundle_hash": "of 2"}, instead_of="3")
        assert challenger_version(run, "cxr") == "2"
