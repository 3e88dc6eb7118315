"""A worker that dies, hangs, or answers in part is an error with its last lines."""

from __future__ import annotations

import sys
import time

import pytest

from distillbench.errors import Interrupted, StageFailed
from distillbench.score.progress import listening
from distillbench.score.worker import ask

START = "import json, sys\njob, *items = [json.loads(l) for l in sys.stdin]\n"
ANSWERS = "for i in items: print(json.dumps({'id': i['id'], 'score': i['x'] * job['by']}))\n"
END = "print(json.dumps({'done': len(items), 'value': 7}))\n"
ITEMS = [{"x": x} for x in (3, 1, 2)]


def run(code: str, patience: float = 60.0, items: object = ITEMS) -> object:
    return ask(
        [sys.executable, "-c", code],
        {"what": "demo", "by": 2},
        items,
        patience=patience,  # type: ignore[arg-type]
    )


def test_scores_come_back_in_the_order_of_the_items() -> None:
    backwards = ANSWERS.replace("in items", "in reversed(items)")
    assert run(START + backwards + END) == ([6.0, 2.0, 4.0], {"done": 3, "value": 7})
    assert run(START + ANSWERS + END, items=[]) == ([], {"done": 0, "value": 7})


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import sys; sys.exit('no such model')", "ended with code 1 after 0 of 3"),
        (START + ANSWERS + "raise RuntimeError('out of memory')", "code 1 after 3 of 3"),
        (START + ANSWERS, "ended with code 0 after 3 of 3"),
        (START + ANSWERS.replace("in items", "in items[1:]") + END, "2 scores for 3 items"),
        (START + ANSWERS + END.replace("len(items)", "2"), "it counted 2"),
        (START + ANSWERS * 2 + END, "item 0 was scored twice"),
        (START + ANSWERS.replace("i['id']", "i['id'] + 9") + END, "id 9 of 3"),
        (START + ANSWERS.replace("i['id']", "True") + END, "id True of 3"),
        (START + ANSWERS.replace("i['x'] * job['by']", "float('nan')") + END, "no finite score"),
        (START + ANSWERS.replace("i['x'] * job['by']", "None") + END, "no finite score: None"),
        (START + ANSWERS.replace("i['x'] * job['by']", "10**400") + END, "no finite score: 1000"),
        (START + ANSWERS.replace("i['x'] * job['by']", "float('inf')") + END, "no finite score"),
        (START + "print('[' * 10**6)\n" + ANSWERS + END, "something else than answers"),
        (START + "print('loading weights')\n" + ANSWERS + END, "something else than answers"),
        (START + "print('[1, 2]')\n" + ANSWERS + END, "something else than answers"),
        (START + ANSWERS + END + ANSWERS, "went on after its last line"),
        ("import os; os.kill(os.getpid(), 9)", "ended with code -9"),
    ],
)
def test_whatever_is_not_the_whole_answer_is_an_error(code: str, says: str) -> None:
    with pytest.raises(StageFailed, match=says):
        run(code)


def test_the_error_has_the_last_lines_of_the_worker() -> None:
    code = "import sys\nfor i in range(30): print('line', i, file=sys.stderr)\nsys.exit(3)"
    with pytest.raises(StageFailed) as caught:
        run(code)
    assert caught.value.hint.endswith("line 28 | line 29")
    assert "line 21 " not in caught.value.hint


def test_a_hung_worker_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(StageFailed, match=r"no answer for 0\.5 seconds after 0 of 3"):
        run("import time; time.sleep(600)", patience=0.5)
    assert time.monotonic() - began < 60


def test_a_stop_ends_the_worker_at_once() -> None:
    def stop(done: int, total: int) -> None:
        raise Interrupted("stopped")

    with listening(stop), pytest.raises(Interrupted):
        run("import time; time.sleep(600)")
