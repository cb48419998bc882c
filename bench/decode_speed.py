"""Prefill and decode tokens/s of a kin's runtime, plain llama.cpp on the same file, and transformers' `generate`.

    python bench/decode_speed.py [--mixes F16 Q8_0 Q4_K_M] [--rounds 5]
    python bench/decode_speed.py --pair BIG KIN --on prompts.jsonl [--filled LAYERS HIDDEN NEURONS]

Subjects: a Llama of 15M random weights (256 tokens read, 128 written) and the real stories260k. Every contestant reads
and writes the same number of tokens on one thread, by turns; rates are per second of processor time, ratios medians
over the turns. Plain llama.cpp is the server inside xllamacpp, which ignores ends and keeps no prompt. With `--pair`,
a larger kin writes with and without a smaller one as its draft; `--filled` first makes it as large as said by layers,
units and neurons that change nothing it says, since a model of that size can't be trained on the prompts in minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from common import keep, table
from data import ROOT, source
from minikin.base import decoders
from minikin.base.types import Array
from minikin.base.writing import Decoding
from minikin.package import gguf
from minikin.runtimes.author import Author, open_author
from minikin.runtimes.drafted import Drafted
from minikin.runtimes.llama_cpp import LlamaCpp

VOCABULARY = 32_000
Write = Callable[[list[int], int], int]


def random_llama(folder: Path) -> Path:
    """About 15M weights (288 wide, 6 layers, embeddings shared), and a byte-level BPE of all pairs of bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(a, b) for a in letters for b in letters][: VOCABULARY - len(letters) - 2]
    pieces = ["<s>", "</s>", *letters, *(a + b for a, b in pairs)]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    torch.manual_seed(0)
    shape = {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6}
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
        **shape,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def stories(folder: Path) -> Path:
    """The weights of stories260k as a folder of transformers."""
    source("stories260k")
    sys.path.insert(0, str(ROOT / "tests"))
    import decoders

    return decoders.stories(folder)


def ours(path: Path) -> Write:
    """The runtime of a kin."""
    generator = LlamaCpp(path)
    generator.ends = frozenset()
    return lambda ids, new: generator.complete(ids, Decoding(max_tokens=new))[0].timing.written


def plain(path: Path) -> Write:
    """llama.cpp's own server, in this process."""
    import xllamacpp

    asked = xllamacpp.CommonParams()
    asked.model.path, asked.n_ctx, asked.n_parallel, asked.warmup, asked.port = str(path), 512, 1, False, 0
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(asked)
    usual = {"temperature": 0, "ignore_eos": True, "cache_prompt": False}

    def write(ids: list[int], new: int) -> int:
        done = server.handle_completions({"prompt": ids, "max_tokens": new, **usual})
        return int(done["usage"]["completion_tokens"])

    return write


def reference(folder: Path) -> Write:
    """transformers in float32."""
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def write(ids: list[int], new: int) -> int:
        given = torch.tensor([ids])
        how = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False}
        return int(model.generate(given, attention_mask=torch.ones_like(given), **how).shape[1]) - len(ids)

    return write


def turn(write: Write, ids: list[int], new: int) -> tuple[float, float]:
    """Tokens read, and tokens written after the first, per second of processor time."""
    marks = [time.process_time()]
    for wanted in (1, new):
        assert write(ids, wanted) == wanted
        marks.append(time.process_time())
    prefill_s, whole_s = np.diff(marks)
    return len(ids) / prefill_s, (new - 1) / max(whole_s - prefill_s, 1e-9)


def measured(name: str, folder: Path, mixes: list[str], prompt: int, new: int, rounds: int) -> list[tuple[str, ...]]:
    """One row for each file and contestant."""
    contestants: dict[str, Write] = {f"{name}, transformers float32": reference(folder)}
    for mix in mixes:
        path = folder / f"{mix}.gguf"
        gguf.write(folder, path, mix)
        contestants |= {f"{name} {mix}, minikin": ours(path), f"{name} {mix}, plain llama.cpp": plain(path)}
    rng = np.random.default_rng(0)
    found: dict[str, list[tuple[float, float]]] = {key: [] for key in contestants}
    for i in range(rounds + 1):
        ids = rng.integers(260, 500, prompt).tolist()
        for key, write in contestants.items():
            rates = turn(write, ids, new)
            found[key] += [rates] if i else []
    keep("decode_speed", {"prompt": prompt, "new": new, "rounds": rounds, **found})
    rows = []
    for key, turns in found.items():
        mine = found.get(key.replace("plain llama.cpp", "minikin"), turns)
        ratios = [statistics.median(m[k] / t[k] for m, t in zip(mine, turns, strict=True)) for k in (0, 1)]
        ratios = ratios if "plain" in key else ["", ""]
        rates = [f"{statistics.median(t[k] for t in turns):,.0f}" for k in (0, 1)]
        rows.append((key, *rates, *(f"{r:.2f}" if r else "" for r in ratios)))
    return rows


