"""Tags become digests: against a registry over HTTP that asks for tokens, lacks tags, and breaks down."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from vistune import containerimage
from vistune.containerimage import MANIFESTS, Image, pinned
from vistune.errors import VistuneError

PASSWORD = "pw-planted-0123456789"
LOGIN = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
INDEX = json.dumps({"schemaVersion": 2, "mediaType": MANIFESTS[0], "manifests": [{"digest": "sha256:" + "1" * 64}]})
DIGEST = f"sha256:{hashlib.sha256(INDEX.encode()).hexdigest()}"


class Registry(BaseHTTPRequestHandler):
    """Holds team/vistune:1.0, an image for several platforms. Its behaviour lies in the server object."""

    def log_message(self, *_):
        pass

    def answer(self, status: int, body: str = "", **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        server, url = self.server, urlsplit(self.path)
        given = self.headers.get("Authorization", "")
        server.asked.append((self.command, self.path, given))
        if url.path == "/token":
            query = parse_qs(url.query)
            assert query == {"service": ["the registry"], "scope": ["repository:team/vistune:pull"]}
            ok = given == f"Basic {LOGIN}" or server.anonymous
            return self.answer(200, json.dumps({"token": "tok-1"})) if ok else self.answer(401)
        if server.status:
            return self.answer(server.status, Location="http://127.0.0.1:9/elsewhere")
        wanted = f"Basic {LOGIN}" if server.challenge.startswith("Basic") else "Bearer tok-1"
        if server.challenge and given != wanted:
            return self.answer(401, WWW_Authenticate=server.challenge)
        assert set(self.headers["Accept"].split(", ")) == set(MANIFESTS)
        if url.path != "/v2/team/vistune/manifests/1.0":
            return self.answer(404, json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN"}]}))
        named = {"Docker_Content_Digest": server.digest} if server.digest else {}
        self.answer(200, INDEX, Content_Type=MANIFESTS[0], **named)


@pytest.fixture
def registry(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    server.asked, server.status, server.challenge, server.anonymous, server.digest = [], 0, "", False, DIGEST
    server.host = f"127.0.0.1:{server.server_port}"
    server.image = f"{server.host}/team/vistune:1.0"
    server.bearer = (
        f'Bearer realm="http://{server.host}/token",service="the registry",scope="repository:team/vistune:pull"'
    )
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def log_in(folder, host, name="config.json", **entry) -> None:
    (folder / name).write_text(json.dumps({"auths": {host: entry or {"auth": LOGIN}}}))


def test_a_tag_becomes_the_digest_of_its_list(registry):
    assert pinned(registry.image) == f"{registry.host}/team/vistune@{DIGEST}"
    assert [method for method, _, _ in registry.asked] == ["HEAD"]


def test_a_registry_that_does_not_name_the_digest_is_asked_for_the_bytes(registry):
    registry.digest = ""
    assert pinned(registry.image).endswith(DIGEST)
    assert [method for method, _, _ in registry.asked] == ["HEAD", "GET"]


def test_what_is_pinned_or_the_nodes_own_is_not_asked_about(registry):
    for image in (
        f"{registry.host}/team/vistune@{DIGEST}",
        f"{registry.host}/team/vistune:1.0@{DIGEST}",
        "vistune:dev",
    ):
        assert pinned(image) == image
    assert registry.asked == []


@pytest.mark.parametrize("name", ["config.json", ".dockerconfigjson"])
def test_a_token_for_the_mounted_login(registry, tmp_path, name):
    registry.challenge = registry.bearer
    log_in(tmp_path, registry.host, name)
    assert pinned(registry.image).endswith(DIGEST)
    assert [given for _, _, given in registry.asked] == ["", f"Basic {LOGIN}", "Bearer tok-1"]


def test_a_token_for_nobody(registry):
    registry.challenge, registry.anonymous = registry.bearer, True
    assert pinned(registry.image).endswith(DIGEST)


def test_name_and_password_themselves(registry, tmp_path):
    registry.challenge = 'Basic realm="registry"'
    log_in(tmp_path, registry.host, username="me", password=PASSWORD)
    assert pinned(registry.image).endswith(DIGEST)


def test_who_is_not_let_in_reads_what_to_do(registry, tmp_path):
    registry.challenge = registry.bearer
    log_in(tmp_path, "another.example")
    with pytest.raises(VistuneError, match=r"does not let us read team/vistune \(401\)\. Run `docker login"):
        pinned(registry.image)
    assert not any(LOGIN in given for _, _, given in registry.asked), "the login of another registry is its own"


def test_a_login_goes_over_no_plain_http_to_another_machine(registry, tmp_path):
    registry.challenge = registry.bearer.replace(f"http://{registry.host}", "http://tokens.example")
    log_in(tmp_path, registry.host)
    with pytest.raises(VistuneError, match="does not let us read"):
        pinned(registry.image)
    assert len(registry.asked) == 1


@pytest.mark.parametrize(
    ("status", "said"),
    [(404, "has no team/vistune:1.0"), (503, "answers 503"), (403, r"does not let us read"), (307, "is not followed")],
)
def test_a_refusal_is_one_sentence(registry, tmp_path, status, said):
    registry.status = status
    log_in(tmp_path, registry.host)
    with pytest.raises(VistuneError, match=said) as refused:
        pinned(registry.image)
    assert PASSWORD not in str(refused.value) and len(registry.asked) == 1


@pytest.mark.parametrize(("digest", "said"), [("sha512:" + "0" * 128, "no sha256 digest"), ("x", "no sha256 digest")])
def test_an_answer_that_is_no_digest(registry, digest, said):
    registry.digest = digest
    with pytest.raises(VistuneError, match=said):
        pinned(registry.image)


def test_nobody_there():
    with pytest.raises(VistuneError, match=r"127\.0\.0\.1:9 does not say which image v:1 is"):
        pinned("127.0.0.1:9/v:1")


def test_a_broken_configuration(registry, tmp_path):
    registry.challenge = registry.bearer
    (tmp_path / "config.json").write_text("{'auths'")
    with pytest.raises(VistuneError, match="Log in again"):
        pinned(registry.image)


@pytest.mark.parametrize("text", ["", "UPPER/x", "r.io/a b", "r.io/a:tag!", "r.io/a@sha256:12", "r.io/../x", "r.io/a/"])
def test_what_names_no_image(text):
    with pytest.raises(VistuneError, match="cannot name an image"):
        Image.read(text)


def test_where_a_registry_is_asked():
    assert Image.read("docker.io/team/vistune:1").api == "https://registry-1.docker.io"
    assert Image.read("127.example.org/v").api == "https://127.example.org"
    assert Image.read("localhost:5000/v").api == "http://localhost:5000"
    assert containerimage.local("[::1]:5000")
