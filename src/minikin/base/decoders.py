"""Where things are in a decoder: the names and axes of its weights by family, as transformers keeps them.

One row per family. Whoever cuts, trims, probes or converts a decoder reads this table; nobody else knows the names.
Axes: V vocabulary, H hidden width, Q units of all query heads, K units of all key or value heads, F neurons,
QKV (Q, K and K in one), heads (query, key and value of each head in turn), FF (gate and input in one), "" untouched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from minikin.base.errors import UserError

_NAMES: Final = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "groups": "num_key_value_heads",
    "feed_forward": "intermediate_size",
}


@dataclass(frozen=True)
class Sizes:
    """A decoder's shape; `groups` are key/value heads, each read by `heads // groups` query heads."""

    layers: int
    hidden: int
    heads: int
    groups: int
    feed_forward: int
    head_width: int


@dataclass(frozen=True)
class Layout:
    """The weights of one family: axes of every module's outputs and inputs, and the names of its sizes.

    `inner` are modules of a layer, `outer` tensors outside them. `heads_out` and `neurons_out` are the modules that
    read the heads and the neurons, `norms` those whose outputs the hidden units are ranked by. Where `bound`, the
    hidden width is always heads × head width. `flipped` weights are stored inputs first.
    """

    layers: str
    embeddings: str
    outer: Mapping[str, str]
    inner: Mapping[str, tuple[str, str]]
    heads_out: str
    neurons_out: str
    norms: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=lambda: _NAMES)
    bound: bool = False
    flipped: bool = False

    def sizes(self, config: Mapping[str, Any]) -> Sizes:
        """The shape that a configuration of this family states."""
        found: dict[str, Any] = {key: config.get(name) for key, name in self.names.items()}
        heads, hidden = int(found["heads"]), int(found["hidden"])
        return Sizes(
            int(found["layers"]),
            hidden,
            heads,
            heads if self.bound else int(found.get("groups") or heads),
            int(found["feed_forward"] or 4 * hidden),
            int(config.get("head_dim") or hidden // heads),
        )


_SPLIT: Final = {
    "self_attn.q_proj": ("Q", "H"),
    "self_attn.k_proj": ("K", "H"),
    "self_attn.v_proj": ("K", "H"),
    "self_attn.o_proj": ("H", "Q"),
    "mlp.gate_proj": ("F", "H"),
    "mlp.up_proj": ("F", "H"),
    "mlp.down_proj": ("H", "F"),
    "input_layernorm": ("H", ""),
    "post_attention_layernorm": ("H", ""),
}
_OUTER: Final = {"model.embed_tokens.weight": "VH", "model.norm.weight": "H", "lm_head.weight": "VH"}
_LLAMA: Final = Layout(
    "model.layers",
    "model.embed_tokens.weight",
    _OUTER,
    _SPLIT,
    "self_attn.o_proj",
    "mlp.down_proj",
    ("input_layernorm", "post_attention_layernorm"),
)
_QUERY_NORMS: Final = {"self_attn.q_norm": ("", ""), "self_attn.k_norm": ("", "")}
_FOUR_NORMS: Final = {"pre_feedforward_layernorm": ("H", ""), "post_feedforward_layernorm": ("H", "")}


def _like_llama(**more: tuple[str, str]) -> Layout:
    return Layout(
        _LLAMA.layers, _LLAMA.embeddings, _OUTER, _SPLIT | more, _LLAMA.heads_out, _LLAMA.neurons_out, _LLAMA.norms
    )


LAYOUTS: Final[Mapping[str, Layout]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "granite": _LLAMA,
    "qwen2": _LLAMA,
    "gemma": _LLAMA,
    "qwen3": _like_llama(**_QUERY_NORMS),
    "gemma2": _like_llama(**_FOUR_NORMS),
    "gemma3_text": _like_llama(**_FOUR_NORMS, **_QUERY_NORMS),
    "phi3": Layout(
        "model.layers",
        "model.embed_tokens.weight",
        _OUTER,
        {
            "self_attn.qkv_proj": ("QKV", "H"),
            "self_attn.o_proj": ("H", "Q"),
            "mlp.gate_up_proj": ("FF", "H"),
            "mlp.down_proj": ("H", "F"),
            "input_layernorm": ("H", ""),
            "post_attention_layernorm": ("H", ""),
        },
        "self_attn.o_proj",
        "mlp.down_proj",
        ("input_layernorm", "post_attention_layernorm"),
    ),
    "phi": Layout(
        "model.layers",
        "model.embed_tokens.weight",
        {
            "model.embed_tokens.weight": "VH",
            "model.final_layernorm.weight": "H",
            "model.final_layernorm.bias": "H",
            "lm_head.weight": "VH",
            "lm_head.bias": "V",
        },
        {
            "self_attn.q_proj": ("Q", "H"),
            "self_attn.k_proj": ("K", "H"),
            "self_attn.v_proj": ("K", "H"),
            "self_attn.dense": ("H", "Q"),
            "mlp.fc1": ("F", "H"),
            "mlp.fc2": ("H", "F"),
            "input_layernorm": ("H", ""),
        },
        "self_attn.dense",
        "mlp.fc2",
        ("input_layernorm",),
    ),
    "gpt_neox": Layout(
        "gpt_neox.layers",
        "gpt_neox.embed_in.weight",
        {
            "gpt_neox.embed_in.weight": "VH",
            "gpt_neox.final_layer_norm.weight": "H",
            "gpt_neox.final_layer_norm.bias": "H",
            "lm_head.weight": "VH",
        },
        {
            "attention.query_key_value": ("heads", "H"),
            "attention.dense": ("H", "Q"),
            "mlp.dense_h_to_4h": ("F", "H"),
            "mlp.dense_4h_to_h": ("H", "F"),
            "input_layernorm": ("H", ""),
            "post_attention_layernorm": ("H", ""),
        },
        "attention.dense",
        "mlp.dense_4h_to_h",
        ("input_layernorm", "post_attention_layernorm"),
        bound=True,
    ),
    "gpt2": Layout(
        "transformer.h",
        "transformer.wte.weight",
        {
            "transformer.wte.weight": "VH",
            "transformer.wpe.weight": " H",
            "transformer.ln_f.weight": "H",
            "transformer.ln_f.bias": "H",
            "lm_head.weight": "VH",
        },
        {
            "attn.c_attn": ("QKV", "H"),
            "attn.c_proj": ("H", "Q"),
            "mlp.c_fc": ("F", "H"),
            "mlp.c_proj": ("H", "F"),
            "ln_1": ("H", ""),
            "ln_2": ("H", ""),
        },
        "attn.c_proj",
        "mlp.c_proj",
        ("ln_1", "ln_2"),
        names={"layers": "n_layer", "hidden": "n_embd", "heads": "n_head", "feed_forward": "n_inner"},
        bound=True,
        flipped=True,
    ),
}
_REASONS: Final = {
    "gpt_neo": "its layers take turns between two kinds of attention by a list of their own",
    "mixtral": "its neurons are spread over experts",
    "qwen2_moe": "its neurons are spread over experts",
}


def layout(config: Mapping[str, Any]) -> Layout:
    """The layout of a configuration's family. Raises UserError, with the reason where one is known, for others."""
    kind = str(config.get("model_type"))
    if kind not in LAYOUTS:
        why = f": {_REASONS[kind]}" if kind in _REASONS else ""
        raise UserError(
            f"A {kind} decoder can't be cut, trimmed or probed{why}. Known are {', '.join(LAYOUTS)}. "
            "Give another teacher, or use student.start: grown."
        )
    return LAYOUTS[kind]


def sizes(config: Mapping[str, Any]) -> Sizes:
    """The shape of a decoder's configuration, whatever its family calls it; raises like `layout`."""
    return layout(config).sizes(config)