def filled(kin: Path, folder: Path, layers: int, hidden: int, feed_forward: int) -> Path:
    """The F16 file of a kin made larger without changing what it says (an RMS-normed one, such as Llama).

    What is added reads at random and writes zeros, new units of the hidden width stay zero, and the norms' weights
    and epsilon make up for the smaller mean square.
    """
    shutil.copytree(kin, folder)
    config = json.loads((kin / "config.json").read_text(encoding="utf-8"))
    layout = decoders.layout(config)
    old = layout.sizes(config)
    groups = hidden * old.groups // (old.heads * old.head_width)
    heads = groups * old.heads // old.groups
    sizes = {"H": hidden, "Q": heads * old.head_width, "K": groups * old.head_width, "F": feed_forward}
    rng, shrunk = np.random.default_rng(0), old.hidden / hidden

    def larger(tensor: Array | None, axes: tuple[str, ...], reads: bool) -> Array:
        shape = [sizes[axis] for axis in axes if axis]
        made = rng.normal(0, 0.02, shape) if reads else np.full(shape, float(len(shape) == 1 and tensor is None))
        if tensor is not None:
            made[tuple(map(slice, tensor.shape))] = tensor * (math.sqrt(shrunk) if tensor.ndim == 1 else 1)
        return made.astype(np.float32)

    tensors, made = load_file(kin / "model.safetensors"), {}
    for name, axes in layout.outer.items():
        if name in tensors:
            sizes["V"] = len(tensors[name])
            made[name] = larger(tensors[name], tuple(axes), reads=False)
    for i in range(layers):
        for module, axes in layout.inner.items():
            name = f"{layout.layers}.{i}.{module}.weight"
            made[name] = larger(tensors.get(name), axes, reads=axes[1] == "H")
    new = decoders.Sizes(layers, hidden, heads, groups, feed_forward, old.head_width)
    config |= {name: getattr(new, key) for key, name in layout.names.items()}
    config |= {"head_dim": old.head_width, "rms_norm_eps": shrunk * config["rms_norm_eps"]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(made, folder / "model.safetensors")
    path = folder / "filled.gguf"
    gguf.write(folder, path, "F16")
    print(f"{sum(tensor.size for tensor in made.values()):,} weights", flush=True)
    return path


def drafted(big: Path, path: Path, kin: Path, prompts: list[str], rounds: int) -> str:
    """The model in `path`, asked as the kin `big`, with and without a draft: seconds of processor time, guesses taken,
    answers that are the same."""
    known, large = open_author(big).manifest, Drafted(path, open_author(kin).generator)
    both = {"alone": Author(big, known, LlamaCpp(path)), "with the draft": Author(big, known, large)}
    took: dict[str, list[float]] = {name: [] for name in both}
    said: dict[str, list[Any]] = {}
    for _ in range(rounds):
        for name, author in both.items():
            started = time.process_time()
            said[name] = [c.tokens for c in author(prompts)]
            took[name].append(time.process_time() - started)
    same = sum(a == b for a, b in zip(said["alone"], said["with the draft"], strict=True))
    tokens = sum(len(t) for t in said["alone"])
    about = {"big": str(path), "mib": path.stat().st_size / 2**20, "kin": str(kin)}
    keep("decode_speed", {**about, "taken": large.taken, "guessed": large.guessed, **took})
    print(f"{large.taken:,} of {large.guessed:,} guesses taken; {same} of {len(prompts)} answers the same")
    return table(
        ("a larger kin", "tokens/CPU-s"), [(name, f"{tokens / statistics.median(t):,.0f}") for name, t in took.items()]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixes", nargs="*", default=["F16", "Q8_0", "Q4_K_M"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pair", type=Path, nargs=2)
    parser.add_argument("--on", type=Path)
    parser.add_argument("--filled", type=int, nargs=3, metavar=("LAYERS", "HIDDEN", "NEURONS"))
    args = parser.parse_args()
    if args.pair:
        lines = args.on.read_text(encoding="utf-8").splitlines()[:100]
        big, kin = args.pair
        prompts = [json.loads(line)["prompt"] for line in lines]
        with tempfile.TemporaryDirectory() as place:
            path = filled(big, Path(place) / "filled", *args.filled) if args.filled else big / "model.gguf"
            print(drafted(big, path, kin, prompts, args.rounds))
        return
    with tempfile.TemporaryDirectory() as place:
        rows = measured("15M", random_llama(Path(place) / "random"), args.mixes, 256, 128, args.rounds)
        rows += measured("stories260k", stories(Path(place) / "stories"), args.mixes, 256, 128, args.rounds)
    columns = ("one thread", "prefill tok/CPU-s", "decode tok/CPU-s", "minikin's prefill ÷", "minikin's decode ÷")
    print(table(columns, rows))


if __name__ == "__main__":
    main()
