"""Temporal flickering of VBench (arXiv 2311.17982): (255 - mean absolute step) / 255, in per cent.

The step is between successive frames, over pixels and channels. No weights. VBench measures it on
still scenes alone (75 prompts, 25 videos each, filtered by optical flow); on moving scenes motion
counts as flicker, so values are comparable on one prompt list only.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from distillbench.api.metric import Metric, MetricInfo, Samples, Scores, mean_scores


class TemporalFlickering(Metric):
    """Mean over videos; 100 where nothing changes."""

    class Config(BaseModel):
        """There are no settings."""

        model_config = ConfigDict(frozen=True, extra="forbid")

    streams = True
    info = MetricInfo("Flicker", higher_is_better=True, unit="%", modality=frozenset({"video"}))

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """The value of each video."""
        from distillbench.score.frames import each_video, step_difference

        steps = each_video(samples, step_difference)
        values = [100 * (255 - step) / 255 for step in steps]
        return mean_scores(samples, values, {"frames": int(samples.data.shape[1])})
