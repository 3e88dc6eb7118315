"""Write the verdicts on claims as CSV, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from distillbench.analysis.columns import find_metric
from distillbench.analysis.verdicts import Verdict
from distillbench.api.metric import MetricInfo
from distillbench.report.writers import environment, md_escape, to_csv, to_json, write_text

__all__ = ["HEADS", "claim_texts", "explanation", "write_claims"]

HEADS = (
    "claim", "verdict", "A", "B", "difference", "95 % interval", "p", "p (Holm)", "effect size",
    "paired",
)  # fmt: skip
EXPLANATION = (
    "Difference is A - B (A - factor x B where the claim has a factor), paired by seed and prompt "
    "(same noise). The interval is a percentile bootstrap over prompts, p a two-sided sign-flip "
    "test over prompts (over samples in a world of a few prompts); metrics that score whole sets "
    "are paired by seed (Student's t). Prompts are resampled, trainings are not, so a verdict also "
    "needs every seed to agree; with one seed it is about these two trainings and not about their "
    "methods. Effect size is Cohen's d_z. Holm's correction covers all claims of "
    "the experiment; a claim holds or fails at a corrected p below 0.05."
)


def explanation(verdicts: Sequence[Verdict]) -> str:
    """What the columns mean, and what each metric is called in full ("HPS (tiny)")."""
    names = dict.fromkeys(f"{v.metric} is {v.label}" for v in verdicts if v.label)
    return f"{EXPLANATION} Scores: {', '.join(names)}." if names else EXPLANATION


def claim_texts(verdict: Verdict, infos: Mapping[str, MetricInfo]) -> tuple[str, ...]:
    """What a reader sees of one verdict, one text per head."""
    found = find_metric(verdict.metric, list(infos))
    spec = infos[found[0]].format if found else ".4g"

    def number(value: float | None, form: str = spec) -> str:
        return "--" if value is None else format(value, form)

    plain = spec.removeprefix("+")
    interval = "--"
    if verdict.low is not None and verdict.high is not None:
        interval = f"{verdict.low:+{plain}} to {verdict.high:+{plain}}"
    return (
        verdict.text, verdict.verdict, number(verdict.a_value), number(verdict.b_value),
        number(verdict.difference, f"+{plain}"), interval, _p(verdict.p), _p(verdict.p_holm),
        number(verdict.effect_size, "+.2f"), _paired(verdict),
    )  # fmt: skip


def write_claims(
    verdicts: Sequence[Verdict], infos: Mapping[str, MetricInfo], outdir: Path
) -> list[Path]:
    """Write claims.csv, claims.md and claims.json; returns their paths."""
    names = [f.name for f in fields(Verdict) if f.name != "runs"]
    table = to_csv(names, [[getattr(v, name) for name in names] for v in verdicts])
    rows = []
    for verdict in verdicts:
        texts = [md_escape(text) for text in claim_texts(verdict, infos)]
        rows.append([texts[0], f"**{texts[1]}**", *texts[2:], md_escape(verdict.source)])
    reasons = [f"{md_escape(v.text)}: {md_escape(v.reason)}" for v in verdicts if v.reason]
    text = environment().get_template("claims.md.j2").render(
        heads=(*HEADS, "source"), rows=rows, reasons=reasons,
        explanation=md_escape(explanation(verdicts)),
    )  # fmt: skip
    return [
        write_text(outdir / "claims.csv", table),
        write_text(outdir / "claims.md", text),
        write_text(outdir / "claims.json", to_json([asdict(v) for v in verdicts])),
    ]


def _p(value: float | None) -> str:
    if value is None:
        return "--"
    return "<0.0001" if value < 1e-4 else f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def _paired(verdict: Verdict) -> str:
    if not verdict.units:
        return "--"
    agree = f"{verdict.seeds_agree}/{verdict.seeds} seeds agree"
    seeds = "one seed only" if verdict.seeds == 1 else agree
    if verdict.over == "seeds":
        return f"{verdict.units} seeds, {seeds}"
    prompts = f" of {verdict.units} prompts" if verdict.over == "prompts" else ""
    return f"{verdict.pairs} pairs{prompts}, {seeds}"
