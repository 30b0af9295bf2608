"""The command line. Nothing heavy is imported here: each command imports what it needs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Literal, NoReturn

import typer

from runner.errors import ExitCode, MachineError, ProofboxError
from runner.progress import print_error

# Read by OpenMP when PyTorch is first imported. Threads that wait by spinning make a run ten times
# slower on a machine that does anything else (docs/decisions/0005).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What the machine refuses: full or read-only disks, missing rights, a limit on file sizes.
OUTSIDE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EPERM,
)  # fmt: skip
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Run fine-tuning recipes end to end; release an adapter only when its gates hold.",
)
RecipeName = Annotated[
    str, typer.Argument(help="A recipe file, or the name of a shipped one such as quickstart.")
]
RunPath = Annotated[
    Path, typer.Argument(help="A run folder: runs/<recipe name>/<run id>, or its parent.")
]
Runs = Annotated[Path, typer.Option(help="Folder of all runs.")]
Device = Annotated[
    Literal["auto", "cpu", "cuda"] | None, typer.Option(help="Overrides the recipe's device.")
]
DeviceCount = Annotated[
    int, typer.Option(min=1, help="Devices of this machine that train together.")
]
Sharing = Annotated[
    Literal["ddp", "fsdp"],
    typer.Option(help="ddp: each device holds the model. fsdp: each holds a part of its weights."),
]


@app.command()
def run(
    recipe: RecipeName,
    *,
    runs: Runs = Path("runs"),
    device: Device = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Forget what is stored of this run; start over.")
    ] = False,
    previous: Annotated[
        Path | None,
        typer.Option(help="The release that gates against the last release compare with."),
    ] = None,
    devices: DeviceCount = 1,
    strategy: Sharing = "ddp",
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test", help="Only test, on a few examples, that training does as it says."
        ),
    ] = False,
) -> None:
    """Take a recipe to a verdict and a release; continues where it was."""
    _call(
        "runner.commands.run:run",
        recipe,
        runs=runs,
        device=device,
        restart=restart,
        previous=previous,
        devices=devices,
        strategy=strategy,
        self_test=self_test,
    )


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Recipe and benchmark files.")],
    format: Annotated[
        Literal["text", "json", "github"], typer.Option(help="How faults are printed.")
    ] = "text",
) -> None:
    """Check recipes: every fault with its line and column, all at once."""
    _call("runner.commands.validate:validate", files, format)


@app.command()
def schema(
    of: Annotated[
        Literal["recipe", "benchmark"], typer.Argument(help="What the schema is of.")
    ] = "recipe",
) -> None:
    """Print the JSON Schema of recipes, or of benchmark files."""
    _call("runner.commands.schema:schema", of)


@app.command()
def plan(
    recipe: RecipeName,
    *,
    runs: Runs = Path("runs"),
    device: Device = None,
    format: Annotated[Literal["text", "json"], typer.Option(help="How it is printed.")] = "text",
    check: Annotated[
        bool, typer.Option("--check", help="Also test, as `run --self-test` does.")
    ] = False,
) -> None:
    """Resolve a recipe and say what would be run, without training."""
    _call("runner.commands.plan:plan", recipe, runs=runs, device=device, format=format, check=check)


@app.command()
def preview(
    recipe: RecipeName,
    *,
    rows: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many examples to show; 3 if not given, and 50 in all on the page."
        ),
    ] = None,
    partition: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="From which partition.")
    ] = "train",
    row: Annotated[
        int | None,
        typer.Option(min=0, help="Show this source row, from 0, or why it was left out."),
    ] = None,
    violations: Annotated[
        bool, typer.Option("--violations", help="Show every rule, rows that break it, and leaks.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Also write one HTML page with all of it here.")
    ] = None,
) -> None:
    """Show what the data becomes: rendered rows, rules, leaks."""
    _call(
        "runner.commands.preview:preview",
        recipe,
        rows=rows,
        partition=partition,
        row=row,
        violations=violations,
        html=html,
    )


@app.command()
def quantize(
    recipe: RecipeName,
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="A new folder for the checkpoint; without it, it stays in the cache."),
    ] = None,
    device: Device = None,
) -> None:
    """Quantize a recipe's base model with GPTQ, and do nothing else."""
    _call("runner.commands.quantize:quantize", recipe, out=out, device=device)


