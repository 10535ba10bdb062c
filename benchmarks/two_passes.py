"""What the extra forward pass of `weigh` costs a training step.

    python benchmarks/two_passes.py [--rounds N] [--out FILE]

A small transformer, one mini-batch of 16 rows of 256 tokens, `fiberpo_domain`, three ways to the
same gradient, in turn, medians: *undivided*, one call; *two passes*, log-probabilities without
gradient, `weigh`, then four micro-batches; *first step*, the same from `old_logp`, which is what
they are on the first step after sampling. The gradients are compared before anything is timed.
docs/scaling.md has the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

import fibdsl

ROWS, LENGTH, PARTS = 16, 256, 4
VOCABULARY, WIDTH, LAYERS = 8192, 256, 4


class Policy(torch.nn.Module):
    """A causal transformer and the log-probabilities it gives to tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        layer = torch.nn.TransformerEncoderLayer(
            WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = torch.nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = torch.nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        causal = torch.nn.Transformer.generate_square_subsequent_mask(tokens.shape[1] - 1)
        hidden = self.layers(self.embedding(tokens[:, :-1]), mask=causal, is_causal=True)
        logits = self.head(hidden)
        chosen = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), tokens[:, 1:], reduction="none"
        )
        return -chosen


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    torch.manual_seed(0)
    policy = Policy()
    tokens = torch.randint(VOCABULARY, (ROWS, LENGTH + 1))
    mask = torch.arange(LENGTH) < torch.randint(LENGTH // 2, LENGTH + 1, (ROWS, 1))
    keys = {"uid": torch.arange(ROWS) // 4, "data_source": torch.arange(ROWS) // 8}
    advantages = torch.randn(ROWS, 1).expand(ROWS, LENGTH).contiguous()
    with torch.no_grad():
        old_logp = policy(tokens)
    loss_fn = fibdsl.load("fiberpo_domain").compile()
    parts = torch.arange(ROWS).tensor_split(PARTS)

    def undivided() -> None:
        loss_fn(policy(tokens), old_logp, advantages, mask, keys).loss.backward()

    def in_parts(logp: Tensor) -> None:
        weights = loss_fn.weigh(logp, old_logp, advantages, mask, keys)
        for rows in parts:
            part = weights.part(policy(tokens[rows]), rows)
            part.loss.backward()  # type: ignore[no-untyped-call]

    def two_passes() -> None:
        with torch.no_grad():
            logp = torch.cat([policy(tokens[rows]) for rows in parts])
        in_parts(logp)

    ways: dict[str, Callable[[], None]] = {
        "undivided": undivided,
        "two passes": two_passes,
        "first step": lambda: in_parts(old_logp),
    }
    gradients = {}
    for name, step in ways.items():
        policy.zero_grad()
        step()
        gradients[name] = torch.cat(
            [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
        )
    scale = gradients["undivided"].abs().max()
    apart = max(float((g - gradients["undivided"]).abs().max() / scale) for g in gradients.values())
    assert apart < 1e-4, apart

    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, step in ways.items():
            policy.zero_grad()
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    seconds = {name: statistics.median(found) for name, found in times.items()}
    ratios = {
        name: statistics.median(t / u for t, u in zip(found, times["undivided"], strict=True))
        for name, found in times.items()
    }
    for name in ways:
        print(f"{name:>12}: {1e3 * seconds[name]:7.1f} ms, {ratios[name]:.2f} of undivided")
    print(f"gradients differ by at most {apart:.1e} of the largest")
    document = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "rows": ROWS,
        "length": LENGTH,
        "parts": PARTS,
        "parameters": sum(p.numel() for p in policy.parameters()),
        "seconds": seconds,
        "over_undivided": ratios,
        "gradients_apart": apart,
    }
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    default = Path(__file__).parent / "results" / "two_passes.json"
    parser.add_argument("--out", type=Path, default=default)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
