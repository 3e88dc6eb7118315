"""The SLURM job, with stand-ins for SLURM and Ray: signals, requeueing, who starts what."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

STANDINS = {
    "scontrol": 'if [ "$1" = show ]; then printf "n1\\nn2\\nn3\\n"; fi',
    "hostname": "echo 10.0.0.1 fe80::1",
    "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
    "ray": "exec sleep 60",
    "distillbench": 'trap "exit 130" TERM; [ -n "${QUICK:-}" ] && exit 0; '
    'echo ready >> "$CALLS"; for i in $(seq 300); do sleep 0.1; done',
}


class Job:
    """A job script that runs where every command of SLURM only writes down its call."""

    def __init__(self, script: Path, folder: Path, **environment: str) -> None:
        tools = folder / "tools"
        tools.mkdir()
        self.calls = folder / "calls"
        for name, body in STANDINS.items():
            path = tools / name
            path.write_text(f'#!/bin/bash\necho {name} "$@" >> "$CALLS"\n{body}\n')
            path.chmod(0o755)
        self.process = subprocess.Popen(
            ["bash", str(script)], stdout=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "CALLS": str(self.calls),
                 "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-3]",
                 "DISTILLBENCH_RAY_WAIT": "0", **environment},
        )  # fmt: skip

    def until(self, text: str) -> None:
        for _ in range(600):
            if self.calls.exists() and text in self.calls.read_text():
                return
            time.sleep(0.05)
        raise AssertionError(f"{text!r} is not in {self.calls.read_text()!r}")

    def ended(self) -> int:
        try:
            return self.process.wait(30)
        finally:
            with suppress(ProcessLookupError):  # nothing of it is left
                os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture
def script(cli: Any, tmp_path: Path) -> Path:
    answer = cli("slurm", "e.yaml", "--nodes", "3", "--gpus", "2", "-o", "job.sh", fakes=True)
    assert answer.code == 0, answer.err
    return tmp_path / "job.sh"


def test_script_is_sound_and_says_what_was_asked(script: Path) -> None:
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    lines = script.read_text().splitlines()
    assert lines[1:5] == [
        "#SBATCH --job-name=distillbench-t", "#SBATCH --nodes=3", "#SBATCH --ntasks-per-node=1",
        "#SBATCH --gpus-per-node=2",
    ]  # fmt: skip
    assert "#SBATCH --requeue" in lines
    assert "#SBATCH --signal=B:USR1@300" in lines


def test_ray_starts_on_every_node_and_the_driver_joins_it(script: Path, tmp_path: Path) -> None:
    job = Job(script, tmp_path, SLURM_JOB_NUM_NODES="3", QUICK="1")
    assert job.ended() == 0
    calls = job.calls.read_text().splitlines()
    heads = [c for c in calls if c.startswith("srun") and "ray start --head" in c]
    others = [c for c in calls if c.startswith("srun") and "ray start --address" in c]
    assert len(heads) == 1
    assert sorted(c.split("--nodelist=")[1].split()[0] for c in others) == ["n2", "n3"]
    (driver,) = (c for c in calls if c.startswith("distillbench run"))
    assert driver.endswith("--runner ray --address 10.0.0.1:20007")
    assert not any(c.startswith("scontrol requeue") for c in calls)


def test_before_the_time_limit_it_stops_and_is_requeued(script: Path, tmp_path: Path) -> None:
    job = Job(script, tmp_path, SLURM_JOB_NUM_NODES="1")
    job.until("ready")
    job.process.send_signal(signal.SIGUSR1)
    assert job.ended() == 130
    assert "scontrol requeue 7" in job.calls.read_text()


def test_a_preempted_job_lets_the_driver_write_its_checkpoints(
    script: Path, tmp_path: Path
) -> None:
    job = Job(script, tmp_path, SLURM_JOB_NUM_NODES="1")
    job.until("ready")
    job.process.send_signal(signal.SIGTERM)
    assert job.ended() == 130
    assert "requeue" not in job.calls.read_text()  # SLURM itself puts it back


def test_words_of_the_command_are_quoted(cli: Any) -> None:
    shown = cli("slurm", "e.yaml", "--results", "my $(x) res", "--set", "title='a b'", fakes=True)
    (line,) = (x for x in shown.out.splitlines() if x.startswith("run=("))
    assert "--results 'my $(x) res'" in line
    assert "--gpus 8" in line


@pytest.mark.parametrize(
    "words",
    [
        ("--sbatch", "partition=a;rm -rf /"), ("--sbatch", "a\n#SBATCH --x"), ("--time", "soon"),
        ("--sbatch", ""), ("--nodes", "0"),
    ],
)  # fmt: skip
def test_bad_options_are_refused_in_a_line(cli: Any, words: tuple[str, ...]) -> None:
    answer = cli("slurm", "e.yaml", *words, fakes=True)
    assert answer.code == 2
    assert "Traceback" not in answer.err
