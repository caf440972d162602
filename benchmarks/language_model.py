"""The language model beside `LlamaForCausalLM` at equal size: a training step, the memory of its loss, decoding.

    peer     one table of all tokens, transformers' own loss and `generate`
    ours     one softmax over 262,144 visual codes, in chunks: the same thing computed otherwise
    factors  our tiny configuration: a code in two steps of 512

Memory is the highest resident size during a step beyond that before it, less the gradients, each in a process of its
own. Decoding is greedy, one sequence, tokens of one window of video and sound (a share of them, by the rate of each).
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from schemas.shards import TokenSample
from schemas.vocabulary import VOCABULARY
from training.decoding import decode
from training.generate_settings import SamplingSettings
from training.lm import ReelLm, ReelLmConfig, TensorBatch, to_tensors
from training.sampling import Sampler
from training.sequences import Layout, collate

WIDTH, LAYERS, HEADS, MLP = 256, 4, 4, 704
TEXT_WIDTH = 64


def sample(grid: tuple[int, int, int], columns: int) -> TokenSample:
    """A window of random codes."""
    rng = np.random.default_rng(0)
    arrays = {
        "video": rng.integers(2**18, size=grid).astype(np.uint32),
        "audio": rng.integers(1024, size=(4, columns)).astype(np.uint16),
        "text": rng.normal(size=(8, TEXT_WIDTH)).astype(np.float16),
    }
    return TokenSample("benchmark", arrays, {})


def our_model(factors: list[int]) -> ReelLm:
    torch.manual_seed(0)
    return ReelLm(
        ReelLmConfig(
            hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=MLP,
            visual_factors=factors, text_width=TEXT_WIDTH,
        )
    )  # fmt: skip


def peer_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY.size, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
            intermediate_size=MLP, tie_word_embeddings=True, max_position_embeddings=4096,
        )
    )  # fmt: skip


def batch(grid: tuple[int, int, int], columns: int) -> TensorBatch:
    return to_tensors(collate([Layout().build("t2av", sample(grid, columns))]), "cpu")


def peak_bytes() -> int:
    """Highest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def training(kind: str) -> dict[str, float]:
    """Seconds of a training step (forward and backward), the best of two, and bytes of its loss."""
    inputs = batch((2, 16, 16), 40)
    model: Any = peer_model() if kind == "peer" else our_model([512, 512] if kind == "factors" else [2**18])
    labels = inputs.ids.clone()
    labels[:, : inputs.prefix_length] = -100

    def step() -> None:
        result = model(input_ids=inputs.ids, labels=labels) if kind == "peer" else model(inputs)
        result.loss.backward()

    for parameter in model.parameters():  # gradients are there before, so that they do not count
        parameter.grad = torch.zeros_like(parameter)
    before = peak_bytes()
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "bytes": peak_bytes() - before}


def decoding(kind: str) -> dict[str, float]:
    """Output tokens a second."""
    inputs = batch((2, 8, 8), 16)
    num_tokens = inputs.outputs.shape[1]
    if kind == "peer":
        peer = peer_model().eval()
        start = time.perf_counter()
        with torch.inference_mode():
            peer.generate(
                inputs.ids[:, : inputs.prefix_length], max_new_tokens=num_tokens, min_new_tokens=num_tokens,
                do_sample=False, cache_implementation="static",
                pad_token_id=0,
            )  # fmt: skip
    else:
        model = our_model([512, 512] if kind == "factors" else [2**18]).eval()
        sampler = Sampler(SamplingSettings(temperature=0, guidance=1.0), torch.Generator())
        start = time.perf_counter()
        decode(model, inputs, sampler)
    return {"tokens_per_s": num_tokens / (time.perf_counter() - start)}


def measure(what: str, kind: str) -> dict[str, float]:
    """The figures of one kind, from a fresh process."""
    command = [sys.executable, "-m", "benchmarks.language_model", "--what", what, "--kind", kind]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    """Prints the table."""
    print("| | step s | memory of the loss MB | decoded tokens/s |\n|---|---|---|---|")
    found = {kind: {**measure("training", kind), **measure("decoding", kind)} for kind in ("peer", "ours", "factors")}
    for kind, row in found.items():
        print(f"| {kind} | {row['seconds']:.2f} | {row['bytes'] / 1e6:,.0f} | {row['tokens_per_s']:.1f} |")
    peer = found["peer"]
    for kind in ("ours", "factors"):
        row = found[kind]
        print(
            f"\n{kind} beside peer: step {row['seconds'] / peer['seconds']:.2f}×, memory "
            f"{row['bytes'] / peer['bytes']:.2f}×, decoding {row['tokens_per_s'] / peer['tokens_per_s']:.2f}×"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--what", choices=("training", "decoding"), required=True)
    parser.add_argument("--kind", choices=("peer", "ours", "factors"), required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps({"training": training, "decoding": decoding}[given.what](given.kind)))
