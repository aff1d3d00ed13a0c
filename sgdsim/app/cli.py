"""The command line. Each command is one call a Python user could make; heavy packages are imported inside."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich_click import command_panel, group

from sgdsim.app import completion
from sgdsim.app.command import (
    JSON_OPTION,
    Group,
    Number,
    Whole,
    print_json,
    print_styled,
    print_text,
    reporting_errors,
    table_options,
)
from sgdsim.base.errors import InputError
from sgdsim.base.version import __version__
from sgdsim.input.options import is_given, options

if TYPE_CHECKING:
    from sgdsim.ensemble import Ensemble
    from sgdsim.input.scenario import Scenario

_COLUMNS = 80  # width of an output that is not a terminal


def _version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the version, and the commit of a source checkout."""
    if not asked or context.resilient_parsing:
        return
    from sgdsim.simulation.provenance import git_commit

    commit = git_commit()
    click.echo(f"sgdsim, version {__version__}" + ("" if commit == "unknown" else f", commit {commit}"))
    context.exit()


_LOSS_OPTIONS = ("parameters", "constants", "noise", "definitions", "directions", "states", "symmetries", "data")


def _command(example: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A command with an example below its help."""
    return main.command(epilog=f"Example: {example}", **settings)


@group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@command_panel("Simulate", commands=["run", "simulate"])
@command_panel("Long runs", commands=["plan", "peek", "resume", "merge"])
@command_panel("Look at a file", commands=["compare", "plot", "report", "info"])
@command_panel("Theory", commands=["show", "theory", "schedule"])
@command_panel("This installation", commands=["list", "bench", "doctor"])
@command_panel("Other simulators", commands=["suite"])
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
def main() -> None:
    """Simulate millions of SGD trajectories and hold them against theory."""


@_command("sgdsim run river_valley --trajectories 1e5 -o valley.h5")
@click.argument("scenario", shell_complete=completion.names("scenarios", files=True))
@table_options(
    *("output", "trajectories", "steps", "seed", "threads", "device", "settings", "predictions"),
    *("no_compare", "all_rows", "overwrite", "shard", "resume", "checkpoint_every", "keep_state", "quiet"),
    *("memory_limit", "dask", "cpu_target"),
    no_compare={"meaning": "Write the file only."},
)
@reporting_errors
def run(scenario: str, settings: tuple[str, ...], predictions: tuple[str, ...], **options: Any) -> None:
    """Run SCENARIO, a TOML file or the name of a shipped scenario, and hold it against its predictions."""
    from sgdsim.input.loading import load_parts

    _compile_for(options["cpu_target"])
    overrides = _overrides(settings, options)
    scenarios = load_parts(scenario, overrides, predictions, progress=not options["quiet"])
    named = [one.claims[len(one.claims) - len(predictions) :] for one in scenarios]  # after those of the file
    _run(scenarios, options, [claim.source.id for claims in named for claim in claims])


@_command("sgdsim resume valley.h5")
@click.argument("file")
@table_options(
    *("trajectories", "steps", "threads", "checkpoint_every", "no_compare", "all_rows", "memory_limit"),
    *("dask", "cpu_target", "quiet"),
    trajectories={"meaning": "Make a run with --keep-state larger."},
    steps={"meaning": "Make a run with --keep-state longer."},
    no_compare={"meaning": "Write the file only."},
)
@reporting_errors
def resume(file: str, **options: Any) -> None:
    """Go on with the run that was to write FILE, from the checkpoints beside it, and compare it."""
    from sgdsim.app.workflow import resume_file
    from sgdsim.ensemble import open_parts

    _compile_for(options["cpu_target"])
    every = _time("--checkpoint-every", options["checkpoint_every"])
    how = {"threads": options["threads"], "checkpoint_every": every, "progress": not options["quiet"]}
    if file.endswith(".shard"):
        from sgdsim.app.cluster import resume_shard

        if options["dask"] is not None:
            raise InputError("--dask: makes shards of its own, and this is one: expected it without")
        for name in ("steps", "trajectories"):
            if options[name] is not None:
                raise InputError(f"--{name}: the states of a shard are not kept, expected it without")
        resume_shard(file, **how, memory_limit=options["memory_limit"])
        return
    numbers = {name: options[name] for name in ("steps", "trajectories")}
    before = _version_of(file)
    with _client(options) as client:
        how |= {"memory_limit": options["memory_limit"], "keep_predictions": not options["no_compare"]}
        ensembles = resume_file(file, **numbers, **how, client=client)
    _report(file, list(open_parts(file)), ensembles, options, was_there=before == _version_of(file))


@_command("sgdsim merge parts -o whole.h5")
@click.argument("folder")
@table_options(
    *("output", "no_compare", "all_rows", "overwrite", "memory_limit", "quiet"),
    output={"default": "FOLDER.h5"},
    no_compare={"meaning": "Write the file only."},
)
@reporting_errors
def merge(folder: str, output: str | None, **options: Any) -> None:
    """Put the shards in FOLDER together, to the same file as that of one run, and compare it."""
    from pathlib import Path

    from sgdsim.app.cluster import default_merged, merge_shards
    from sgdsim.ensemble import open_parts

    ensembles = merge_shards(folder, output, overwrite=options["overwrite"], memory_limit=options["memory_limit"])
    path = str(default_merged(Path(folder)) if output is None else output)
    _report(path, list(open_parts(path)), ensembles, options)


@_command("sgdsim plan river_valley --trajectories 1e9 --workers 16")
@click.argument("scenario", shell_complete=completion.names("scenarios", files=True))
@table_options("trajectories", "steps", "seed", "threads", "settings")
@click.option("--workers", type=Whole(), default=1, show_default=True, help="Machines like this one to share it.")
@reporting_errors
def plan(scenario: str, settings: tuple[str, ...], workers: int, threads: int | None, **options: Any) -> None:
    """Print what SCENARIO will take: time, memory, disk and shards, from a second of it on this machine."""
    from sgdsim.app.plan import plan as made
    from sgdsim.input.loading import load_parts

    print_text(made(load_parts(scenario, _overrides(settings, options)), workers, threads).text())


@_command("sgdsim peek valley.h5")
@click.argument("file")
@reporting_errors
def peek(file: str) -> None:
    """Print how far the run is that is going to write FILE, and what it has measured."""
    from sgdsim.app.peek import peek as look

    print_text(look(file))


@_command(
    'sgdsim simulate --loss "a*x**2/2 + z*x" --constant a=1 --noise z=normal --parameter x=0 '
    "--learning-rate 0.1 --trajectories 1e5 --steps 200 -o trap.h5"
)
@table_options()
@reporting_errors
def simulate(**given: Any) -> None:
    """Run a scenario that is given by options alone, and hold it against its predictions."""
    from sgdsim.app.workflow import default_output
    from sgdsim.input.loading import save_scenario, scenario_from
    from sgdsim.input.options import in_options, scenario_data, scenario_name

    about = {option.name: given.pop(option.name) for option in options() if not option.key}
    _compile_for(about["cpu_target"])
    # Laws that the user did not ask for are tried only if a table follows; without one they would only record more.
    automatic = not (about["no_automatic"] or about["no_compare"])
    data = scenario_data(settings=about["settings"], automatic=automatic, **given)
    try:
        scenario = scenario_from(data, scenario_name(data), "the command line", progress=not about["quiet"])
    except InputError as error:
        raise InputError(in_options(str(error))) from None
    if about["save_scenario"] is not None:
        output = about["output"] or default_output(scenario)
        save_scenario(data, about["save_scenario"], output, overwrite=about["overwrite"])
    _run([scenario], about, [claim.source.id for claim in scenario.claims if claim.asked])


@_command("sgdsim compare valley.h5 --all")
@click.argument("file", shell_complete=completion.files)
@table_options("all_rows", "quiet", quiet={"meaning": "Print nothing: the exit code is the answer."})
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@reporting_errors
def compare(file: str, *, as_json: bool, all_rows: bool, quiet: bool) -> None:
    """Hold the ensemble in FILE against the predictions of its scenario, from the file alone."""
    _show_comparison(file, as_json=as_json, quiet=quiet, all_rows=all_rows)


@_command("sgdsim plot valley.h5 --only x --residuals -o valley.pdf")
@click.argument("file", shell_complete=completion.files)
@click.option("-o", "--output", metavar="FIGURE", help="SVG, PNG or PDF file to write.  [default: FILE with .svg]")
@click.option(
    "--kind",
    metavar="NAME",
    shell_complete=completion.names("figures"),
    help="One of `sgdsim list figures`.  [default: what shows most]",
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Show this parameter or observable, or one statistic of it, variance(x); may be repeated.",
)
@click.option("--part", default="", metavar="NAME", help="Of a file with parts, draw this one.")
@click.option("--no-theory", is_flag=True, help="Draw what was measured alone.")
@click.option("--residuals", is_flag=True, help="Below, measured less predicted in standard errors.")
@click.option("--style", default="paper", show_default=True, metavar="NAME", help="paper or talk.")
@click.option("--size", metavar="WIDTHxHEIGHT", help="In inches, e.g. 7x5.  [default: by what is shown]")
@click.option("--overwrite", is_flag=True, help="Replace an existing figure.")
@reporting_errors
def plot(
    file: str,
    output: str | None,
    kind: str | None,
    size: str | None,
    *,
    overwrite: bool,
    only: tuple[str, ...],
    part: str,
    no_theory: bool,
    residuals: bool,
    style: str,
) -> None:
    """Draw the ensemble in FILE with the predictions of its scenario, from the file alone."""
    from sgdsim.app.figures import drawn_file
    from sgdsim.plots.drawing import parse_size

    inches = None if size is None else parse_size(size)
    chosen = "" if kind else ", chosen by what the file holds"
    looks: dict[str, Any] = {"residuals": residuals, "only": only, "part": part, "style": style}
    path, kinds = drawn_file(file, output, kind, inches, overwrite, theory=not no_theory, **looks)
    print_text(f"{path}: {kinds}{chosen}")


@_command("sgdsim report results/*.h5 -o results/index.html")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", shell_complete=completion.files)
@click.option("-o", "--output", default="report.html", show_default=True, metavar="PAGE", help="HTML file to write.")
@click.option("--overwrite", is_flag=True, help="Replace an existing page.")
@reporting_errors
def report(files: tuple[str, ...], output: str, *, overwrite: bool) -> None:
    """Write one page for the browser about FILES: what was simulated, verdicts, figures, and what repeats it."""
    from sgdsim.app.html_report import write_report

    reports = write_report(files, output, overwrite=overwrite)
    rows = [row.outcome for one in reports.values() for row in one.comparisons]
    wrong = rows.count("disagrees")
    print_text(f"{output}: {len(reports)} file{'s' if len(reports) > 1 else ''}, {len(rows)} rows, {wrong} disagree")


@_command("sgdsim info valley.h5 --digest")
@click.argument("file", shell_complete=completion.files)
@click.option("--digest", is_flag=True, help="Print one sha256 over all variables and the scenario.")
@JSON_OPTION
@reporting_errors
def info(file: str, *, digest: bool, as_json: bool) -> None:
    """Print what FILE holds and where it comes from."""
    from sgdsim.app.catalogue import contents, describe
    from sgdsim.base.files import about
    from sgdsim.ensemble import WHOLE, open_parts

    texts = []
    with about(file):
        if as_json:
            parts = open_parts(file).items()
            held = {part: {"digest": one.digest()} if digest else contents(one) for part, one in parts}
            print_json(held.get(WHOLE, held))
            return
        for part, ensemble in open_parts(file).items():
            heading, line = (f"Part {part}:\n", f"  {part}") if part else ("", "")
            texts.append(f"{ensemble.digest()}{line}" if digest else f"{heading}{describe(ensemble)}")
    print_text("\n".join(texts))


_no_symmetries = click.option(
    "--no-symmetries", is_flag=True, help="Do not look for symmetries that the loss does not declare."
)


@_command('sgdsim show "(u*w - z)**2/2" --noise z=normal --symmetry rescale:u:1,w:-1')
@click.argument(
    "subject", metavar="[LOSS|LAW]", required=False, shell_complete=completion.names("losses", "predictions")
)
@table_options(
    loss={"meaning": "The same as LOSS."},
    parameters={"usage": "NAME[=VALUE]", "default": "what is nothing else"},
    learning_rate={"meaning": "Print its rates too, e.g. `cosine:0.1,0.001`, or `file:FILE`."},
    steps={"default": "1000, or the length of a file of rates"},
)
@_no_symmetries
@JSON_OPTION
@reporting_errors
def show(subject: str | None, *, no_symmetries: bool, as_json: bool, **given: Any) -> None:
    """Print what follows from LOSS, its name or formula, or the derivation of a LAW; with a rate, that too.

    It takes the options of `simulate`: those about a run are read and say nothing here.
    """
    from sgdsim.app.loss_report import describe_law, describe_loss, describe_schedule, law_facts, loss_facts, rates_at
    from sgdsim.input.subject import loss_of, schedule_of
    from sgdsim.theory import LAWS, law_named

    options_of = {option.name: given[option.name] for option in options() if option.key or option.name == "settings"}
    loss, rate, steps = options_of.pop("loss"), given["learning_rate"], given["steps"]
    if subject is not None and loss is not None:
        raise InputError(f"--loss {loss}: expected it, or {subject}")
    subject = loss if subject is None else subject
    if subject is None and not given["directions"]:
        raise InputError("expected a loss, e.g. sgdsim show 'a*x**2/2 + z*x' --constant a=1 --noise z=normal")
    if subject is not None and law_named(subject):
        of_loss = [option.flag for option in options() if is_given(options_of.get(option.name))]
        for flag in [*of_loss, *["--no-symmetries"] * no_symmetries]:
            if flag not in ("--learning-rate", "--steps"):
                raise InputError(f"{flag}: expected it with a loss, and {subject} is a law")
    if as_json:
        facts = (subject and law_facts(subject)) or loss_facts(loss_of(subject, LAWS, **options_of), not no_symmetries)
        print_json(facts | ({} if rate is None else {"schedule": rates_at(schedule_of(rate), steps)}))
        return
    law = None if subject is None else describe_law(subject)
    texts = [law or describe_loss(loss_of(subject, LAWS, **options_of), not no_symmetries)]
    texts += [] if rate is None else [describe_schedule(schedule_of(rate), steps)]
    print_text("\n\n".join(texts))


@_command('sgdsim theory "a*x**2/2 + z*x" --constant a=1 --noise z=normal --learning-rate 0.1')
@click.argument(
    "subject",
    metavar="[LOSS|SCENARIO|FILE]",
    required=False,
    shell_complete=completion.names("losses", "scenarios", files=True),
)
@table_options(
    *_LOSS_OPTIONS,
    *("optimizer", "momentum", "learning_rate", "batch_size", "sampling", "weight_decay", "steps", "settings"),
    parameters={"usage": "NAME[=VALUE]", "default": "all, at 1"},
    learning_rate={"default": "0.01"},
    steps={"default": "1000"},
)
@click.option("--point", type=Whole(), default=0, show_default=True, help="Of a sweep, the point to explain.")
@_no_symmetries
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@reporting_errors
def theory(subject: str | None, point: int, *, no_symmetries: bool, as_json: bool, **options: Any) -> None:
    """Print what theory says about a loss (its name or formula), a scenario, or a FILE that a run has written.

    Where every parameter has a --direction there need be no LOSS.
    """
    from sgdsim.app.theory_entries import to_json, to_text
    from sgdsim.app.theory_report import report_of
    from sgdsim.input.subject import scenario_of

    if subject is None and not options["directions"]:
        raise InputError("expected a loss, a scenario or a file, e.g. sgdsim theory 'a*x**2/2' --constant a=1")
    sections = report_of(scenario_of(subject, **options), point, not no_symmetries)
    print_text(to_json(sections) if as_json else to_text(sections))


@_command("sgdsim schedule --curvature 1 --noise 1 --slope 0.01 --peak 0.5 --steps 1000")
@click.argument("rate", metavar="[RATE]", required=False, shell_complete=completion.names("schedules"))
@click.option("--curvature", type=Number(), help="Of the valley, a.")
@click.option("--noise", type=Number(), help="Standard deviation of the valley's gradient noise, sigma.")
@click.option("--slope", type=Number(), help="Of the river where it ends, g.")
@click.option("--peak", type=Number(), help="The largest learning rate, eta_max.")
@click.option("--steps", type=Whole(), help="Of the run, N; of RATE 1000, or the length of its file.")
@click.option("--measure", "file", metavar="FILE", help="Measure a, sigma and g in this run instead.")
@click.option("--fast", default="x", show_default=True, metavar="NAME", help="Its parameter across the valley.")
@click.option("--river", default="y", show_default=True, metavar="NAME", help="Its parameter along the river.")
@click.option("-o", "--output", metavar="FIGURE", help="Draw it too: an SVG, PNG or PDF file.")
@click.option("--overwrite", is_flag=True, help="Replace an existing figure.")
@JSON_OPTION
@reporting_errors
def schedule(rate: str | None, *, as_json: bool, **given: Any) -> None:
    """Print the rates of RATE, e.g. cosine:0.1,0.001, or else the best ones for a river in a valley.

    The best are a plateau, then harmonic decay.
    """
    if rate is None and as_json:
        raise InputError("--json: expected it with a RATE, e.g. sgdsim schedule cosine:0.1,0.001 --json")
    if rate is None:
        _design(**given)
        return
    from sgdsim.app.loss_report import describe_schedule, rates_at
    from sgdsim.input.subject import schedule_of

    steps = given["steps"]
    of_rivers = dict.fromkeys(("curvature", "noise", "slope", "peak", "file", "output"))
    of_rivers |= {"fast": "x", "river": "y", "overwrite": False}
    if other := next((name for name, unset in of_rivers.items() if given[name] != unset), None):
        flag = "measure" if other == "file" else other
        raise InputError(f"--{flag}: expected it without {rate}, for the best rates of a river")
    found = schedule_of(rate)
    print_json(rates_at(found, steps)) if as_json else print_text(describe_schedule(found, steps))


def _design(
    file: str | None, fast: str, river: str, output: str | None, overwrite: bool, **given: float | int | None
) -> None:
    """Print the best learning rates, and draw their figure."""
    from sgdsim.app.schedule_design import check_figure, describe_design, design_from, measure, plot_design
    from sgdsim.base.files import about
    from sgdsim.ensemble import Ensemble

    if output is not None:
        check_figure(output, overwrite, file)
    elif overwrite:
        raise InputError("--overwrite: expected it with --output")
    measured = None
    if file is not None:
        with about(file):
            measured = measure(Ensemble.open(file), fast, river)
    design = design_from(**given, measured=measured)  # type: ignore[arg-type]
    print_text(describe_design(design, measured))
    if output is not None:
        print_text(f"\n{plot_design(design, output, overwrite)}")


@_command("sgdsim suite -o suite")
@click.option("-o", "--output", metavar="FOLDER", help="Write the models and their exact moments here.")
@click.option(
    "--score", "results", metavar="FILE", shell_complete=completion.files, help="Hold this CSV file against them."
)
@click.option("--overwrite", is_flag=True, help="Replace files in the folder.")
@reporting_errors
def suite(output: str | None, results: str | None, *, overwrite: bool) -> None:
    """Write models with exact means and variances, for any simulator of SGD, or score the results of one."""
    from sgdsim.app.suite import score, write_suite

    if (output is None) == (results is None):
        raise InputError("expected either --output FOLDER or --score FILE")
    if overwrite and output is None:
        raise InputError("--overwrite: expected it with --output")
    if output is not None:
        print_text(f"{output}: {write_suite(output, overwrite=overwrite)} models")
    if results is not None:
        found = score(results)
        print_text(found.table())
        if not found.accepted:
            sys.exit(1)


@_command("sgdsim list losses", name="list")
@click.argument("kind", required=False, shell_complete=completion.names("kinds"))
@JSON_OPTION
@reporting_errors
def list_(kind: str | None, *, as_json: bool) -> None:
    """List what there is: losses, symmetries, scenarios, predictions, optimizers, schedules, and more."""
    from sgdsim.app.catalogue import catalogue, entries

    print_json(entries(kind)) if as_json else print_text(catalogue(kind))


@_command("sgdsim bench")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, or cuda:1 for the second GPU.")
@reporting_errors
def bench(device: str) -> None:
    """Time the reference job for a few seconds, and NumPy beside it."""
    from sgdsim.app.bench import measure, report

    print_text(report(measure(device), device))


@_command("sgdsim doctor --json")
@JSON_OPTION
@reporting_errors
def doctor(*, as_json: bool) -> None:
    """Say what this installation can do: versions, threads, SIMD, cache, CUDA."""
    from sgdsim.app.doctor import checks, examine

    print_json(checks()) if as_json else print_text(examine())


def _run(scenarios: Sequence[Scenario], options: Mapping[str, Any], must_apply: Sequence[str]) -> None:
    """Simulate, write the file, and print its verdicts; predictions that the command names must apply somewhere."""
    from sgdsim.app.workflow import default_output, run_parts

    path = options["output"]
    how = {name: options[name] for name in ("threads", "overwrite", "resume")}
    how |= {"checkpoint_every": _time("--checkpoint-every", options["checkpoint_every"])}
    how |= {"device": "cpu" if options["device"] is None else options["device"], "progress": not options["quiet"]}
    if options["shard"] is not None:
        if options["dask"] is not None:
            raise InputError("--dask: makes shards of its own, expected it or --shard")
        from sgdsim.app.cluster import run_shard

        if options["keep_state"]:
            raise InputError("--keep-state: the states of a shard are not kept, expected it or --shard")
        if path is None:
            raise InputError("--shard: expected --output with a folder for the files of all shards")
        written = run_shard(scenarios, options["shard"], path, **how, memory_limit=options["memory_limit"])
        if not options["quiet"]:
            print_text(f"{written}: sgdsim merge {path} puts all of them together")
        return
    if options["keep_state"] and options["dask"] is not None:
        raise InputError(
            "--keep-state: the states of a run on workers of Dask are not kept, expected it without --dask"
        )
    if path is None:
        path = default_output(scenarios[0])
    before = _version_of(path)
    with _client(options) as client:
        how |= {"memory_limit": options["memory_limit"], "keep_predictions": not options["no_compare"]}
        how |= {"keep_state": options["keep_state"], "must_apply": must_apply}
        ensembles = run_parts(scenarios, path, **how, client=client)
    parts = [scenario.part for scenario in scenarios]
    _report(str(path), parts, ensembles, options, was_there=before == _version_of(path))


def _compile_for(target: str | None) -> None:
    """Choose the processor that kernels are compiled for, before the first is compiled."""
    from sgdsim.kernels.processor import compile_for

    if target is not None:
        compile_for(target)


def _client(options: Mapping[str, Any]) -> contextlib.AbstractContextManager[Any]:
    """Dask client of the workers that the options ask for; None without workers."""
    if options["dask"] is None:
        return contextlib.nullcontext()
    from sgdsim.app.dask_workers import connected

    return connected(options["dask"], options["cpu_target"])


def _time(flag: str, text: str | None) -> str | None:
    """Text of a length of time, if it can be read."""
    from sgdsim.base.durations import read_seconds

    if text is not None:
        read_seconds(text, flag)
    return text


def _version_of(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Numbers that tell a file from one that is written in its place; None if there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _report(
    path: str,
    parts: Sequence[str],
    ensembles: Sequence[Ensemble],
    options: Mapping[str, Any],
    was_there: bool = False,
) -> None:
    """Print a summary of a run, or that it was finished before, and compare it with its predictions."""
    from sgdsim.app.catalogue import summary

    if was_there and not options["quiet"]:
        print_text(f"{path}: is finished, nothing was left to compute")
    elif not options["quiet"]:
        for part, ensemble in zip(parts, ensembles, strict=True):
            print_text(f"{path}{f', {part}' if part else ''}: {summary(ensemble)}")
    if not options["no_compare"]:
        _show_comparison(path, quiet=options["quiet"], all_rows=options["all_rows"])


def _overrides(settings: tuple[str, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted key; named options come before --set."""
    from sgdsim.input.options import read_settings

    overrides = read_settings(settings)
    for name in ("trajectories", "steps", "seed"):
        if options[name] is not None:
            overrides[f"run.{name}"] = options[name]
    return overrides


def _show_comparison(file: str, *, as_json: bool = False, quiet: bool = False, all_rows: bool = False) -> None:
    """Print the verdicts on the predictions; the exit code is the overall verdict."""
    from sgdsim.app.verdicts import available_laws, compare_file

    report = compare_file(file, quiet=quiet)
    if as_json:
        print_text(report.to_json())
    elif not quiet and all_rows:
        print_text(report.table())
    elif not quiet:
        is_terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if is_terminal else _COLUMNS
        print_styled(report.screen(width, colour=is_terminal and not os.environ.get("NO_COLOR")))
        if offered := available_laws(report.scenarios):
            names = (f"{id} (seconds)" if slow else id for id, slow in offered.items())
            text = f"available with --predict: {', '.join(names)}"
            print_text("\n".join(textwrap.wrap(text, width, subsequent_indent="    ", break_on_hyphens=False)))
    if report.disagrees:
        sys.exit(1)


if __name__ == "__main__":
    main()
