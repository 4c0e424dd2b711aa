"""The commands: the only place that prints errors and picks exit codes.

Nothing heavy is imported at the top: `ptft --help` answers before torch could be loaded.
"""

import io
import json
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

import ptft
from ptft.distributed.place import place, speaks_for_host
from ptft.errors import ConfigError, PtftError, StorageError, UsageError
from ptft.paths import user_path
from ptft.stop import end_on_signals, ignore_signals
from ptft.storage import machine_errors

if TYPE_CHECKING:
    from ptft.data.cache import CacheOptions
    from ptft.report.console import Console
    from ptft.report.summary import Summary
    from ptft.run.session import Session
    from ptft.settings import RunConfig, RunConfigT

_EXIT_CODES = (
    "Exit codes: 0 done · 2 usage or config · 3 data · 4 checkpoint or transfer · 5 storage (disk full, I/O error) · "
    "6 loss not finite · 7 out of memory · 8 a rank of the job was lost · 75 another process holds the run folder · "
    "130, 143, 138 and 129 stopped by SIGINT, SIGTERM, SIGUSR1 and SIGHUP, state saved, --resume goes on · 1 a bug of "
    "ptft."
)

_SECONDS_TO_SPEAK = 5
_OF_MANY_RANKS = ("pretrain", "finetune", "evaluate")

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Image pretraining and finetuning from the command line.\n\nstdout carries the result and nothing else.",
    epilog=_EXIT_CODES,
)


def _version(wanted: bool) -> None:
    if wanted:
        _print(f"ptft {ptft.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand not in _OF_MANY_RANKS and place().world_size > 1:
        raise UsageError(f"`ptft {context.invoked_subcommand}` is the work of one process. Start it without torchrun.")


ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", parser=user_path, help="YAML file; `ptft init` writes one.")
]
CheckpointArgument = Annotated[Path, typer.Argument(metavar="CKPT", parser=user_path, help="A ptft checkpoint.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change any key, e.g. optim.lr=0.01. Repeatable."),
]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="SOURCE",
        help="Checkpoint or state dict, torchvision:WEIGHTS or timm:NAME. Default: transfer.from of the config.",
    ),
]
SourcesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="SOURCE",
        help="As for finetune. Of a comparison several, one pretraining with other seeds, for a verdict on that.",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", parser=user_path, help="Run folder. Default: runs/NAME.")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the run in the run folder, if there is one.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line.")]
PageOption = Annotated[
    Path | None, typer.Option("--page", metavar="FILE", parser=user_path, help="Write an HTML page of it, too.")
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        parser=user_path,
        help="Folder of images, CSV file or packed folder, in place of the data of the config (or checkpoint).",
    ),
]

CacheDirOption = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir",
        metavar="DIR",
        parser=user_path,
        help="Where decoded images and measured speeds are kept. Default: $PTFT_CACHE_DIR, $XDG_CACHE_HOME/ptft or "
        "~/.cache/ptft.",
    ),
]
NoCacheOption = Annotated[bool, typer.Option("--no-cache", help="Decode and measure anew, and keep nothing.")]
VerifyCacheOption = Annotated[
    bool,
    typer.Option("--verify-cache", help="Check image files and kept pixels against the checksums taken at decoding."),
]


