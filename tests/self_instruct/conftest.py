"""Hand-made annotated images, with every trap for English in their names, and a chat endpoint that misbehaves."""

import hashlib
import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vistune import english
from vistune.hashing import choose, keyed, shuffled
from vistune.records import AnnotatedImage, Annotation, Caption, Category, ImageRef, SourceFile
from vistune.self_instruct.facts import overlap

GROUPS = {
    "animal-mammal": ["cat", "black cat", "dog", "poodle", "ox", "mouse", "wolf", "two-hump camel", "bat", "ewe"],
    "animal-bird": ["bird", "owl", "penguin", "goose"],
    "animal-marine": ["octopus", "fish", "seal"],
    "animal-bug": ["fly", "ant", "butterfly", "spider"],
    "plant-flower": ["rose", "tulip"],
    "food-fruit": ["red apple", "green apple", "grapes", "cherries", "orange", "tomato"],
    "food-prepared": ["bread", "hot dog", "french fries", "sandwich", "egg"],
    "food-sweet": ["ice cream", "doughnut", "birthday cake"],
    "drink": ["glass of milk", "teacup without handle"],
    "transport-ground": ["bus", "taxi", "police car", "bicycle", "train"],
    "transport-air": ["airplane", "helicopter"],
    "musical-instrument": ["violin", "trumpet", "maracas"],
    "clothing": ["scarf", "jeans", "glasses", "woman’s hat", "t-shirt"],
    "tool": ["hammer", "axe", "bow and arrow", "ladder"],
    "office": ["scissors", "paperclip"],
    "household": ["chair", "key", "umbrella", "hourglass done"],
    "game": ["teddy bear", "kite", "yo-yo"],
    "event": ["Christmas tree", "balloon"],
    "light & video": ["television", "camera"],
}
VOCABULARY = tuple(Category(label, group) for group, labels in GROUPS.items() for label in labels)
COLOURS = ("light blue", "pale yellow", "pink", "grey", "white", "mint")
WIDTH, HEIGHT = 320, 240


def make_image(number: int, objects, background="light blue", captions=(), **changes) -> AnnotatedImage:
    """An image of (label, box) pairs."""
    groups = {c.label: c for c in VOCABULARY}
    annotations = [
        Annotation(f"{number}{i:02d}", groups.get(label, Category(label)), tuple(map(float, box)))
        for i, (label, box) in enumerate(objects)
    ]
    if background:
        whole = (0.0, 0.0, float(WIDTH), float(HEIGHT))
        annotations.append(Annotation(f"{number}99", Category(background, "background"), whole, thing=False))
    sha = hashlib.sha256(str(number).encode()).hexdigest()
    fields = {
        "id": f"toy/{number}",
        "dataset": "toy",
        "split": "train",
        "image": ImageRef(sha, WIDTH, HEIGHT, "png", f"images/{number}.png"),
        "licence": "CC0-1.0",
        "captions": tuple(Caption(f"{number}{i}", text) for i, text in enumerate(captions)),
        "objects": tuple(annotations),
        "vocabulary": VOCABULARY,
        "files": (SourceFile("instances.json", "0" * 64),),
    }
    return AnnotatedImage(**{**fields, **changes})


def random_image(number: int, seed: int = 0) -> AnnotatedImage:
    """One to six objects that do not overlap, at times several of one kind, with a caption that lists them."""
    key = (seed, "scene", number)
    count = 1 + keyed(*key, "count") % 6
    pool = shuffled([c.label for c in VOCABULARY], *key, "labels")[: max(1, count - keyed(*key, "same") % 3)]
    if keyed(*key, "one group") % 3 == 0:
        group = choose([g for g, labels in GROUPS.items() if len(labels) > 2], *key, "group")
        pool = shuffled(GROUPS[group], *key, "members")[: len(pool)]
    boxes, objects = [], []
    for i in range(count):
        label = pool[i % len(pool)]
        for trial in range(40):
            w, h = (30 + keyed(*key, i, trial, side) % 70 for side in "wh")
            x, y = keyed(*key, i, trial, "x") % (WIDTH - w), keyed(*key, i, trial, "y") % (HEIGHT - h)
            box = (x, y, x + w, y + h)
            if all(min(overlap(box[0], box[2], b[0], b[2]), overlap(box[1], box[3], b[1], b[3])) <= 0 for b in boxes):
                boxes.append(box)
                objects.append((label, box))
                break
    background = choose((*COLOURS, ""), *key, "background")
    names = list(dict.fromkeys(label for label, _ in objects))
    plain = [label for label, _ in objects]
    caption = english.join([english.amount(label, plain.count(label)) for label in names])
    return make_image(number, objects, background, [f"A picture of {caption}."])


@pytest.fixture(scope="session")
def images():
    return [random_image(n) for n in range(150)]


@pytest.fixture(scope="session")
def make():
    """`make(number, [(label, box), ...], background, captions, **fields)`"""
    return make_image


