"""The Kubeflow Pipelines API: asked whether it is there, and its client; for submit and doctor."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from components.cxr.errors import UserError

if TYPE_CHECKING:
    from kfp import Client

__all__ = ["TOKEN_VARIABLE", "check_endpoint", "connect", "quiet_kfp"]

TOKEN_VARIABLE = "KFP_TOKEN"
HEALTH = "/apis/v2beta1/healthz"
TIMEOUT_S = 20


def check_endpoint(endpoint: str) -> str:
    """Ask the API for its health and return its address; a failure is known at once, where kfp's client tries long.

    Raises:
        UserError: nothing answers there, or something that is not the API, or it wants another token.
    """
    endpoint = endpoint.rstrip("/")
    headers = {"Authorization": f"Bearer {token}"} if (token := os.environ.get(TOKEN_VARIABLE)) else {}
    if not endpoint.startswith(("http://", "https://")):
        expected = "an address such as http://localhost:8080"
        raise UserError(
            "no-kfp-address", "no address of Kubeflow Pipelines", where="--endpoint", found=endpoint, expected=expected
        )
    try:
        request = urllib.request.Request(endpoint + HEALTH, headers=headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            json.load(answer)
    except urllib.error.HTTPError as error:
        remedy = f"Set {TOKEN_VARIABLE} to a valid token." if error.code in (401, 403) else "Check the address."
        raise UserError(
            "kfp-refuses", "Kubeflow Pipelines refuses", where=endpoint, found=error.code, remedy=remedy
        ) from None
    except OSError as error:
        found = getattr(error, "reason", None) or error
        remedy = "Check --endpoint; from outside: kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80"
        raise UserError(
            "kfp-unavailable", "Kubeflow Pipelines does not answer", where=endpoint, found=found, remedy=remedy
        ) from None
    except (http.client.HTTPException, ValueError):  # the first of a port where nobody speaks HTTP, such as gRPC's
        remedy = f"A login page, perhaps: set {TOKEN_VARIABLE}, or check the address."
        raise UserError("not-kfp", "not the API of Kubeflow Pipelines", where=endpoint, remedy=remedy) from None
    return endpoint


def connect(endpoint: str, *, namespace: str | None) -> Client:
    """kfp's own client, with the token of KFP_TOKEN where it is set.

    Args:
        namespace: the profile's, where several users share Kubeflow.

    Raises:
        UserError: see check_endpoint.
    """
    endpoint = check_endpoint(endpoint)
    from kfp import Client

    with quiet_kfp():
        return Client(endpoint, namespace=namespace or "kubeflow", existing_token=os.environ.get(TOKEN_VARIABLE))


@contextlib.contextmanager
def quiet_kfp() -> Iterator[None]:
    """Keep to itself what kfp's client prints and warns on every call."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
