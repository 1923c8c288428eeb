"""Whether a container image is there: in this machine's Docker, or in its registry over HTTP; doctor asks."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
import urllib.error
import urllib.request

from components.cxr.errors import UserError

__all__ = ["find_image"]

# of the OCI distribution specification, and Docker's rule that a registry has a dot, a port or is localhost
REFERENCE = re.compile(
    r"(?:(?P<registry>localhost|[\w-]+(?:\.[\w-]+)+|(?:[\w-]+\.)*[\w-]+(?=:\d))(?P<port>:\d+)?/)?"
    r"(?P<name>[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)
TIMEOUT_S = 20


def find_image(image: str, *, here: bool) -> str | None:
    """Where the image was found; None where that cannot be told from here.

    Args:
        here: this machine's Docker will do, as for a run on this machine.

    Raises:
        UserError: not a name of an image, or its registry does not have it.
    """
    parts = REFERENCE.fullmatch(image)
    if parts is None:
        expected = "registry/name:tag or registry/name@sha256:<64 hex digits>"
        raise UserError("bad-image-name", "not the name of an image", where=image, expected=expected)
    docker = shutil.which("docker")
    if here and docker and _succeeds([docker, "image", "inspect", image]):
        return "in this machine's Docker"
    if parts["registry"] is None:
        if here:
            return None
        remedy = "Push it to a registry and set platform.images."
        raise UserError("bad-image-name", "no registry in the image's name", where=image, remedy=remedy)
    host = parts["registry"] + (parts["port"] or "")
    status = _status(host, parts["name"], parts["digest"] or parts["tag"] or "latest")
    if status == 404:
        raise UserError(
            "no-image", "the registry does not have it", where=image, remedy="Push it, or fix platform.images."
        )
    if status == 200:
        return f"in {host}"
    # the registry wants a login or is out of reach: Docker has credentials and proxies of its own
    return f"in {host}" if docker and _succeeds([docker, "manifest", "inspect", image]) else None


def _status(host: str, name: str, reference: str) -> int | None:
    """The registry's answer to `HEAD manifest`; None where there is none."""
    scheme = "http" if host.split(":")[0] in ("localhost", "127.0.0.1") else "https"
    url = f"{scheme}://{host}/v2/{name}/manifests/{reference}"
    try:
        request = urllib.request.Request(url, method="HEAD", headers={"Accept": MANIFESTS})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (http.client.HTTPException, OSError):
        return None


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
