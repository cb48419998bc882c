"""What each decoder family's configuration becomes in a GGUF file, and why some can't; package/gguf reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from minikin.base.errors import UserError

Config: TypeAlias = Mapping[str, Any]
Value: TypeAlias = int | float | bool | str | list[int]

SILU: Final = frozenset({"silu", "swish"})
TANH_GELU: Final = frozenset({"gelu_new", "gelu_pytorch_tanh", "gelu_fast"})
RMS: Final = "attention.layer_norm_rms_epsilon"
LAYER_NORM: Final = "attention.layer_norm_epsilon"


@dataclass(frozen=True)
class Family:
    """One of llama.cpp's architectures: its name, the activations it computes, its norm, how it holds positions.

    `interleaved` says that it rotates neighbouring pairs, so that query and key rows must be reordered.
    `scaled` are the kinds of position scaling it reads.
    """

    architecture: str
    activations: frozenset[str] = SILU
    norm: str = RMS
    interleaved: bool = False
    rotary: bool = True
    scaled: frozenset[str] = frozenset({"linear", "yarn"})


_LLAMA: Final = Family("llama", interleaved=True, scaled=frozenset({"linear", "yarn", "llama3"}))
_GEMMA: Final = frozenset({"gelu_pytorch_tanh"})
FAMILIES: Final[Mapping[str, Family]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "granite": Family("granite", interleaved=True, scaled=_LLAMA.scaled),
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3"),
    "gemma": Family("gemma", _GEMMA),
    "gemma2": Family("gemma2", _GEMMA),
    "gemma3_text": Family("gemma3", _GEMMA, scaled=frozenset({"linear"})),
    "phi": Family("phi2", TANH_GELU, LAYER_NORM),
    "phi3": Family("phi3"),
    "gpt2": Family("gpt2", TANH_GELU, LAYER_NORM, rotary=False),
    "gpt_neox": Family("gptneox", TANH_GELU | {"gelu"}, LAYER_NORM),
}
NEVER: Final[Mapping[str, str]] = {
    "gpt_neo": "its attention alternates between global and local windows, which llama.cpp has no architecture for",
    "gemma3": "it also reads images; save its language model alone (Gemma3ForCausalLM)",
}


@dataclass(frozen=True)
class Shape:
    """A configuration's numbers under one name each, whatever the family calls them."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    feed_forward: int
    context: int
    epsilon: float
    theta: float
    rotated: int
    scaling: Config

    @classmethod
    def of(cls, config: Config) -> Shape:
        """Read a config.json. Raises UserError for one that lacks a number."""
        hidden, heads = (
            int(first(config, "hidden_size", "n_embd")),
            int(first(config, "num_attention_heads", "n_head")),
        )
        head = int(config.get("head_dim") or hidden // heads)
        rope = _rope(config)
        partial = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or config.get("rotary_pct")
        context = int(first(config, "max_position_embeddings", "n_positions"))
        if config["model_type"] == "mistral":  # llama.cpp's llama has no window: up to the window both are equal
            context = min(context, int(config.get("sliding_window") or context))
        return cls(
            hidden=hidden,
            layers=int(first(config, "num_hidden_layers", "n_layer")),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head=head,
            feed_forward=int(config.get("intermediate_size") or config.get("n_inner") or 4 * hidden),
            context=context,
            epsilon=float(first(config, "rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps")),
            theta=float(rope.get("rope_theta") or config.get("rope_theta") or config.get("rotary_emb_base") or 10_000),
            rotated=int(head * float(partial or 1.0)),
            scaling=rope,
        )


def keys(config: Config) -> dict[str, Value]:
    """Return the GGUF keys of a model, without the architecture's name in front."""
    shape, family = Shape.of(config), FAMILIES[config["model_type"]]
    values: dict[str, Value] = {
        "context_length": shape.context,
        "embedding_length": shape.hidden,
        "block_count": shape.layers,
        "feed_forward_length": shape.feed_forward,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        family.norm: shape.epsilon,
        "vocab_size": int(config["vocab_size"]),
    }
    if family.rotary:
        values |= {"rope.dimension_count": shape.rotated, "rope.freq_base": shape.theta, **_scaling(shape)}
        if config["model_type"] not in ("phi", "gpt_neox"):
            values |= {"attention.key_length": shape.head, "attention.value_length": shape.head}
    return values | _special(config["model_type"], config, shape)


def _special(kind: str, config: Config, shape: Shape) -> dict[str, Value]:
    if kind == "granite":
        return {
            "embedding_scale": float(config.get("embedding_multiplier", 1.0)),
            "residual_scale": float(config.get("residual_multiplier", 1.0)),
            "attention.scale": float(config.get("attention_multiplier", 1.0)),
            "logit_scale": float(config.get("logits_scaling", 1.0)),
        }
    if kind == "gemma2":
        return {
            "attn_logit_softcapping": float(config["attn_logit_softcapping"]),
            "final_logit_softcapping": float(config["final_logit_softcapping"]),
            "attention.sliding_window": int(config["sliding_window"]),
        }
    if kind == "gemma3_text":
        local = (config.get("rope_parameters") or {}).get("sliding_attention", {}).get("rope_theta")
        values: dict[str, Value] = {
            "attention.sliding_window": int(config["sliding_window"]),
            "rope.freq_base_swa": float(local or config.get("rope_local_base_freq") or 10_000),
        }
        capping = config.get("final_logit_softcapping")
        return values | ({"final_logit_softcapping": float(capping)} if capping else {})
    if kind == "phi3":
        original = config.get("original_max_position_embeddings") or shape.context
        window = int(config.get("sliding_window") or 0)
        return {"rope.scaling.original_context_length": int(original), "attention.sliding_window": window}
    if kind == "gpt_neox":
        return {"use_parallel_residual": bool(config.get("use_parallel_residual", True))}
    return {}


def _scaling(shape: Shape) -> dict[str, Value]:
    kind = shape.scaling.get("rope_type", "default")
    if kind not in ("linear", "yarn"):  # llama3 is a tensor: see tensors.frequencies
        return {}
    values: dict[str, Value] = {"rope.scaling.type": kind, "rope.scaling.factor": float(shape.scaling["factor"])}
    original = shape.scaling.get("original_max_position_embeddings")
    return values | ({"rope.scaling.original_context_length": int(original)} if original else {})


def _rope(config: Config) -> Config:
    """Return the position settings of full attention, wherever the version that wrote the file puts them."""
    rope: Config = config.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    older = config.get("rope_scaling") or {}
    return {
        **older,
        **rope,
        "rope_type": rope.get("rope_type") or older.get("rope_type") or older.get("type") or "default",
    }


def first(config: Config, *names: str) -> Any:
    """Return the first of several settings that a config.json has. Raises UserError where it has none."""
    for name in names:
        if config.get(name) is not None:
            return config[name]
    raise UserError(f"The model's config.json has no {names[0]}. Save the model again with transformers.")
