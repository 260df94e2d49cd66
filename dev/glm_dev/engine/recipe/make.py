"""Makes one tiny checkpoint: `make.py flagship|flash|text OUTPUT`.

They are the real architectures of GLM-4.6V, GLM-4.6V-Flash and GLM-4.6 with every kind of layer, a
few hundred thousand random parameters, and a vocabulary of bytes. Dimensions keep vLLM's
constraints on its CPU back-end: head size 32, hidden sizes in multiples of 32, heads even for
tensor parallel 2, and a rope section that sums to half of the rotated part of a head.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SEED = 20251208
HIDDEN = 128
HEADS = 4
KEY_VALUE_HEADS = 2
VOCABULARY = 320
MAX_POSITIONS = 131_072
LONGEST_EDGE = 65_536
"""Pixels of one image times two frames: at most 41 tokens, so that a CPU answers at once."""

SPECIAL = (
    *("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
    *("<|image|>", "<|video|>"),
)
MARKUP = (
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
    *("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "/nothink"),
    *("<|begin_of_box|>", "<|end_of_box|>"),
)
END = ("<|endoftext|>", "<|user|>", "<|observation|>")

ANCHOR = 0
"""The hidden dimension that is the same at every position, so that its output weight is a bias."""
NEVER = -14.0
LOGITS = {
    **dict.fromkeys("abcdefghijklmnopqrstuvwxyz_", 4.0),
    **dict.fromkeys('0123456789{}[]":,.', 2.0),
    '"': 4.0,
    **dict.fromkeys(MARKUP[2:10], -1.0),
    **dict.fromkeys(END, 2.0),
    "</think>": 3.0,
    "</arg_value>": 4.5,
    # A space or a line break, as the byte-level alphabet writes them.
    "\u0120": -4.0,
    "\u010a": -4.0,
}
"""How readily the random model writes each token; all others are at NEVER.

It writes letters, ends after about a hundred of them, spells no marker from single characters
(vLLM's streaming parser knows markers by their token) and wastes no time on white space where a
grammar allows any amount of it.
"""


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Bytes, then GLM's markers, then fillers up to VOCABULARY so that every id has a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    inner.add_tokens([AddedToken(text, normalized=False) for text in MARKUP])
    missing = VOCABULARY - inner.get_vocab_size()
    inner.add_tokens([AddedToken(f"<|filler_{n}|>", normalized=False) for n in range(missing)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def text_config(kind: str, ids: dict[str, int]) -> dict[str, Any]:
    """The language model: three layers, of which a mixture of experts has a dense one first."""
    rope: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": 500_000.0,
        "partial_rotary_factor": 0.5,
    }
    if kind != "text":
        rope["mrope_section"] = [2, 3, 3]
    config: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "head_dim": 32,
        "max_position_embeddings": MAX_POSITIONS,
        "rope_parameters": rope,
        "attention_bias": True,
        "eos_token_id": [ids[text] for text in END],
        "pad_token_id": ids["<|endoftext|>"],
    }
    if kind != "flash":
        config |= {
            "moe_intermediate_size": 64,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
            "norm_topk_prob": True,
            # vLLM asks every mixture for it; transformers knows it of the text model only.
            "use_qk_norm": kind == "text",
            "routed_scaling_factor": 1.0,
        }
    return config


def vision_config() -> dict[str, Any]:
    """The vision tower: two blocks with the real patch geometry."""
    return {
        "depth": 2,
        "hidden_size": 64,
        "num_heads": 2,
        "out_hidden_size": HIDDEN,
        "intermediate_size": 256,
        "image_size": 336,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "spatial_merge_size": 2,
    }


def model(kind: str, ids: dict[str, int]) -> transformers.PreTrainedModel:
    """The random model, the same on every machine with the same packages."""
    torch.manual_seed(SEED)
    made = text_model(ids) if kind == "text" else seeing_model(kind, ids)
    lean(made, ids)
    return made.to(torch.bfloat16)


def text_model(ids: dict[str, int]) -> transformers.PreTrainedModel:
    """GLM-4.6, without its layer for multi-token prediction."""
    config = transformers.Glm4MoeConfig(**text_config("text", ids), tie_word_embeddings=False)
    return transformers.Glm4MoeForCausalLM(config)


def seeing_model(kind: str, ids: dict[str, int]) -> transformers.PreTrainedModel:
    """GLM-4.6V or GLM-4.6V-Flash: the language model behind a vision tower."""
    classes = {
        "flagship": (transformers.Glm4vMoeConfig, transformers.Glm4vMoeForConditionalGeneration),
        "flash": (transformers.Glm4vConfig, transformers.Glm4vForConditionalGeneration),
    }
    config_class, model_class = classes[kind]
    config = config_class(
        text_config=text_config(kind, ids),
        vision_config=vision_config(),
        image_token_id=ids["<|image|>"],
        video_token_id=ids["<|video|>"],
        image_start_token_id=ids["<|begin_of_image|>"],
        image_end_token_id=ids["<|end_of_image|>"],
        video_start_token_id=ids["<|begin_of_video|>"],
        video_end_token_id=ids["<|end_of_video|>"],
        tie_word_embeddings=False,
    )
    return model_class(config)


def lean(made: Any, ids: dict[str, int]) -> None:
    """Let one hidden dimension carry a constant that no layer writes, and weigh it by LOGITS."""
    words = getattr(made.model, "language_model", made.model)
    with torch.no_grad():
        words.embed_tokens.weight[:, ANCHOR] = 8.0
        for name, weight in words.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj", "down_proj.weight")):
                # The output dimension is the last but one, with the experts before it.
                weight[..., ANCHOR, :] = 0.0
        sample = torch.arange(VOCABULARY).unsqueeze(0)
        carried = float(words(input_ids=sample).last_hidden_state[..., ANCHOR].mean())
        for token, identity in ids.items():
            made.lm_head.weight[identity, ANCHOR] = LOGITS.get(token, NEVER) / carried


def processors(output: Path) -> None:
    """What tells transformers and vLLM how images and videos become patches, tried at the end."""
    common = {
        "processor_class": "Glm46VProcessor",
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "size": {"shortest_edge": 12_544, "longest_edge": LONGEST_EDGE},
    }
    write(
        output / "preprocessor_config.json",
        {"image_processor_type": "Glm46VImageProcessor", **common},
    )
    write(
        output / "video_preprocessor_config.json",
        {"video_processor_type": "Glm46VVideoProcessor", **common},
    )
    settings = json.loads((output / "tokenizer_config.json").read_text())
    write(output / "tokenizer_config.json", {**settings, "processor_class": "Glm46VProcessor"})
    transformers.AutoProcessor.from_pretrained(output)


def write(path: Path, value: object) -> None:
    """Write JSON."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def main(kind: str, output: Path) -> None:
    """Make the checkpoint in an existing folder."""
    words = tokenizer()
    ids = words.get_vocab()
    words.save_pretrained(output)
    model(kind, ids).save_pretrained(output)
    ends = {"eos_token_id": [ids[text] for text in END], "pad_token_id": ids["<|endoftext|>"]}
    write(output / "generation_config.json", ends)
    shutil.copy(Path(__file__).with_name("chat_template.jinja"), output / "chat_template.jinja")
    if kind != "text":
        processors(output)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
