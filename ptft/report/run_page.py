"""report.html: one self-contained page about a run, to be opened in any browser, offline."""

import base64
import io
import warnings
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ptft.data.records import Part
from ptft.report.console import duration
from ptft.report.journal import read_metrics
from ptft.report.summary import Summary
from ptft.run_folder import RunFolder
from ptft.storage import write_text_durably

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_run_page(folder: RunFolder, summary: Summary) -> None:
    """Replaces report.html.

    Raises:
        StorageError: it cannot be written.
    """
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(
        files("ptft.report").joinpath("run_page.html").read_text("utf-8")
    )
    part: Part = "test" if "test" in summary.scores else "validation"
    scores = summary.scores.get(part)
    metadata, lines = summary.checkpoint.metadata, read_metrics(folder)
    page = template.render(
        title=f"{metadata.command} {folder.path.name}",
        summary=summary,
        metadata=metadata,
        part=part,
        scores=scores,
        duration=duration(summary.seconds),
        per_class=scores.per_class(metadata.classes) if scores else [],
        loss=_inline(_loss(lines)),
        accuracy=_inline(_accuracy(lines)) if any("validation_top1" in line for line in lines) else None,
        confusion=_inline(_confusion(scores.confusion.tolist(), metadata.classes)) if scores else None,
        config=folder.config.read_text("utf-8"),
        config_path=folder.config,
        again=f"ptft {metadata.command} {folder.config} --out ANOTHER_FOLDER"
        + (" --from CHECKPOINT" if metadata.command == "finetune" else ""),
    )
    write_text_durably(folder.report, page)


def _inline(figure: "Figure") -> str:
    """A figure as a data URL, SVG; its text stays text, for the browser has fonts that matplotlib has not."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with warnings.catch_warnings(), rc_context({"svg.fonttype": "none"}):
        warnings.filterwarnings("ignore", message=".*missing from font", category=UserWarning)
        figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _figure(width: float, height: float) -> "Figure":
    # Figure without pyplot: no window system, no global state.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _loss(lines: list[dict[str, Any]]) -> "Figure":
    """Training loss, and validation loss where there is one."""
    figure = _figure(4.6, 3.2)
    axes = figure.subplots()
    for key, label, marker in (("train_loss", "training", ""), ("validation_loss", "validation", ".")):
        told = [line for line in lines if key in line]
        if told:
            steps, losses = [line["step"] for line in told], [line[key] for line in told]
            axes.plot(steps, losses, marker=marker, label=label)
    axes.set(xlabel="step", ylabel="loss (nats)")
    axes.legend(frameon=False)
    _soften(axes)
    return figure


def _accuracy(lines: list[dict[str, Any]]) -> "Figure":
    """Validation accuracy with its band."""
    figure = _figure(4.6, 3.2)
    axes = figure.subplots()
    looks = [line for line in lines if "validation_top1" in line]
    steps = [line["step"] for line in looks]
    low, high = ([100 * line[f"validation_top1_{end}"] for line in looks] for end in ("low", "high"))
    axes.plot(steps, [100 * line["validation_top1"] for line in looks], marker=".", color="tab:orange")
    axes.fill_between(steps, low, high, alpha=0.2, color="tab:orange", linewidth=0)
    axes.set(xlabel="step", ylabel="validation accuracy (%)")
    _soften(axes)
    return figure


def _confusion(matrix: list[list[int]], classes: tuple[str, ...]) -> "Figure":
    """Confusion matrix, each row as shares of its true class, counts written in when there is room."""
    count = len(classes)
    side = min(10.0, 2.0 + 0.45 * count)
    figure = _figure(side, side)
    axes = figure.subplots()
    shares = [[cell / (sum(row) or 1) for cell in row] for row in matrix]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if count <= 40:
        axes.set_xticks(range(count), classes, rotation=90, parse_math=False)
        axes.set_yticks(range(count), classes, parse_math=False)
    if count <= 15:
        for y, row in enumerate(matrix):
            for x, cell in enumerate(row):
                colour = "white" if shares[y][x] > 0.5 else "#333"
                axes.text(x, y, str(cell), ha="center", va="center", color=colour, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    _soften(axes)
    return figure


def _soften(axes: Any) -> None:
    """Greys that read on a light and on a dark page."""
    grey = "#8a8a8a"
    axes.tick_params(colors=grey)
    for spine in axes.spines.values():
        spine.set_color(grey)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(grey)
    legend = axes.get_legend()
    for text in legend.get_texts() if legend else []:
        text.set_color(grey)
