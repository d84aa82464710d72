"""The digest of a container image, asked of its registry: a tag says today's content, a digest always the same.

The image of every step stands in the compiled pipeline, and Kubeflow's cache takes its name for its content. So the tag
is looked up before a pipeline is compiled for a cluster. Only the registry's HTTP API is spoken: no container engine,
and no credential helper, is started. Sources: the OCI distribution specification 1.1 and Docker's token authentication.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError

SECONDS = 20.0
LARGEST = 4 * 1024 * 1024  # bytes of a manifest, as registries limit them

HUB, HUB_API, HUB_KEY = "docker.io", "registry-1.docker.io", "https://index.docker.io/v1/"

MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""An image for several platforms is known by the digest of its list, from which each node takes its own."""

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
NAME = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
TAG = re.compile(r"\w[\w.-]{0,127}")


@dataclass(frozen=True)
class Image:
    """
    >>> Image.read("registry.example:5000/team/vistune:1.0")
    Image(registry='registry.example:5000', name='team/vistune', tag='1.0', digest='')
    >>> Image.read("team/vistune").registry, Image.read("vistune:dev").registry
    ('docker.io', '')
    """

    registry: str  # empty: a name without one, which is what the nodes have under it
    name: str
    tag: str
    digest: str = ""

    @classmethod
    def read(cls, text: str) -> Image:
        """Raises VistuneError for what cannot name an image."""
        rest, _, digest = text.partition("@")
        first, slash, path = rest.partition("/")
        if slash and (first == "localhost" or "." in first or ":" in first):
            registry, rest = first, path
        else:
            registry = HUB if slash else ""
        name, _, tag = rest.partition(":")
        if not NAME.fullmatch(name) or not TAG.fullmatch(tag or "latest") or (digest and not DIGEST.fullmatch(digest)):
            raise VistuneError(
                f"{text!r} cannot name an image; expected REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST."
            )
        return cls(registry, name, tag or "latest", digest)

    @property
    def api(self) -> str:
        """The registry's address: https, but on this machine."""
        host = HUB_API if self.registry == HUB else self.registry
        return f"{'http' if local(host) else 'https'}://{host}"


def pinned(image: str) -> str:
    """`image` by digest: REGISTRY/NAME@sha256:... One that has a digest, or names no registry, is left as it is.
    Raises VistuneError when the registry does not answer, has no such tag, or does not let us in."""
    found = Image.read(image)
    if found.digest or not found.registry:
        return image
    return f"{found.registry}/{found.name}@{_ask(found)}"


def local(host: str) -> bool:
    """Whether a host (with or without port) is this machine.

    >>> local("localhost:5000"), local("127.0.0.1:5000"), local("127.example.org"), local("[::1]:5000")
    (True, True, False, True)
    """
    name = urllib.parse.urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _ask(image: Image) -> str:
    url = f"{image.api}/v2/{image.name}/manifests/{image.tag}"
    headers = {"Accept": ", ".join(MANIFESTS), "User-Agent": "vistune"}
    try:
        try:
            return _digest(url, headers)
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
            challenge = error.headers.get("WWW-Authenticate", "")
        return _digest(url, {**headers, "Authorization": _authorization(image, challenge)})
    except urllib.error.HTTPError as error:
        raise VistuneError(_refusal(image, error.code)) from None
    except (OSError, ValueError) as error:  # ValueError: an answer that is no HTTP, or no JSON
        why = getattr(error, "reason", error)
        raise VistuneError(
            f"{image.registry} does not say which image {image.name}:{image.tag} is ({why}). Check the network, or set "
            "VISTUNE_IMAGE to a digest (NAME@sha256:...)."
        ) from None


def _digest(url: str, headers: dict[str, str]) -> str:
    with _open(url, headers, "HEAD") as answer:
        found = answer.headers.get("Docker-Content-Digest", "")
    if not found:  # the header is optional; the digest is that of the bytes
        with _open(url, headers) as answer:
            data = answer.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ValueError(f"a manifest of more than {LARGEST:,} bytes")
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if not DIGEST.fullmatch(found):
        raise ValueError(f"it says {found[:80]!r}, which is no sha256 digest")
    return found


def _authorization(image: Image, challenge: str) -> str:
    """What the registry asks for: the user's name and password, or a token that its own server gives for them."""
    kind, _, rest = challenge.partition(" ")
    login = _login(image.registry)
    if kind.lower() == "basic" and login:
        return f"Basic {login}"
    fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    realm = urllib.parse.urlsplit(fields.get("realm", ""))
    if kind.lower() != "bearer" or not (realm.scheme == "https" or (realm.scheme == "http" and local(realm.netloc))):
        raise urllib.error.HTTPError("", 401, "", None, None)  # type: ignore[arg-type]
    query = {"service": fields.get("service", ""), "scope": fields.get("scope") or f"repository:{image.name}:pull"}
    given = {"Authorization": f"Basic {login}"} if login else {}
    with _open(f"{realm.geturl()}?{urllib.parse.urlencode(query)}", {"User-Agent": "vistune", **given}) as answer:
        said = json.loads(answer.read(LARGEST))
    token = said.get("token") or said.get("access_token") if isinstance(said, dict) else ""
    if not isinstance(token, str) or not token or not token.isprintable():
        raise ValueError("its server of tokens gave none")
    return f"Bearer {token}"


def _login(registry: str) -> str:
    """Name and password for a registry in base64, from the configuration that `docker login` writes and Kubernetes
    mounts from a secret: $DOCKER_CONFIG, else ~/.docker. Empty where there are none."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    for name in ("config.json", ".dockerconfigjson"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            auths = json.loads(path.read_text(encoding="utf-8")).get("auths") or {}
            keys = (registry, f"https://{registry}", *((HUB_KEY,) if registry == HUB else ()))
            found: dict[str, str] = next((auths[key] for key in keys if key in auths), {})
            login = found.get("auth") or ""
            if not login and found.get("username"):
                login = base64.b64encode(f"{found['username']}:{found['password']}".encode()).decode()
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            raise VistuneError(f"{path} is no configuration that `docker login` writes. Log in again.") from None
        return login if re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", login) else ""
    return ""


def _refusal(image: Image, status: int) -> str:
    """What the registry's answer means, and what to do."""
    where = f"{image.registry} has"
    if status == 404:
        return f"{where} no {image.name}:{image.tag}. Check VISTUNE_IMAGE, or push the image."
    if status in (401, 403):
        return (
            f"{image.registry} does not let us read {image.name} ({status}). Run `docker login {image.registry}` "
            "without a credential helper, or point DOCKER_CONFIG to a folder with the config.json of one that may."
        )
    if 300 <= status < 400:
        return f"{image.registry} sends {image.name} elsewhere ({status}), which is not followed. Name that registry."
    return (
        f"{image.registry} answers {status} for {image.name}:{image.tag}. Try later, or set VISTUNE_IMAGE to a digest "
        "(NAME@sha256:...)."
    )


def _open(url: str, headers: dict[str, str], method: str = "GET") -> Any:
    opener = urllib.request.build_opener(_NoRedirect)
    return opener.open(urllib.request.Request(url, headers=headers, method=method), timeout=SECONDS)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the authorization to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None
