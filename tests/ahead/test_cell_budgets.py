"""`budget per cell` in a package compiled ahead of time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fibdsl
from fibdsl.cli.main import main
from tests.ahead.conftest import once
from tests.compiled.cases import compiled, random_case
from tests.compiled.test_cell_budgets import domains, reference, same
from tests.meaning.test_cell_budgets import DOMAINS, WRONG_CELLS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DOMAINS, packed float64."""

    def build(path: Path) -> None:
        spec = path.with_suffix(".fib")
        spec.write_text(DOMAINS)
        command = ["compile", str(spec), "--aot", "-o", str(path), "--layout", "packed"]
        assert main([*command, "--dtype", "float64"]) == 0

    return once(tmp_path_factory, "domains.pt2", build)


def test_equals_the_reference_at_any_ids_and_values(package: Path) -> None:
    objective = fibdsl.load_text(DOMAINS)
    loss_fn = fibdsl.load_compiled(package)
    for seed, math in enumerate((0.05, 0.01, 0.2)):
        case = random_case(7 + seed, 9, seed=seed)
        cells, _ = domains(case)
        loss_fn.set_cells(cells)
        loss_fn.set_params(math=math)
        changed = objective.with_params(math=math)
        same(compiled(loss_fn, case, "packed"), reference(changed, case, cells=cells))
        same(
            compiled(fibdsl.load_compiled(package, cells=cells), case, "packed"),
            reference(objective, case, cells=cells),
        )


def test_what_a_package_refuses(package: Path) -> None:
    case = random_case(5, 6, seed=1)
    _, budgets = domains(case)
    tokens, keys, cu, _ = case.packed()
    loss_fn = fibdsl.load_compiled(package)
    with pytest.raises(ValueError, match="say which ids these have in keys"):
        loss_fn(*tokens, keys, cu_seqlens=cu)
    with pytest.raises(ValueError, match=r"budgets of cells are taken as tensors \(budgets=...\)"):
        loss_fn(*tokens, keys, cu_seqlens=cu, budgets=budgets)


@pytest.mark.parametrize(("cells", "message"), WRONG_CELLS)
def test_wrong_cells(package: Path, cells: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        fibdsl.load_compiled(package, cells=cells)
    assert str(error.value) == message