@pytest.fixture
def context(tmp_path):
    from vistune.stages import Context

    return Context(seed=0, home=tmp_path / "home", root=tmp_path)


class FakeServer:
    """An OpenAI-compatible endpoint on 127.0.0.1 that answers as told.

    `truth` maps a prompt's first and last message to the reply. `misbehave(body, n)` may return an action for the n-th
    request (from 0) with that body, else None: ("status", code, headers, json), ("reset",), ("raw", bytes),
    ("finish", reason, text), ("text", text), ("sleep", seconds). `bodies` is what arrived, `answered` what got a reply.
    """

    def __init__(self):
        self.truth, self.misbehave = {}, lambda body, n: None
        self.bodies, self.answered, self.keys = [], [], set()
        self.mutex = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                outer.handle(self)

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                """A killed client resets its connections."""

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def handle(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.mutex:
            n = self.bodies.count(body)
            self.bodies.append(body)
            self.keys.add(handler.headers["Authorization"])
        assert handler.path == "/v1/chat/completions"
        true = self.truth.get((body["messages"][0]["content"], body["messages"][-1]["content"]), "{}")
        kind, *rest = self.misbehave(body, n) or ("text", true)
        if kind == "sleep":
            time.sleep(rest[0])
            kind, rest = "text", [true]
        if kind == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
            handler.close_connection = True
            return
        if kind == "raw":
            return self.send(handler, 200, {"Content-Type": "text/html"}, rest[0])
        if kind == "status":
            return self.send(handler, rest[0], rest[1], json.dumps(rest[2]).encode())
        reason, text = rest if kind == "finish" else ("stop", rest[0])
        with self.mutex:
            self.answered.append(body)
        reply = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
        }
        self.send(handler, 200, {}, json.dumps(reply).encode())

    @staticmethod
    def send(handler, status, headers, data):
        try:
            handler.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)
        except OSError:
            handler.close_connection = True  # the client has gone, as one does that was killed

    def teach(self, images, seed=0):
        """Lets the server know a true reply for every prompt about these images."""
        for image in images:
            self.truth |= lesson(image.id, seed, image)


LESSONS = {}


def lesson(key, seed, image):
    from vistune.self_instruct.facts import Facts
    from vistune.self_instruct.grammar import compose
    from vistune.self_instruct.prompts import KINDS, load, user_message

    if (key, seed) not in LESSONS:
        facts, given = Facts(image), {}
        for kind in KINDS:
            turns = [{"question": q, "answer": a} for q, a in compose(kind, facts, seed)]
            given[load(kind).system, user_message(kind, facts, seed)] = json.dumps({"turns": turns})
        LESSONS[key, seed] = given
    return LESSONS[key, seed]


@pytest.fixture
def server(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    fake = FakeServer()
    yield fake
    fake.http.shutdown()
    fake.http.server_close()


@pytest.fixture
def corpus(tmp_path):
    """A sources folder of COCO files: `train` with eight images and a missing one, `held` for validation, and `plain`,
    of which no dialogues are wanted."""
    from PIL import Image

    from vistune.sources import AnnotationFile, Dataset, Manifest, write_manifest

    root = tmp_path / "sources"
    categories = {c.label: n for n, c in enumerate(VOCABULARY, start=1)}
    rows = [{"id": categories[c.label], "name": c.label, "supercategory": c.group} for c in VOCABULARY]
    datasets = []
    for name, split, dialogues, numbers in (
        ("train", "train", True, range(9)),
        ("held", "validation", True, range(9, 12)),
        ("plain", "train", False, range(12, 15)),
    ):
        scenes = {n: random_image(n, seed=7) for n in numbers}
        (root / name / "images").mkdir(parents=True)
        instances = {"images": [], "annotations": [], "categories": rows, "licenses": [{"id": 1, "name": "CC0-1.0"}]}
        captions = {"images": instances["images"], "annotations": []}
        for n, scene in scenes.items():
            if n != 8:
                Image.new("RGB", (WIDTH, HEIGHT), (n, 0, 0)).save(root / name / "images" / f"{n}.png")
            size = {"width": WIDTH, "height": HEIGHT, "license": 1}
            instances["images"].append({"id": n, "file_name": f"{n}.png", **size})
            captions["annotations"].append({"id": n, "image_id": n, "caption": scene.captions[0].text})
            for i, o in enumerate(scene.things):
                x1, y1, x2, y2 = o.box
                row = {"id": n * 100 + i, "image_id": n, "category_id": categories[o.category.label], "iscrowd": 0}
                instances["annotations"].append({**row, "bbox": [x1, y1, x2 - x1, y2 - y1]})
        for kind, tree in (("instances", instances), ("captions", captions)):
            (root / name / f"{kind}.json").write_text(json.dumps(tree))
        files = tuple(AnnotationFile(f"coco_{k}", f"{name}/{k}.json") for k in ("instances", "captions"))
        datasets.append(Dataset(name, split, f"{name}/images", files, dialogues=dialogues))
    write_manifest(root, Manifest(tuple(datasets)))
    return root