@app.command()
def gate(
    run: RunPath,
    recipe: Annotated[
        str | None, typer.Option(help="Judge by the gates of this recipe instead.")
    ] = None,
) -> None:
    """Judge a run: exit 0 pass, 1 fail, 3 inconclusive, 4 error."""
    _call("runner.commands.gate:gate", run, recipe=recipe)


@app.command()
def release(
    run: RunPath,
    final: Annotated[
        bool, typer.Option("--final", help="Pack the fit on all data (proofbox finalize).")
    ] = False,
    sign: Annotated[
        Path | None, typer.Option(help="Sign the statement with this private Ed25519 key (PEM).")
    ] = None,
    push: Annotated[
        str | None, typer.Option(help="Upload the release to this Hub repository (org/name).")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Let the Hub repository be public; private if not.")
    ] = False,
) -> None:
    """Pack what may be shipped; refuses without a PASS."""
    _call("runner.commands.release:release", run, final=final, sign=sign, push=push, public=public)


@app.command()
def verify(
    release: Annotated[Path, typer.Argument(help="A release folder.")],
    key: Annotated[
        Path | None, typer.Option(help="Ask for a signature by this public Ed25519 key (PEM).")
    ] = None,
) -> None:
    """Check a release offline: every digest, the evidence, the verdict, the signature."""
    _call("runner.commands.verify:verify", release, key=key)


@app.command("eval")
def evaluate(
    target: Annotated[
        str, typer.Argument(help="Folder of an adapter or a model, or its name on the Hub.")
    ],
    recipe: Annotated[
        str, typer.Option(help="The recipe whose data, evaluation and gates judge it.")
    ],
    runs: Runs = Path("runs"),
    device: Device = None,
    other_base: Annotated[
        bool,
        typer.Option(
            "--other-base", help="Judge an adapter on other base weights than it was trained on."
        ),
    ] = False,
) -> None:
    """Judge an adapter or model that was trained elsewhere: exit codes as of `gate`."""
    _call(
        "runner.commands.eval:evaluate",
        target,
        recipe=recipe,
        runs=runs,
        device=device,
        other_base=other_base,
    )


@app.command()
def compare(runs: Annotated[list[Path], typer.Argument(help="Two or more run folders.")]) -> None:
    """Show runs side by side: what differs in recipes and figures."""
    _call("runner.commands.compare:compare", runs)


@app.command()
def report(
    run: RunPath,
    out: Annotated[Path | None, typer.Option(help="Where to write it.")] = None,
) -> None:
    """Write the HTML report of a run again."""
    _call("runner.commands.report:report", run, out=out)


@app.command()
def finalize(
    run: RunPath,
    recipe: Annotated[
        str | None, typer.Option(help="The recipe of this run, if its file has moved.")
    ] = None,
    device: Device = None,
    devices: DeviceCount = 1,
    strategy: Sharing = "ddp",
) -> None:
    """Fit the same hyper-parameters on train, validation and test."""
    _call(
        "runner.commands.finalize:finalize",
        run,
        recipe=recipe,
        device=device,
        devices=devices,
        strategy=strategy,
    )


