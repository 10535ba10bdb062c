"""The whole way once: check a spec, compile it, run it on rollouts of a real language model.

Rollouts: SmolLM2-135M-Instruct, 3 domains, 12 prompts, 48 trajectories (examples/data/README.md);
`near` is after one policy-gradient step on the batch, `far` after three.

    python examples/demo.py
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent
SPECS = ("fiberpo_domain", "grpo", "gspo")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in SPECS:
            fib("check", name)
            fib("compile", name, "-o", f"{folder}/{name}.py")
        say("the compiled losses")
        print(
            "Three processes; the first call of each runs torch.compile, for half a minute or so."
        )
        print(
            f"\n{'objective':<16}{'rollouts':<10}{'loss':>12}{'|gradient|':>12}{'mean G':>9}",
            end="",
        )
        print(f"{'call':>13}", flush=True)
        with ProcessPoolExecutor(len(SPECS), multiprocessing.get_context("spawn")) as pool:
            for lines in pool.map(run, SPECS, [folder] * len(SPECS)):
                print("\n".join(lines), flush=True)
    say("what each level did, by the reference interpreter")
    for name in SPECS:
        fib("eval", name, "--batch", f"{ROOT}/data/rollouts_far.safetensors")


def run(name: str, folder: str) -> list[str]:
    """A line for each batch. The generated module needs only torch."""
    # Each objective has a process here; Inductor need not start more of them to compile in.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    from safetensors.torch import load_file

    loss_fn = load_module(Path(folder) / f"{name}.py").Loss()
    lines = []
    for label in ("near", "far"):
        batch = load_file(ROOT / f"data/rollouts_{label}.safetensors")
        logp = batch["logp"].clone().requires_grad_()
        start = time.perf_counter()
        out = loss_fn(
            logp,
            batch["old_logp"],
            batch["advantages"],
            batch["mask"],
            keys={"uid": batch["uid"], "data_source": batch["data_source"]},
        )
        out.loss.backward()
        seconds = time.perf_counter() - start
        assert logp.grad is not None
        lines.append(
            f"{name:<16}{label:<10}{out.loss.item():>12.6f}{logp.grad.norm().item():>12.5f}"
            f"{out.metrics['gated_ratio/mean'].item():>9.4f}{seconds * 1e3:>10.1f} ms"
        )
    return lines


def fib(*arguments: str) -> None:
    """Runs the command line as a user would, and shows it."""
    print(
        f"\n$ fib {' '.join(str(a).replace(f'{ROOT}/', 'examples/') for a in arguments)}",
        flush=True,
    )
    subprocess.run([sys.executable, "-m", "fibdsl", *arguments], check=True)


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def say(title: str) -> None:
    print(f"\n{title}\n{'-' * len(title)}", flush=True)


if __name__ == "__main__":
    main()
