"""Order of stages: dependencies, the longest chain first, wide stages not overtaken."""

from __future__ import annotations

from distillbench.plan.stage import Stage
from distillbench.run.order import Order, chain_costs
from distillbench.testing.specs import train_spec


def stage(key: str, *needs: str, cost: float = 1.0, processes: int = 1) -> Stage:
    spec = train_spec("teacher", {}, processes=processes)
    return Stage("train", key, spec, needs=needs, cost=cost)


def grid(*stages: Stage) -> dict[str, Stage]:
    return {s.key: s for s in stages}


def drain(order: Order) -> list[str]:
    taken = []
    while (found := order.next(8)) is not None:
        taken.append(found.key)
    return taken


def test_chain_costs_add_up_along_the_critical_path() -> None:
    stages = grid(
        stage("a", cost=2),
        stage("b", "a", cost=3),
        stage("c", "a", cost=10),
        stage("d", "b", "c", cost=1),
    )
    assert chain_costs(stages) == {"a": 13, "b": 4, "c": 11, "d": 1}


def test_chain_costs_do_not_need_the_plan_in_order() -> None:
    assert chain_costs(grid(stage("b", "a"), stage("a"))) == {"a": 2, "b": 1}


def test_the_longest_chain_comes_first_and_ties_keep_the_plans_order() -> None:
    order = Order(
        grid(stage("short"), stage("x"), stage("long"), stage("after", "long", cost=5)),
        done=[],
    )
    assert drain(order) == ["long", "short", "x"]
    order.done("long")
    assert drain(order) == ["after"]


def test_a_stage_waits_for_everything_it_needs() -> None:
    order = Order(grid(stage("a"), stage("b"), stage("c", "a", "b")), done=["a"])
    assert drain(order) == ["b"]
    order.done("b")
    assert drain(order) == ["c"]


def test_only_descendants_of_a_failure_are_dropped() -> None:
    stages = grid(stage("a"), stage("b", "a"), stage("c", "b"), stage("x"), stage("d", "x", "b"))
    order = Order(stages, done=[])
    assert drain(order) == ["a", "x"]
    assert order.drop("a") == ["b", "c", "d"]
    order.done("x")
    assert drain(order) == []
    assert order.left == []


def test_what_is_done_already_is_not_dropped() -> None:
    order = Order(grid(stage("a"), stage("b", "a"), stage("c", "b")), done=["b"])
    assert order.drop("a") == []
    assert order.left == ["c"]


def test_a_wide_stage_is_not_overtaken() -> None:
    order = Order(grid(stage("wide", cost=9, processes=4), stage("small")), done=[])
    assert order.next(3) is None
    found = order.next(4)
    assert found is not None
    assert found.key == "wide"


def test_a_stage_put_back_comes_again() -> None:
    order = Order(grid(stage("a")), done=[])
    assert drain(order) == ["a"]
    assert order.left == []
    order.put_back("a")
    assert drain(order) == ["a"]
