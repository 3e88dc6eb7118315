"""What was trained behind samples, by whomever: of that a claim says how often it was repeated.

A row's own training is not all there is: a row without one may sample another row's trained net
(`teacher`, `sample_on`), weights that others trained, or show the samples of another tool. Only a
teacher as its backbone brings it is a setting and no draw of a training.
"""

from __future__ import annotations

from dataclasses import dataclass

from distillbench.plan.stage import Cell, Plan
from distillbench.specs.stages import GivenSpec, SampledSpec, SampleSpec, TrainSpec

__all__ = ["Trained", "trained_of"]


@dataclass(frozen=True)
class Trained:
    """What was trained behind the samples of one seed.

    Attributes:
        here: keys of trainings of this plan, which another seed repeats.
        elsewhere: contents of weights or samples of others, of which there is one.
    """

    here: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Equal for what is one and the same; "" where nothing was trained."""
        return " ".join((*self.here, *self.elsewhere))


def trained_of(plan: Plan, cell: Cell) -> Trained:
    """What was trained behind the samples of a cell."""
    stage = plan.stages.get(cell.sample)
    spec = stage.read(SampledSpec) if stage is not None else None
    if isinstance(spec, GivenSpec):
        return Trained(elsewhere=(spec.samples_sha256,))
    own = [cell.train] if cell.updates else []
    if not isinstance(spec, SampleSpec):
        return Trained(tuple(own))
    taken = filter(None, [_taken(plan, cell), spec.onto])
    weights = tuple(filter(None, [spec.method.weights]))
    return Trained(tuple(dict.fromkeys([*own, *taken])), weights)


def _taken(plan: Plan, cell: Cell) -> str | None:
    """The run whose net is sampled in the teacher's place, by a row that trains nothing."""
    train = plan.stages.get(cell.train)
    return train.read(TrainSpec).teacher if train is not None and not cell.updates else None
