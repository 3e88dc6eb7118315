"""Frame consistency: how like the frames of a video are to the one before and to the first.

VBench's formula of background consistency (arXiv 2311.17982) on CLIP image features: the mean of
the two cosines, none below zero, in per cent. VBench uses OpenAI's ViT-B/32.
"""

from __future__ import annotations

from dataclasses import replace

from distillbench.api.metric import Samples, Scores, mean_scores

from .clip import Clip


class FrameConsistency(Clip):
    """Mean over videos; 100 where nothing changes."""

    info = replace(
        Clip.info, label="Consistency", unit="%", modality=frozenset({"video"}), format=".2f"
    )

    def score(self, samples: Samples, reference: Samples | None = None) -> Scores:
        """The value of each video."""
        from distillbench.score.frames import frames_of, successive

        features = self._clip.images(frames_of(samples))
        videos = features.reshape(len(samples), -1, features.shape[-1])
        protocol = {"weights": self._choice.kind, "resize": "crop",
                    "frames": int(samples.data.shape[1])}  # fmt: skip
        return mean_scores(samples, [100 * successive(v) for v in videos], protocol)
