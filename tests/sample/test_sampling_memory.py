"""Memory of sampling: it moves with the batch and the guidance, as the pixels of the decoder do."""

from __future__ import annotations

from typing import Any

import pytest

from distillbench.api import registry
from distillbench.outlines import Memory
from distillbench.sample.estimate import sampling_memory


def memory(name: str, batch: int = 8, *, backbone: str = "tiny-sd", **params: Any) -> Memory:
    method = registry.build_method(name, params, registry.build_backbone(backbone, {}))
    return sampling_memory(method, method.sampler(2), precision="float32", batch_size=batch)


def test_sizes_move_as_they_must() -> None:
    one, two = memory("lcm", 8), memory("lcm", 16)
    assert one.unknown == two.unknown == ""
    assert one.weights == two.weights
    assert one.passes < two.passes <= 2.1 * one.passes
    assert (one.trained, one.optimizer) == (0, 0)
    assert memory("teacher").weights < one.weights < memory("lcm", nets="copy").weights


def test_the_decoder_takes_its_own_chunks() -> None:
    """Above 16 pictures the network alone goes on to grow with the batch."""
    few, many = memory("lcm", 16), memory("lcm", 256)
    assert many.passes < 16 * few.passes
    assert many.turn == "the network"


@pytest.mark.parametrize("name", ["tdm", "dmd2", "tscd", "teacher"])
def test_samplers_run_without_a_number(name: str) -> None:
    found = memory(name)
    assert found.unknown == ""
    assert found.turn in ("the network", "decoding")
    assert found.passes > 0


def test_a_student_on_another_backbone_is_reckoned_there() -> None:
    bases = [registry.build_backbone("tiny-sd", {}) for _ in range(2)]
    method = registry.build_method("lcm", {"nets": "copy"}, bases[0])
    both = sampling_memory(
        method, method.sampler(2), precision="float32", batch_size=4, on=bases[1]
    )
    assert both.weights > memory("lcm", 4, nets="copy").weights