@app.command()
def pretrain(
    config: ConfigArgument,
    sets: SetOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    cache_dir: CacheDirOption = None,
    no_cache: NoCacheOption = False,
    verify_cache: VerifyCacheOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train on a source task from random weights. Prints the path of the final checkpoint."""
    from ptft.commands.given import cache_options
    from ptft.settings import PretrainConfig

    def work(settings: PretrainConfig, session: "Session") -> "Summary":
        from ptft.run.training import pretrain

        return pretrain(settings, session)

    cache = cache_options(cache_dir, no_cache, verify_cache)
    _train(PretrainConfig, config, sets or [], None, None, out, resume, as_json, cache, work)


@app.command()
def finetune(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", parser=user_path, help="YAML file; not needed with --data.")
    ] = None,
    source: FromOption = None,
    data: DataOption = None,
    sets: SetOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    cache_dir: CacheDirOption = None,
    no_cache: NoCacheOption = False,
    verify_cache: VerifyCacheOption = False,
    as_json: JsonOption = False,
) -> None:
    """Start a new task from given weights. Prints the path of the final checkpoint."""
    from ptft.commands.given import cache_options, source_of, started_from
    from ptft.settings import FinetuneConfig

    def origin_of(settings: FinetuneConfig) -> str:
        return source_of(settings, config)

    if config is None and data is None:
        raise UsageError("give a CONFIG, or --data DIR with a folder of images for each class.")

    def work(settings: FinetuneConfig, session: "Session") -> "Summary":
        from ptft.run.training import finetune

        return finetune(settings, origin_of(settings), session)

    sets = [*(sets or []), *started_from(source and [source])]
    cache = cache_options(cache_dir, no_cache, verify_cache)
    _train(FinetuneConfig, config, sets, data, origin_of, out, resume, as_json, cache, work)


@app.command()
def compare(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG]", parser=user_path, help="A finetune config, perhaps with a section compare."),
    ] = None,
    sources: SourcesOption = None,
    data: DataOption = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels-per-class", metavar="N,N,all", help="Numbers of labels. Default: 5,20,100,all."),
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", metavar="N", help="Repetitions. Default: 5.")] = None,
    sets: SetOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    cache_dir: CacheDirOption = None,
    no_cache: NoCacheOption = False,
    verify_cache: VerifyCacheOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tell whether pretraining helped. Random and given weights on equal terms, over several seeds."""
    from ptft.commands.given import (
        cache_options,
        check_apart,
        images_of,
        load_config,
        read_config,
        sources_of,
        started_from,
    )
    from ptft.settings import CompareConfig, default_folder

    if config is None and data is None:
        raise UsageError("give a CONFIG, or --data DIR with a folder of images for each class.")
    asked = [] if labels is None else [f"compare.labels_per_class=[{labels}]"]
    asked += [] if seeds is None else [f"compare.seeds={seeds}"]
    sets = [*asked, *(sets or []), *started_from(sources)]
    settings = load_config(CompareConfig, read_config(config), sets, data)
    origins = sources_of(settings, config, sources)
    folder = out or default_folder(settings, config or data or Path("run"), suffix="-compare")
    cache = cache_options(cache_dir, no_cache, verify_cache)
    check_apart(images_of(settings), folder, cache)
    from ptft.compare.compare import compare

    result = compare(settings, origins, folder, resume=resume, console=_console(), command=_command(), cache=cache)
    _print(json.dumps(result, allow_nan=False) if as_json else result["sentence"])


@app.command()
def evaluate(
    checkpoint: CheckpointArgument,
    data: DataOption = None,
    cache_dir: CacheDirOption = None,
    no_cache: NoCacheOption = False,
    verify_cache: VerifyCacheOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score a checkpoint on test images. Its own, or a folder; per class, with intervals."""
    from ptft.commands.given import cache_options, check_apart
    from ptft.distributed.ranks import join
    from ptft.inference import evaluate_checkpoint
    from ptft.runtime import memory_errors

    cache = cache_options(cache_dir, no_cache, verify_cache)
    check_apart(data, None, cache)
    with closing(join(place())) as ranks, ranks.settled(), memory_errors():
        ranks.connect()
        result, sentence = evaluate_checkpoint(checkpoint, data, _console(), cache, ranks)
        ranks.finish()
    _print(json.dumps(result) if as_json else sentence)


@app.command()
def score(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="SOURCE", parser=user_path, help="Checkpoints, or what else --from takes.")
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="DIR", parser=user_path, help="Folder of images, CSV file, or config of the target."
        ),
    ],
    page: PageOption = None,
    cache_dir: CacheDirOption = None,
    no_cache: NoCacheOption = False,
    verify_cache: VerifyCacheOption = False,
    as_json: JsonOption = False,
) -> None:
    """Rank checkpoints for a target before any finetuning. Prints the path of the first."""
    from ptft.commands.given import cache_options, check_apart, images_of, is_config, load_config, read_config
    from ptft.settings import FinetuneConfig

    document = read_config(data) if is_config(data) else None
    target = load_config(FinetuneConfig, document, [], None if document else data)
    if target.task.name != "single-label":
        raise UsageError(f"{data}: score needs a single-label task, one class an image, not {target.task.name}.")
    from ptft.commands.score import print_ranking
    from ptft.commands.score_page import page_of_score
    from ptft.proof.score import score
    from ptft.report.page import check_page, write_page
    from ptft.runtime import memory_errors

    if page is not None:
        check_page(page, "--page")
    console, cache = _console(), cache_options(cache_dir, no_cache, verify_cache)
    check_apart(images_of(target), None, cache)
    with memory_errors():
        result = score(checkpoints, target.data, seed=target.seed, console=console, cache=cache)
    print_ranking(console, result.ranking)
    console.say(result.ranking.sentence())
    if page is not None:
        write_page(page, page_of_score(result, _command()))
    _print(json.dumps(result.as_dict(), allow_nan=False) if as_json else str(result.ranking.best.measured.path))


@app.command()
def predict(
    checkpoint: CheckpointArgument,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", parser=user_path, help="Images or folders.")],
    format_: Annotated[str, typer.Option("--format", metavar="csv|jsonl", help="Of the rows, one an image.")] = "csv",
    top: Annotated[int, typer.Option("--top", min=1, help="How many classes a jsonl row lists.")] = 1,
) -> None:
    """Name the class of each image. One row each: path,label,probability."""
    from ptft.inference import predict_paths
    from ptft.runtime import memory_errors

    if top > 1 and format_ == "csv":
        raise UsageError("--top: a csv row holds one class. Add --format jsonl.")
    if format_ not in ("csv", "jsonl"):
        raise UsageError(f"--format: {format_!r} is not one of csv, jsonl.")
    with memory_errors(), _writing_to_stdout():
        unreadable = predict_paths(checkpoint, paths, format_, top, sys.stdout, _console())
    if unreadable:
        raise typer.Exit(3)


@app.command()
def leak(
    checkpoint: CheckpointArgument,
    data: DataOption = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="FILE", parser=user_path, help="Write the pairs side by side, as a PNG."),
    ] = None,
    page: PageOption = None,
    cache_dir: CacheDirOption = None,
    no_cache: NoCacheOption = False,
    verify_cache: VerifyCacheOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find test images that training has seen, or its source's training. Exit code 0 even if there are some."""
    from ptft.commands.given import cache_options, check_apart
    from ptft.commands.leak import check_checkpoint, check_pictures, write_pictures
    from ptft.commands.leak_page import page_of_leak
    from ptft.report.page import check_page, write_page
    from ptft.runtime import memory_errors

    if page is not None:
        check_page(page, "--page")
    if pictures is not None:
        check_pictures(pictures)
    cache = cache_options(cache_dir, no_cache, verify_cache)
    check_apart(data, None, cache)
    with memory_errors():
        report, result = check_checkpoint(checkpoint, data, _console(), cache)
    if pictures is not None:
        write_pictures(report, pictures)
    if page is not None:
        write_page(page, page_of_leak(report, _command()))
    _print(json.dumps(result) if as_json else report.sentence())


@app.command()
def export(
    checkpoint: CheckpointArgument,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", parser=user_path, help="Ends in .onnx or .safetensors: the format."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint for other programs. As ONNX or safetensors, its answers proved; prints the file."""
    from ptft.commands.export import check_export, export
    from ptft.runtime import memory_errors

    check_export(out)
    with memory_errors():
        result = export(checkpoint, out, _console())
    _print(json.dumps(result) if as_json else str(out))


@app.command()
def inspect(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="SOURCE", parser=user_path, help="A checkpoint, or whatever --from takes.")
    ],
    verify: Annotated[bool, typer.Option("--verify", help="Check every part, and say what was checked.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell what a checkpoint holds and where it came from."""
    from ptft.report import ancestry

    if verify:
        verified = ancestry.verify_checkpoint(checkpoint)
        _print(json.dumps(verified) if as_json else ancestry.tell_verified(verified))
        return
    described, told = ancestry.describe_source(checkpoint)
    _print(json.dumps(described) if as_json else told)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", parser=user_path, help="Run folders.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            parser=user_path,
            help="The HTML file. Default: RUN/report.html; of several ./report.html.",
        ),
    ] = None,
) -> None:
    """Write the HTML page of a run anew, or one page of several side by side. Prints its path."""
    from ptft.commands.report import report
    from ptft.runtime import memory_errors

    with memory_errors():
        path = report(runs, out, _console())
    _print(str(path))


@app.command()
def pack(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIG]", parser=user_path, help="Its data section is packed; not needed with --data."
        ),
    ] = None,
    data: DataOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", parser=user_path, help="Where the shards go; a new folder."),
    ] = None,
    images_per_shard: Annotated[int, typer.Option("--images-per-shard", min=1, help="At most this many.")] = 1000,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write images as tar shards with a manifest, for data.name: hub. Prints the folder."""
    from ptft.commands.given import check_apart, images_of, is_of_comparison, load_config, read_config
    from ptft.settings import CompareConfig, FinetuneConfig

    if config is None and data is None:
        raise UsageError("give a CONFIG, or --data DIR with a folder of images for each class.")
    if out is None:
        raise UsageError("give a folder for the shards: --out DIR.")
    document = read_config(config)
    settings = load_config(
        CompareConfig if is_of_comparison(document, sets or []) else FinetuneConfig, document, sets or [], data
    )
    if settings.task.name != "single-label":
        raise UsageError(f"task.name: {settings.task.name}: shards hold one class for each image.")
    check_apart(images_of(settings), out)
    from ptft.commands.pack import describe_packed, pack
    from ptft.runtime import memory_errors
    from ptft.stop import stop_on_signals

    console = _console()
    source = settings.data.open()
    if source.passed_over:
        console.say(f"data: {source.passed_over}")
    with memory_errors(), stop_on_signals() as stop:
        manifest = pack(
            source, settings.data, out, images_per_shard=images_per_shard, console=console, check_stop=stop.check
        )
    found, sentence = describe_packed(manifest, out)
    console.say(sentence)
    _print(json.dumps(found) if as_json else str(out))


@app.command()
def check(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG]", parser=user_path, help="YAML file; not needed with --from and --data."),
    ] = None,
    sources: SourcesOption = None,
    data: DataOption = None,
    sets: SetOption = None,
    cache_dir: CacheDirOption = None,
    no_cache: NoCacheOption = False,
    verify_cache: VerifyCacheOption = False,
    as_json: JsonOption = False,
) -> None:
    """Try a config out and write no run. Reads its data, runs a step, estimates time and memory."""
    from ptft.commands.given import (
        cache_options,
        check_apart,
        images_of,
        is_of_comparison,
        load_config,
        read_config,
        source_of,
        sources_of,
        started_from,
    )
    from ptft.settings import CompareConfig, FinetuneConfig, PretrainConfig

    if config is None and data is None:
        raise UsageError("give a CONFIG, or --from SOURCE and --data DIR with a folder of images for each class.")
    cache = cache_options(cache_dir, no_cache, verify_cache)
    document = read_config(config)
    if is_of_comparison(document, sets or []):
        comparison = load_config(CompareConfig, document, [*(sets or []), *started_from(sources)], data)
        check_apart(images_of(comparison), None, cache)
        from ptft.commands.check_compare import check_compare

        found, sentence = check_compare(comparison, sources_of(comparison, config, sources), _console(), cache)
    elif document is not None and not sources and "transfer" not in document.data:
        pretraining = load_config(PretrainConfig, document, sets or [], None)
        if data is not None:
            raise UsageError(
                "--data belongs to a finetuning: give --from SOURCE too. A pretraining takes --set data.name=folder "
                "and --set data.root=DIR."
            )
        check_apart(images_of(pretraining), None, cache)
        from ptft.commands.check import check_pretrain

        found, sentence = check_pretrain(pretraining, _console(), cache)
    else:
        finetuning = load_config(FinetuneConfig, document, [*(sets or []), *started_from(sources)], data)
        if len(sources or []) > 1:
            raise UsageError("several --from belong to a comparison. Add --set compare.seeds=5, or a section compare.")
        check_apart(images_of(finetuning), None, cache)
        from ptft.commands.check import check_finetune

        found, sentence = check_finetune(finetuning, source_of(finetuning, config), _console(), cache)
    _print(json.dumps(found) if as_json else sentence)


@app.command(name="list")
def list_(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="models, datasets, tasks, objectives, augmentations, optimizers, schedules, recipes or trackers.",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Tell what can be named in a config, a line each."""
    from ptft.registry import summaries

    lines = summaries(what)
    width = max(map(len, lines))
    _print(json.dumps(lines) if as_json else "\n".join(f"{name:<{width}}  {line}" for name, line in lines.items()))


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", parser=user_path, help="Where to write the files.")
    ] = Path(),
) -> None:
    """Write a commented pair of configs to start from. pretrain.yaml, finetune.yaml and their schemas."""
    from ptft.commands.init import write_starter

    for path in write_starter(folder):
        _print(str(path))


