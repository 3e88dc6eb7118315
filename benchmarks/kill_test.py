"""Kill an experiment at random moments, resume it, and compare with an uninterrupted run.

    python benchmarks/kill_test.py experiments/smoke.yaml --kills 12 --runner local

Each kill is a SIGKILL of the driver (the same command is then started again) or of a worker in the
middle of a stage. At the end the tables and every result in the store must be the same bytes as
the uninterrupted run's, no finished stage may have been started again, and nothing may be left.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from compare import leftovers, reproducible

from distillbench.store.lease import Holder


class Killer:
    """One results folder, worked on by runs that are killed."""

    def __init__(self, results: Path, command: list[str], *, seed: int) -> None:
        self.results = results
        self.store = results / "store"
        self.command = [*command, "--results", str(results)]
        self.chance = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.hits: Counter[Path] = Counter()  # of each stage under the present driver

    def start(self) -> subprocess.Popen[bytes]:
        """Start (or resume) the run and wait for its first stage; its output goes to a file."""
        self.results.mkdir(parents=True, exist_ok=True)
        self.hits.clear()
        with open(self.results / "output.txt", "ab") as output:
            driver = subprocess.Popen(self.command, stdout=output, stderr=subprocess.STDOUT)
        known = len(list(self.events()))
        while driver.poll() is None and len(list(self.events())) == known:
            time.sleep(0.05)
        return driver

    def kill_for(self, kills: int, *, mean_wait: float) -> int:
        """Kill `kills` times, `mean_wait` seconds apart on average; return the last exit code."""
        driver = self.start()
        while self.kills.total() < kills:
            try:
                return driver.wait(self.chance.uniform(0.2, 1.8) * mean_wait)
            except subprocess.TimeoutExpired:
                if self.chance.random() < 0.5 and self._kill_worker():
                    continue
            driver.kill()
            driver.wait()
            self.kills["driver"] += 1
            driver = self.start()
        return driver.wait()

    def _kill_worker(self) -> bool:
        """Kill a process that runs a stage right now; False when there is none.

        A stage whose worker dies a third time under one driver counts as failed, so none is killed
        more often than twice.
        """
        held = {path: Holder.read(path) for path in sorted(self.store.glob("*/*.claim"))}
        alive = [p for p, h in held.items() if h and psutil.pid_exists(h.pid) and self.hits[p] < 2]
        if not alive:
            return False
        path = self.chance.choice(alive)
        holder = held[path]
        assert holder is not None
        psutil.Process(holder.pid).kill()
        self.hits[path] += 1
        self.kills["worker"] += 1
        return True

    def events(self) -> Iterator[dict[str, Any]]:
        """The store's history, oldest first."""
        history = self.store / "events.jsonl"
        for line in history.read_text().splitlines() if history.exists() else ():
            yield json.loads(line)

    def repeated(self) -> list[str]:
        """Stages that were started after they had been committed."""
        committed: set[str] = set()
        again = []
        for event in self.events():
            again += (
                [event["key"]] if event["event"] == "start" and event["key"] in committed else []
            )
            committed |= {event["key"]} if event["event"] == "commit" else set()
        return again


def main() -> int:
    """Run the test, print its record as JSON; 0 when everything held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", nargs="?", default="experiments/smoke.yaml")
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runner", choices=["local", "ray"], default="local")
    parser.add_argument(
        "--whole", type=Path, help="results of an uninterrupted run to compare with"
    )
    parser.add_argument("--every", type=float, help="mean seconds between kills")
    asked, rest = parser.parse_known_args()
    work = Path(tempfile.mkdtemp(prefix="distillbench-kill-"))
    command = [sys.executable, "-m", "distillbench.cli.main", "run", asked.experiment, *rest]
    whole = Killer(asked.whole or work / "whole", command, seed=0)
    began = time.monotonic()
    code = 0 if asked.whole else whole.kill_for(0, mean_wait=0)
    took = time.monotonic() - began
    killed = Killer(work / "killed", [*command, "--runner", asked.runner], seed=asked.seed)
    mean_wait = asked.every or max(2.0, took / asked.kills)
    codes = [code, killed.kill_for(asked.kills, mean_wait=mean_wait)]
    want, got = reproducible(whole.results), reproducible(killed.results)
    differ = sorted(n for n in want.keys() | got.keys() if want.get(n) != got.get(n))
    record = {
        "experiment": asked.experiment,
        "runner": asked.runner,
        "exit_codes": codes,
        "uninterrupted_seconds": round(took, 1),
        "kills": dict(killed.kills),
        "starts": sum(e["event"] == "start" for e in killed.events()),
        "commits": sum(e["event"] == "commit" for e in killed.events()),
        "started_after_commit": killed.repeated(),
        "leftovers": leftovers(killed.store),
        "files_compared": len(want),
        "files_that_differ": len(differ),
        "differ": differ[:20],
        "results": str(work),
    }
    print(json.dumps(record, indent=1))
    bad = record["started_after_commit"] or record["leftovers"] or record["differ"]
    return int(any(codes) or bool(bad))


if __name__ == "__main__":
    sys.exit(main())
