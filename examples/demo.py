"""The whole way once: check a spec, compile it, run it on rollouts of a real language model.

Rollouts: SmolLM2-135M-Instruct, 3 domains, 12 prompts, 48 trajectories (examples/data/README.md);
`near` is after one policy-gradient step on the batch, `far` after three.

    python examples/demo.py
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent
SPECS = ("fiberpo_domain", "grpo", "gspo")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        modules = {}
        for name in SPECS:
            fib("check", name)
            fib("compile", name, "-o", f"{folder}/{name}.py")
            modules[name] = load_module(Path(folder) / f"{name}.py")
        run(modules)
    say("what each level did, by the reference interpreter")
    for name in SPECS:
        fib("eval", name, "--batch", f"{ROOT}/data/rollouts_far.safetensors")


def run(modules: dict[str, ModuleType]) -> None:
    """The generated modules need only torch; each compiles its graph at the first call."""
    from safetensors.torch import load_file

    say("the compiled losses")
    batches = {
        name: load_file(ROOT / f"data/rollouts_{name}.safetensors") for name in ("near", "far")
    }
    print("The first call of each runs torch.compile, up to half a minute on two cores.\n")
    print(
        f"{'objective':<16}{'rollouts':<10}{'loss':>12}{'|gradient|':>12}{'mean G':>9}{'call':>13}"
    )
    for name, module in modules.items():
        loss_fn = module.Loss()
        for label, batch in batches.items():
            print(f"{name:<16}{label:<10}", end="", flush=True)
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
            print(
                f"{out.loss.item():>12.6f}{logp.grad.norm().item():>12.5f}"
                f"{out.metrics['gated_ratio/mean'].item():>9.4f}{seconds * 1e3:>10.1f} ms"
            )


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
