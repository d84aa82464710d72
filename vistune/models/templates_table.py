"""The chat templates of all families, by the names their authors gave them where they gave one.

`TEMPLATES[name]` renders; a family takes the one its weights were trained on. Strings are exact, with the authors'
blanks, newlines and spelling. `source` names the code or documentation each was read from.
"""

from __future__ import annotations

from dataclasses import replace

from vistune.models import system_messages as said
from vistune.models.templates import Part, Policy, Side, Template

_WORDS = Policy(frozenset[Part]({"words", "end"}))
"""The blank before an answer is not learned: the authors tokenise the answer by itself."""

_WHOLE = frozenset[Part]({"header", "lead", "words", "end", "tail"})

_VICUNA = Template(
    system=said.CURIOUS_USER,
    system_side=Side(end=" "),
    user=Side("USER:", " ", " "),
    assistant=Side("ASSISTANT:", " ", "</s>"),
    place="front",
    gap="\n",
    source="haotian-liu/LLaVA llava/conversation.py, train.py preprocess_multimodal",
)

_LLAMA_2 = Template(
    system_side=Side("<<SYS>>\n", end="\n<</SYS>>\n\n"),
    system_inside=True,
    user=Side("[INST] ", end=" [/INST]", empty="skip"),
    assistant=Side(lead=" ", end=" </s>"),
    place="front",
    gap="\n",
    source="haotian-liu/LLaVA llava/conversation.py",
)

_CHATML = Template(  # without newlines between turns, LLaVA's "MPT" style
    system_side=Side("<|im_start|>system\n", end="<|im_end|>"),
    user=Side("<|im_start|>user\n", end="<|im_end|>"),
    assistant=Side("<|im_start|>assistant\n", end="<|im_end|>"),
    place="front",
    gap="\n",
    source="haotian-liu/LLaVA llava/conversation.py",
)

_CHATML_LINES = Template(  # as Qwen writes it
    system_side=Side("<|im_start|>system\n", end="<|im_end|>", tail="\n"),
    user=Side("<|im_start|>user\n", end="<|im_end|>", tail="\n"),
    assistant=Side("<|im_start|>assistant\n", end="<|im_end|>", tail="\n", empty="whole"),
    gap="\n",
)

_LLAMA_3 = Template(
    begin="<|begin_of_text|>",
    system_side=Side("<|start_header_id|>system<|end_header_id|>\n\n", end="<|eot_id|>"),
    user=Side("<|start_header_id|>user<|end_header_id|>\n\n", end="<|eot_id|>"),
    assistant=Side("<|start_header_id|>assistant<|end_header_id|>\n\n", end="<|eot_id|>", empty="whole"),
    gap="\n",
    trim=True,
)

_GEMMA = Template(
    user=Side("<start_of_turn>user\n", end="<end_of_turn>\n"),
    assistant=Side("<start_of_turn>model\n", end="<end_of_turn>\n"),
    place="front",
    gap="\n",
)

_MONKEY = Template(
    user=Side(),
    assistant=Side(end="<|endoftext|>", empty="whole"),
    image="<img>{image}</img>",
    gap=" ",
    source="Yuliang-Liu/Monkey finetune_multitask.py",
)

_INTERNVL = replace(
    _CHATML,
    system=said.SHUSHENG,
    image="<img>{image}</img>",
    place="inline",
    source="OpenGVLab/InternVL internvl/conversation.py, train/dataset.py",
)

_MINIGPT4_TEXT = Template(
    user=Side("[INST] ", end=" [/INST] "),
    assistant=Side(end="</s>", empty="whole"),
    between="<s>",
    image="<Img>{image}</Img>",
    mark="<ImageHere>",
    gap=" ",
    policy=_WORDS,
    source="Vision-CAIR/MiniGPT-4 minigpt4/models/minigpt_base.py, configs/models",
)

_MINIGPT4_CHAT = replace(
    _MINIGPT4_TEXT,
    system=said.MINIGPT4,
    system_side=Side(),
    user=Side("<s>[INST] "),
    assistant=Side(" [/INST] "),
    between="",
    source="Vision-CAIR/MiniGPT-4 minigpt4/conversation/conversation.py",
)

_COGVLM = Template(
    user=Side(),
    assistant=Side(lead=" "),
    finish="</s>",
    mark="<EOI>",
    place="after system",
    source="THUDM/CogVLM utils/utils/language.py",
)

_SPHINX = Template(
    system=said.CURIOUS_HUMAN,
    system_side=Side(end="\n\n###"),
    user=Side(" Human:", " ", "\n###", empty="whole"),
    assistant=Side(" Assistant:", " ", "\n###", empty="whole"),
    place="outside",
    order="free",
    trim=True,
    policy=_WORDS,
    source="Alpha-VLLM/LLaMA2-Accessory accessory/data/conversation",
)

_DEEPSEEK = Template(
    system=said.ASSISTANT,
    system_side=Side(end="\n\n"),
    user=Side("User:", " ", "\n\n"),
    assistant=Side("Assistant:", " ", "<｜end▁of▁sentence｜>"),
    mark="<image_placeholder>",
    order="free",
    trim=True,
    source="deepseek-ai/DeepSeek-VL utils/conversation.py, models/processing_vlm.py",
)

