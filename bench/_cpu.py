"""CPU time of processes and their descendants, as Linux counts it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def cpu_seconds(groups: Mapping[str, Iterable[int]]) -> dict[str, float]:
    """Give the CPU seconds so far of each group of processes, with all that descends from them."""
    spent: dict[int, float] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (found := _stat(entry)) is not None:
            parent, spent[int(entry.name)] = found
            children[parent].append(int(entry.name))
    return {name: _sum(set(pids), spent, children) for name, pids in groups.items()}


def _stat(process: Path) -> tuple[int, float] | None:
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended meanwhile
        return None
    # proc(5): ppid, and utime, stime and those of children that were waited for.
    return int(fields[1]), sum(map(int, fields[11:15])) / _TICKS


def _sum(pids: set[int], spent: Mapping[int, float], children: Mapping[int, list[int]]) -> float:
    todo, seen = list(pids), set[int]()
    while todo:
        pid = todo.pop()
        if pid not in seen:
            seen.add(pid)
            todo += children.get(pid, ())
    return sum(spent.get(pid, 0.0) for pid in seen)
