"""Each system's checks of prompts, learned spans, losses and words about evidence: system -> stem -> check."""

from systems import _chat_moai as moai
from systems._chat import llava
from systems._chat_cogvlm import cogvlm
from systems._chat_deepseek import deepseek
from systems._chat_internvl import internvl, monkey
from systems._chat_minicpmv import minicpmv
from systems._chat_minigpt4 import minigpt4
from systems._chat_owl import owl
from systems._chat_qwen import qwen2vl, qwenvl
from systems._chat_sphinx import sphinx
from systems._loss import losses

VICUNA = {
    "vicuna_v1": ("vicuna_v1", "vicuna"),
    "llava_v1": ("llava_v1", "vicuna"),
    "v1_mmtag": ("v1_mmtag", "vicuna"),
    "plain": ("plain", ""),
}
"""The fixture's name of a template: ours, and the rule by which the authors count its labels."""

OLDER = {name: (ours, counting and "older_vicuna") for name, (ours, counting) in VICUNA.items()}

LLAVA = {
    **VICUNA,
    "llava_llama_2": ("llava_llama_2", "llama_2"),
    "mistral_instruct": ("mistral_instruct", "llama_2"),
    "llama_2": ("llama_2", "llama_2"),
    "mpt": ("mpt", "llava_mpt"),
    "chatml_direct": ("chatml_direct", "llava_mpt"),
}

NEXT = {
    **LLAVA,
    "chatml_direct": ("chatml_direct", "next_mpt"),
    "qwen_1_5": ("qwen_1_5", ""),
    "llava_llama_3": ("llava_llama_3", ""),
    "gemma_instruct": ("gemma_instruct", "next_gemma"),
}

MGM = {
    **LLAVA,
    "mistral_instruct": ("mgm_mistral", "llama_2"),
    "chatml_direct": ("chatml_direct", "mgm_mpt"),
    "llama_3": ("mgm_llama_3", "mgm_llama_3"),
    "gemma": ("mgm_gemma", "mgm_gemma"),
}

TEXTS = {
    "llava": {"chat": llava(LLAVA), "loss": losses},
    "llava_next": {"chat": llava(NEXT, place="front if single")},
    "vip_llava": {"chat": llava(OLDER)},
    "llava_uhd": {"chat": llava(OLDER)},
    "llava_hr": {"chat": llava(OLDER)},
    "mgm": {"chat": llava(MGM)},
    "monkey": {"chat": monkey},
    "internvl": {"chat": internvl, "loss": losses},
    "minigpt4": {"chat": minigpt4},
    "minicpmv": {"chat": minicpmv},
    "qwenvl": {"chat": qwenvl},
    "qwen2vl": {"chat": qwen2vl},
    "cogvlm": {"chat": cogvlm},
    "mplug_owl": {"chat": owl},
    "sphinx": {"chat": sphinx},
    "deepseekvl": {"chat": deepseek},
    "moai": {"chat": moai.chat, "verbalisation": moai.verbalisation},
}
