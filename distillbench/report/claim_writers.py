"""Write the verdicts on claims as CSV, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from distillbench.analysis.columns import find_metric
from distillbench.analysis.verdicts import Verdict
from distillbench.api.metric import MetricInfo
from distillbench.report.writers import environment, md_escape, to_csv, to_json, write_text

__all__ = ["HEADS", "WORDS", "claim_texts", "explanation", "why", "write_claims"]

HEADS = (
    "claim", "verdict", "A", "B", "difference", "95 % interval", "p", "p (Holm)", "effect size",
    "win rate", "paired",
)  # fmt: skip
EXPLANATION = (
    "Difference is A - B (A - factor x B where the claim has a factor), paired by seed and prompt "
    "(same noise), for metrics of whole sets by seed and block of samples (jackknife). Interval "
    "and p are over trainings and prompts: the part of the two-way error that trainings make has "
    "as many degrees of freedom as there are seeds less one, that of prompts their own, and the "
    "two are weighed so that 95 % is held (docs/metrics.md); where the trainings "
    "of the two rows differ no more than those of the other rows of the same backbone and steps "
    "(F test, p > 0.2), their spread is pooled over all of these rows, which the last column says. "
    "At one seed the interval is over prompts alone (percentile bootstrap and sign-flip test), the "
    "verdict is about two checkpoints and says that they differ, never that a claim holds. Where "
    "neither side is trained, prompts alone decide. Effect size is Cohen's d_z. Win rate is the "
    "share of prompts on which A is better, with Wilson's interval, of these trainings. Holm's "
    "correction covers all claims of the experiment; a claim is decided at a corrected p below "
    "0.05."
)
WORDS = {"differ": "these checkpoints differ"}


def explanation(verdicts: Sequence[Verdict]) -> str:
    """What the columns mean, and what each metric is called in full ("HPS (tiny)")."""
    names = dict.fromkeys(f"{v.metric} is {v.label}" for v in verdicts if v.label)
    return f"{EXPLANATION} Scores: {', '.join(names)}." if names else EXPLANATION


def why(verdict: Verdict) -> str:
    """Why it is no more than that, and what would decide it; "" where it is decided."""
    power = f"80 % power for this difference: {verdict.power}" if verdict.power else ""
    return "; ".join(filter(None, (verdict.reason, power)))


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
        verdict.text, WORDS.get(verdict.verdict, verdict.verdict),
        number(verdict.a_value), number(verdict.b_value),
        number(verdict.difference, f"+{plain}"), interval, _p(verdict.p), _p(verdict.p_holm),
        number(verdict.effect_size, "+.2f"), _wins(verdict), _paired(verdict),
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
    reasons = [f"{md_escape(v.text)}: {md_escape(text)}" for v in verdicts if (text := why(v))]
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


def _wins(verdict: Verdict) -> str:
    if verdict.win_rate is None or verdict.win_low is None or verdict.win_high is None:
        return "--"
    low, high = (f"{100 * end:.0f}" for end in (verdict.win_low, verdict.win_high))
    return f"{100 * verdict.win_rate:.0f} % ({low} to {high})"


def _paired(verdict: Verdict) -> str:
    if not verdict.units:
        return "--"
    agree = f"{verdict.seeds_agree}/{verdict.seeds} seeds agree"
    seeds = "one seed only" if verdict.seeds == 1 else agree
    if verdict.pooled_rows:
        seeds += f", trainings pooled over {verdict.pooled_rows} rows"
    if not verdict.trainings:
        seeds += ", neither trained"
    if verdict.over == "seeds":
        return seeds if verdict.units == 1 else f"{verdict.units} seeds, {seeds}"
    units = "" if verdict.over == "samples" else f" of {verdict.units} {verdict.over}"
    return f"{verdict.pairs} pairs{units}, {seeds}"
