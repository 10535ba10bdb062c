"""Other processes are told from this one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks.fused import neighbours
from benchmarks.fused.neighbours import Neighbours


def test_cores_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat, ticks = tmp_path / "stat", os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(neighbours, "_STAT", stat)
    now, own = 100.0, 10.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(os, "times", lambda: os.times_result((own, 0, 0, 0, 0)))

    def busy(seconds: float) -> None:
        # user nice system idle iowait irq softirq steal
        stat.write_text(f"cpu  {round(seconds * ticks)} 0 0 7 7 0 0 0 0 0\ncpu0 1\n", "utf-8")

    busy(50)
    since = Neighbours()
    busy(50 + 16 + 6)
    now, own = 110.0, 26.0  # 10 s later: 16 s were this process's, 6 s others'
    assert since.cores() == pytest.approx(0.6)
    stat.unlink()
    assert since.cores() is None
    assert Neighbours().cores() is None
