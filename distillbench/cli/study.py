"""`distillbench study`: a blind comparison of two rows by people, and what came of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distillbench.cli import arguments
from distillbench.cli.common import examples, open_experiment, print_json, store_of
from distillbench.errors import BadInput

if TYPE_CHECKING:
    from distillbench.report.study.tally import Tally

__all__ = ["EPILOG", "study"]

FOLDER = Path("study")
EPILOG = examples(
    "distillbench study experiments/quickstart.yaml --rows TDM 'LCM[nfe=4]' --pairs 100 -o study",
    "distillbench study --serve -o study --port 8000",
    "distillbench study --tally study/answers-ann.json study/answers-bob.json -o study",
)


def study(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Experiment file; with --tally, answer files."),
    ] = None,
    rows: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Rows to compare, as a claim names them."),
    ] = None,
    pairs: Annotated[int, typer.Option(metavar="N", min=1, help="Pairs to judge.")] = 100,
    checks: Annotated[int, typer.Option(metavar="N", min=0, help="Attention checks.")] = 8,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of order and sides.")] = 0,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="Folder of the study.")
    ] = FOLDER,
    tally: Annotated[bool, typer.Option("--tally", help="Count answers.")] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Collect answers here.")] = False,
    host: Annotated[str, typer.Option(metavar="H", help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0: a free one.")] = 8000,
    profile: arguments.Profile = None,
    results: arguments.Results = Path("results"),
    sets: arguments.Set = None,
    plugin: arguments.Plugin = None,
    json: arguments.Json = False,
) -> None:
    """Make a blind study of two rows, serve it on this machine, or count its answers."""
    files = paths or []
    if tally:
        _count(files, out, as_json=json)
    elif serve:
        _serve(out, host, port)
    elif len(files) != 1 or rows is None:
        raise BadInput(
            "study: needs one experiment FILE and --rows A B", hint="Or --tally, --serve"
        )
    else:
        from distillbench.analysis.aggregate import Results
        from distillbench.report.study.make import make_study

        _, plan = open_experiment(files[0], profile=profile, sets=sets, plugins=plugin)
        found = Results(plan, store_of(results))
        key = make_study(found, rows, pairs=pairs, checks=checks, seed=seed, out=out)
        if json:
            print_json({"study": key.study, "pairs": len(key.pairs), "folder": str(out)})
            return
        print(f"{len(key.pairs)} pairs in {out / 'study.html'}: give that file to raters")
        print(f"{out / 'key.json'} says which side is whose: keep it to yourself")


def _serve(folder: Path, host: str, port: int) -> None:
    from distillbench.report.study.serve import server_of

    with server_of(folder, host=host, port=port) as server:
        print(
            f"http://{host}:{server.server_port}/ until Ctrl-C; answers go to {folder}", flush=True
        )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped")


def _count(files: list[Path], folder: Path, *, as_json: bool) -> None:
    from distillbench.report.study.key import Key
    from distillbench.report.study.make import KEY
    from distillbench.report.study.row import write_tally
    from distillbench.report.study.tally import read_answers, tally

    if not files:
        raise BadInput("study --tally: needs files of answers", hint="e.g. study/answers-*.json")
    place = _key_file(files, folder / KEY)
    key = Key.read(place)
    found = tally(key, read_answers(key, [path for path in files if path.name != KEY]))
    written = write_tally(found, place.parent / "tally")
    if as_json:
        print_json({**asdict(found), "claim": found.claim, "files": [str(p) for p in written]})
    else:
        print(_text(found))
        print(f"as a row of a table: {place.parent / 'tally'}")


def _key_file(files: list[Path], default: Path) -> Path:
    """The key that is named among the answers, in a folder given by -o, or beside them."""
    named = [path for path in files if path.name == default.name]
    beside = [path.parent / default.name for path in files]
    given = [] if default.parent == FOLDER else [default]
    places = (*named, *given, *beside, default)
    return next(path for path in places if path.is_file() or path == default)


def _text(found: Tally) -> str:
    lines = [found.claim, f"wins {found.wins}, ties {found.ties}, losses {found.losses}"]
    if found.inattentive:
        lines.append(f"left out, having failed the checks: {', '.join(found.inattentive)}")
    return "\n".join(lines)