@app.command()
def schema(
    what: Annotated[str, typer.Argument(metavar="[pretrain|finetune|compare]", help="Which config.")] = "pretrain",
) -> None:
    """Print the JSON schema of a config, for editors."""
    from ptft.config.load import schema
    from ptft.settings import CompareConfig, FinetuneConfig, PretrainConfig

    configs: dict[str, type[RunConfig]] = {
        "pretrain": PretrainConfig,
        "finetune": FinetuneConfig,
        "compare": CompareConfig,
    }
    if what not in configs:
        raise UsageError(f"{what!r} is not one of {', '.join(configs)}.")
    _print(json.dumps(schema(configs[what]), indent=2))


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", parser=user_path, help="Where the runs go.")] = Path(
        "runs/demo"
    ),
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="Draws of the labels; both arms get each.")] = 12,
    as_json: JsonOption = False,
) -> None:
    """Does pretraining help? The whole story on embedded images. About two minutes of computing."""
    from ptft.commands.demo import run_demo
    from ptft.stop import stop_on_signals

    with stop_on_signals() as stop:
        result, sentence = run_demo(out, seeds, _console(), stop)
    _print(json.dumps(result) if as_json else sentence)


cache_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
app.add_typer(cache_app, name="cache", help="Tell or clear what is kept between runs. Decoded images, measured speeds.")