_MOAI_PROMPT = Template(
    system=said.MOAI,
    system_side=Side(end=" "),
    user=Side(" [UNUSED_TOKEN_146]user\n", end="[UNUSED_TOKEN_145]\n"),
    assistant=Side("[UNUSED_TOKEN_146]assistant\n", end="[UNUSED_TOKEN_145]\n"),
    place="after system",
    source="ByungKwanLee/MoAI moai/utils/utils.py",
)

TEMPLATES: dict[str, Template] = {
    # The demo's language model, and any other with ChatML
    "chatml": replace(
        _CHATML_LINES,
        assistant=Side("<|im_start|>assistant\n", end="<|im_end|>", empty="whole"),
        between="\n",
        source="SmolLM2-135M-Instruct tokenizer_config.json, without its system message",
    ),
    # LLaVA and what is built on it
    "vicuna_v1": _VICUNA,
    "llava_v1": replace(_VICUNA, system=said.CURIOUS_HUMAN),
    "v1_mmtag": replace(_VICUNA, system=said.MMTAG, image="<Image>{image}</Image>"),
    "plain": Template(
        user=Side(),
        assistant=Side(end="\n", empty="whole"),
        place="front",
        order="caption",
        source="haotian-liu/LLaVA train.py preprocess_plain",
    ),
    "llama_2": replace(_LLAMA_2, system=said.LLAMA_2_SAFE, between="<s>"),
    "llava_llama_2": replace(_LLAMA_2, system=said.ASSISTANT, between="<s>"),
    "mpt": replace(_CHATML, system=said.MPT),
    "mistral_instruct": _LLAMA_2,
    "chatml_direct": replace(_CHATML, system="Answer the questions.", source="LLaVA-VL/LLaVA-NeXT conversation.py"),
    "qwen_1_5": replace(
        _CHATML_LINES,
        system="You are a helpful assistant.",
        place="front if single",
        order="drop",
        empty_history="bare",
        policy=Policy(_WHOLE, tokens=("<|im_start|>", "<|im_end|>", "\n")),
        source="LLaVA-VL/LLaVA-NeXT train.py preprocess_qwen",
    ),
    "llava_llama_3": replace(
        _LLAMA_3,
        system=said.ASSISTANT,
        place="front if single",
        order="drop",
        empty_history="skip",
        policy=Policy(
            _WHOLE, tokens=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "\n\n")
        ),
        source="LLaVA-VL/LLaVA-NeXT train.py preprocess_llama3",
    ),
    "gemma_instruct": replace(_GEMMA, source="LLaVA-VL/LLaVA-NeXT conversation.py"),
    # Mini-Gemini
    "mgm_llama_3": replace(
        _CHATML,
        system=said.ASSISTANT,
        system_side=Side("<|start_header_id|>system<|end_header_id|>\n\n", end="<|eot_id|>"),
        user=Side("<|start_header_id|>user<|end_header_id|>\n\n", end="<|eot_id|>"),
        # Its authors wrote "system" for the assistant, and the published weights answer under that header.
        assistant=Side("<|start_header_id|>system<|end_header_id|>\n\n", end="<|eot_id|>"),
        source="dvlab-research/MGM mgm/conversation.py llama_3",
    ),
    "mgm_gemma": replace(
        _GEMMA,
        system_side=Side(),
        assistant=Side("<start_of_turn>model\n", end="<end_of_turn>\n<eos>"),
        source="dvlab-research/MGM mgm/conversation.py gemma",
    ),
    "mgm_mistral": replace(_LLAMA_2, between="<s>", source="dvlab-research/MGM mgm/conversation.py"),
    # Monkey
    "monkey": _MONKEY,  # questions hold their own " Answer: "
    "monkey_vqa": replace(_MONKEY, user=Side(end=" Answer: ")),
    # InternVL
    "internlm2-chat": replace(_INTERNVL, trim=True),
    "Hermes-2": _INTERNVL,
    "phi3-chat": replace(
        _INTERNVL,
        system_side=Side("<|system|>\n", end="<|end|>"),
        user=Side("<|user|>\n", end="<|end|>"),
        assistant=Side("<|assistant|>\n", end="<|end|>"),
    ),
    "internvl2_5": replace(
        _CHATML_LINES,
        system=said.SHUSHENG_2_5,
        image="<img>{image}</img>",
        order="free",
        empty_history="bare",
        source="OpenGVLab/InternVL train/dataset.py preprocess_internvl2_5",
    ),
    # MiniGPT-4: what it is trained on, and the demo's prompts
    "minigpt4_caption": Template(
        user=Side(),
        assistant=Side(end="\n", empty="whole"),
        mark="<ImageHere>",
        place="front",
        order="caption",
        policy=_WORDS,
        source="Vision-CAIR/MiniGPT-4 train_configs/minigpt4_stage1_pretrain.yaml",
    ),
    "minigpt4_vicuna": replace(
        _MINIGPT4_TEXT,
        user=Side("###Human: ", end=" "),
        assistant=Side("###Assistant: ", end="###", empty="whole"),
        between="",
    ),
    "minigpt_v2": _MINIGPT4_TEXT,
    "CONV_VISION_LLama2": _MINIGPT4_CHAT,
    "CONV_VISION_minigptv2": replace(_MINIGPT4_CHAT, system="", assistant=Side(" [/INST]")),
    "CONV_VISION_Vicuna0": replace(
        _MINIGPT4_CHAT,
        system_side=Side(end="###"),
        user=Side("Human: ", end="###"),
        assistant=Side("Assistant: ", end="###"),
    ),
    # MiniCPM-V
    "minicpm_v_2": Template(
        user=Side("<用户>"),
        assistant=Side("<AI>", empty="whole"),
        finish="</s>",
        gap="\n",
        around=("\n", "\n"),
        source="OpenBMB/MiniCPM-V finetune/dataset.py conversation_to_ids_minicpm",
    ),
    "minicpm_v_2_5": replace(
        _LLAMA_3,
        around=("\n", "\n"),
        order="free",
        source="OpenBMB/MiniCPM-V finetune/dataset.py conversation_to_ids_llama3",
    ),
    "minicpm_v_2_6": replace(
        _CHATML_LINES,
        image="<image_id>{index}</image_id>{image}",
        around=("\n", "\n"),
        order="free",
        source="OpenBMB/MiniCPM-V finetune/dataset.py conversation_to_ids_qwen2; its template is in the weights",
    ),
    # Qwen-VL
    "qwen_vl_base": Template(  # questions hold their own ":" or " Answer:"
        user=Side(),
        assistant=Side(lead=" ", end="<|endoftext|>", empty="whole"),
        image="<img>{image}</img>",
        source="arXiv:2308.12966, appendix B; QwenLM/Qwen-VL eval_mm/evaluate_vqa.py",
    ),
    "qwen_vl": replace(
        _CHATML_LINES,
        system="You are a helpful assistant.",
        image="Picture {n}: <img>{image}</img>",
        policy=Policy(frozenset({"words", "end", "tail"}), frozenset({"end", "tail"}), ("<|im_start|>",)),
        source="QwenLM/Qwen-VL finetune.py preprocess; tokenization_qwen.from_list_format",
    ),
    "qwen2_vl": replace(
        _CHATML_LINES,
        system="You are a helpful assistant.",
        image="<|vision_start|>{image}<|vision_end|>",
        mark="<|image_pad|>",
        gap="",
        order="free",
        source="QwenLM/Qwen2-VL README.md; the template is in the weights",
    ),
    # CogVLM and CogAgent
    "cogvlm_base": _COGVLM,
    "cogvlm_chat": replace(_COGVLM, user=Side(" [INST] ", end=" [/INST] "), assistant=Side()),
    "cogvlm_vqa": replace(_COGVLM, user=Side("Question: ", end=" Short answer:")),
    "cogvlm_chat_old": replace(_COGVLM, user=Side("Question: ", end=" Answer:"), between="\n"),
    # mPLUG-Owl
    "mplug_owl": Template(
        system=said.OWL,
        system_side=Side(),
        user=Side("\nHuman:", " "),
        assistant=Side("\nAI:", " ", "</s>", empty="bare"),
        place="own turn",
        order="free",
        policy=_WORDS,
        source="X-PLUG/mPLUG-Owl pipeline/data_utils/xgpt3_dataset.py",
    ),
    "mplug_owl2": replace(
        _VICUNA, system="", mark="<|image|>", source="X-PLUG/mPLUG-Owl mPLUG-Owl2 conversation.py, train/train.py"
    ),
    # SPHINX
    "sphinx": _SPHINX,
    "sphinx_vicuna": replace(
        _SPHINX,
        system=said.CURIOUS_USER,
        system_side=Side(end=" "),
        user=Side(" USER:", " ", " "),
        assistant=Side(" ASSISTANT:", " ", "</s>"),
    ),
    # DeepSeek-VL
    "deepseek_vl": _DEEPSEEK,
    "deepseek_vl_llama_2": replace(
        _LLAMA_2,
        system=_DEEPSEEK.system,
        assistant=Side(lead=" ", end=" </s><s>"),
        mark="<image_placeholder>",
        place="inline",
        order="free",
        trim=True,
        source=_DEEPSEEK.source,
    ),
    "deepseek_vl_plain": replace(
        _DEEPSEEK, system="", system_side=None, user=Side(), assistant=Side(end="", empty="whole")
    ),
    # MoAI
    "moai": _MOAI_PROMPT,
    "moai_demo": replace(_MOAI_PROMPT, user=Side(" USER: ", end=" "), assistant=Side("ASSISTANT:", " ", "</s>")),
}


def numbered(template: Template, form: str) -> Template:
    """The template with a number before each image: `Image-{n}: ` for several images in InternVL and `Frame-{n}: ` for
    the frames of its videos, `Picture {n}: ` for Qwen2-VL with vision ids."""
    return replace(template, image=form + template.image)
