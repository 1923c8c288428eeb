"""The alias `champion` moves from the version that was compared, and from no other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from components.cxr.errors import UserError
from components.cxr.storage.storage import Root
from components.cxr.tracking.registry import champion_version, set_champion
from components.cxr.tracking.tracking import with_client

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