@cache_app.command(name="list")
def cache_list(cache_dir: CacheDirOption = None, as_json: JsonOption = False) -> None:
    """Tell which images are kept, those used last first."""
    from ptft.commands.cache import describe_cache

    described, told = describe_cache(cache_dir, _console())
    _print(json.dumps(described) if as_json else told)


@cache_app.command(name="clear")
def cache_clear(
    cache_dir: CacheDirOption = None,
    keep: Annotated[
        float, typer.Option("--keep-gb", metavar="GB", min=0, help="Keep so much of what was used last.")
    ] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Remove what is kept, but for what a run is using. Nothing is lost that cannot be made again."""
    from ptft.commands.cache import clear_cache

    cleared, told = clear_cache(cache_dir, keep, _console())
    _print(json.dumps(cleared) if as_json else told)


def main() -> NoReturn:
    """Entry point of the `ptft` command: runs it and turns every error into a sentence and an exit code."""
    end_on_signals()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with machine_errors():
            app(prog_name="ptft")
    except PtftError as error:
        ignore_signals()
        _complain_once(error)
        sys.exit(error.exit_code)
    except Exception:
        traceback.print_exc()
        typer.echo("\nThis is a bug of ptft, not yours. Please report it with the lines above.", err=True)
        sys.exit(1)
    raise AssertionError("a typer app always exits")


def _complain_once(error: PtftError) -> None:
    """Of many ranks one tells it: the one they have agreed on, or the first of each host before they could."""
    if speaks_for_host() if error.told_by is None else error.told_by == place().rank:
        _complain(error)
    elif error.told_by is None:
        time.sleep(_SECONDS_TO_SPEAK)  # torchrun ends the others as soon as one has ended


def _complain(error: PtftError) -> None:
    from ptft.data.sources.listing import printable

    text = str(error)
    prefix = "" if isinstance(error, ConfigError) else "ptft: "
    with suppress(OSError):  # where stderr takes nothing, the exit code still tells
        # A message may quote names from a stranger's file: no control character of theirs reaches the terminal.
        typer.echo("\n".join(map(printable, (prefix + text).split("\n"))), err=True)


def _print(text: str) -> None:
    if not place().is_first:
        return
    with _writing_to_stdout():
        typer.echo(text)


@contextmanager
def _writing_to_stdout() -> Iterator[None]:
    """Raises StorageError where stdout takes no more; a closed pipe ends the command quietly, as it does other filters.

    Inside alone: elsewhere a connection that broke must not end a run.
    """
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:
            raise
        # What is left in the buffer would fail again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StorageError(f"cannot write the result to stdout: {error.strerror}.") from error
    finally:
        signal.signal(signal.SIGPIPE, before)


def _console() -> "Console":
    from ptft.report.console import Console

    return Console(None if place().is_first else Path(os.devnull).open("w"))


def _train(
    model: "type[RunConfigT]",
    config: Path | None,
    sets: list[str],
    data: Path | None,
    origin_of: "Callable[[RunConfigT], str] | None",
    out: Path | None,
    resume: bool,
    as_json: bool,
    cache: "CacheOptions",
    work: "Callable[[RunConfigT, Session], Summary]",
) -> None:
    """Runs a training command in its run folder and prints its result."""
    from ptft.commands.given import check_apart, images_of, load_config, read_config
    from ptft.run.session import run_in_folder
    from ptft.run_folder import RunFolder
    from ptft.settings import default_folder

    settings = load_config(model, read_config(config), sets, data)
    folder = RunFolder(out or default_folder(settings, config or data or Path("run")))
    check_apart(images_of(settings), folder.path, cache)
    source = origin_of(settings) if origin_of else None
    result = run_in_folder(
        folder,
        settings,
        work,
        source=source,
        resume=resume,
        console=_console(),
        command=_command(),
        cache=cache,
    )
    _print(json.dumps(result, allow_nan=False) if as_json else result["checkpoint"])


def _command() -> str:
    """The command as it was typed."""
    return shlex.join(["ptft", *sys.argv[1:]])