@app.command(hidden=True)
def evaluate_subject(
    recipe: Path,
    *,
    subject: Annotated[Literal["base", "adapter"], typer.Option()],
    run_id: Annotated[str, typer.Option()],
    runs: Annotated[Path, typer.Option()],
    device: Annotated[str, typer.Option()],
    out: Annotated[Path, typer.Option()],
    parent: Annotated[int, typer.Option()],
    target: Annotated[str | None, typer.Option()] = None,
    partial: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Evaluate one subject of a run; what `run` calls in a fresh process."""
    from runner.parent import die_with_parent

    code = guarded(lambda: die_with_parent(parent))
    if code:
        raise typer.Exit(code)
    _call(
        "runner.commands.evaluate_subject:evaluate_subject_command",
        recipe,
        subject=subject,
        run_id=run_id,
        runs=runs,
        device=device,
        out=out,
        target=target,
        partial=partial,
    )


@app.command(hidden=True)
def quantize_base(
    scratch: Path, checkpoint: Path, *, parent: Annotated[int, typer.Option()]
) -> None:
    """Quantize one base model; what `run` calls in a fresh process."""
    from runner.parent import die_with_parent

    code = guarded(lambda: die_with_parent(parent))
    if code:
        raise typer.Exit(code)
    _call("runner.commands.quantize_base:quantize_base_command", scratch, checkpoint)


@app.command(hidden=True)
def train_rank(
    recipe: Path,
    *,
    run_id: Annotated[str, typer.Option()],
    runs: Annotated[Path, typer.Option()],
    device: Annotated[str, typer.Option()],
    strategy: Annotated[Literal["ddp", "fsdp"], typer.Option()],
    parent: Annotated[int, typer.Option()],
    errors: Annotated[Path, typer.Option()],
    final: Annotated[bool, typer.Option("--final")] = False,
) -> None:
    """Train together with other processes; what `run --devices` starts, once for each device."""
    from runner.parent import die_with_parent

    def command() -> None:
        die_with_parent(parent)
        train = resolve_name("runner.commands.train_rank:train_rank_command")
        train(recipe, run_id=run_id, runs=runs, device=device, strategy=strategy, final=final)

    told: list[str] = []
    code = guarded(command, tell=told.append)
    resolve_name("runner.commands.train_rank:end_rank")(errors, "\n".join(told), code)


def _version(value: bool) -> None:
    if value:
        from runner.versions import installed_versions

        typer.echo(f"proofbox {installed_versions().get('proofbox', 'not installed')}")
        raise typer.Exit


@app.callback()
def proofbox(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run fine-tuning recipes end to end; release an adapter only when its gates hold."""


def _call(command: str, *arguments: object, **options: object) -> NoReturn:
    """Import ``module:function``, call it and end with its exit code."""
    raise typer.Exit(guarded(lambda: resolve_name(command)(*arguments, **options)))


def main() -> None:
    """The command line; wrong usage ends with exit code 2."""
    app(prog_name="proofbox")


def guarded(command: Callable[[], object], tell: Callable[[str], None] = print_error) -> int:
    """Call ``command``; tell a user's error plainly, and only a defect of ours with traceback."""
    try:
        result = command()
    except ProofboxError as error:
        return _explain(str(error), error.exit_code, tell)
    except KeyboardInterrupt:
        return _explain("interrupted. The same command continues.", ExitCode.INTERRUPTED, tell)
    except OSError as error:
        return _os_error(error, tell)
    except Exception as error:  # noqa: BLE001 - the last resort: a defect is shown whole
        if "No space left on device" in str(error):  # safetensors' own words, no OSError
            return _os_error(OSError(errno.ENOSPC, str(error)), tell)
        return _defect(error, tell)
    return int(result) if isinstance(result, int) else ExitCode.PASS


def _explain(message: str, code: ExitCode, tell: Callable[[str], None]) -> int:
    if message:
        tell(message)
    return code


def _os_error(error: OSError, tell: Callable[[str], None]) -> int:
    if error.errno in OUTSIDE:
        where = f"{error.filename}: " if error.filename else ""
        fault = MachineError(f"{where}{os.strerror(error.errno)}. Nothing half-written is left.")
        return _explain(str(fault), fault.exit_code, tell)
    return _defect(error, tell)


def _defect(error: Exception, tell: Callable[[str], None]) -> int:
    import traceback

    from evalsuite.errors import EvaluationError
    from reports.errors import ReportError

    if isinstance(error, EvaluationError | ReportError):
        return _explain(str(error), ExitCode.ENVIRONMENT, tell)
    tell("".join(traceback.format_exception(error)))
    tell(
        "This is a defect of proofbox, not of your recipe. Please report it with the lines above "
        "and the output of `proofbox --version`."
    )
    return ExitCode.DEFECT
