"""What flags and config say together: where the images are, where the weights come from, where things are kept."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ptft.config.document import Document, read
from ptft.config.load import load
from ptft.config.yaml_text import one_line
from ptft.data.shards.manifest import is_packed
from ptft.data.sources import DataConfig, Folder
from ptft.data.sources.listing import is_folder
from ptft.data.sources.table import TABLE_SUFFIXES
from ptft.errors import UsageError
from ptft.paths import real_path, user_path
from ptft.settings import FinetuneConfig, RunConfig, RunConfigT

if TYPE_CHECKING:
    from ptft.data.cache import CacheOptions


def read_config(config: Path | None) -> Document | None:
    """The config file, read once: a pipe has nothing to say a second time."""
    return None if config is None else read(config)


def load_config(model: type[RunConfigT], document: Document | None, sets: list[str], data: Path | None) -> RunConfigT:
    """The config, with `--data` in place of what the file says about where the images are.

    Raises:
        UsageError: it has a section that belongs to another command.
        ConfigError: it has faults.
    """
    for section, command in (("compare", "compare"), ("transfer", "finetune")):
        if section in model.model_fields:
            continue
        if any(map(_is_of(section), sets)):
            raise UsageError(f"--set {section}: a key of `ptft {command}`. Give it to that command.")
        if document and section in document.data:
            raise UsageError(
                f"{document.source} is a config of `ptft {command}`: it has `{section}:`. Give it to that command."
            )
    return load(document, model, sets if data is None else [*_located(data, document), *sets])


def _located(data: Path, document: Document | None) -> list[str]:
    """`--data` as settings. The keys that every source has are kept from the file, those of another source are not."""
    if is_config(data):
        raise UsageError(f"--data {data}: a config, not images. Give it without --data.")
    table = data.suffix.lower() in TABLE_SUFFIXES and not is_folder(user_path(data))
    section: dict[str, object] = {"name": "csv", "path": str(data)} if table else {"name": "folder", "root": str(data)}
    if is_packed(data):
        section = {"name": "hub", "path": str(data)}
    given = document.data.get("data") if document else None
    if isinstance(given, dict):
        section |= {key: given[key] for key in DataConfig.model_fields if key in given and key != "name"}
    return [f"data={one_line(section)}"]


def is_config(data: Path) -> bool:
    """Whether `--data` names a config file, where some commands take one."""
    return data.suffix.lower() in (".yaml", ".yml") and not is_folder(data)


def is_of_comparison(document: Document | None, sets: Sequence[str]) -> bool:
    """Whether a config, or a `--set`, has the section that only `ptft compare` reads."""
    return (document is not None and "compare" in document.data) or any(map(_is_of("compare"), sets))


def _is_of(section: str) -> Callable[[str], bool]:
    return lambda text: text.partition("=")[0].partition(".")[0] == section


def started_from(sources: Sequence[str] | None) -> list[str]:
    """`--from` as a setting, of several the first: a flag wins over the file."""
    return [f"transfer.from={json.dumps(source, ensure_ascii=False)}" for source in (sources or [])[:1]]


def source_of(settings: FinetuneConfig, config: Path | None) -> str:
    """Where the weights of a finetuning come from.

    Raises:
        UsageError: neither flag nor config says it.
    """
    if settings.transfer.from_ is None:
        place = f" or transfer.from in {config}" if config else ""
        raise UsageError(f"give the weights to start from: --from SOURCE{place}.")
    return _located_source(settings.transfer.from_)


def sources_of(settings: FinetuneConfig, config: Path | None, given: Sequence[str] | None) -> tuple[str, ...]:
    """Where the weights of a comparison come from, as `source_of`: `given` are those of its flags."""
    return (source_of(settings, config), *map(_located_source, (given or [])[1:]))


def _located_source(source: str) -> str:
    """A source as the user named it, with the home folder in place of `~`."""
    return str(user_path(source)) if source.startswith("~") else source


def cache_options(folder: Path | None, no_cache: bool, verify: bool) -> "CacheOptions":
    """What the three options say.

    Raises:
        UsageError: they contradict each other.
    """
    from ptft.data.cache import CacheOptions

    if no_cache and (verify or folder is not None):
        raise UsageError("--no-cache: leave out --cache-dir and --verify-cache, or this.")
    return CacheOptions(folder, not no_cache, verify)


def check_apart(images: Path | None, folder: Path | None, cache: "CacheOptions | None" = None) -> None:
    """A folder of ours inside the images would become a class.

    Raises:
        UsageError: it lies there.
    """
    from ptft.runtime import cache_folder

    if images is None:
        return
    images = real_path(user_path(images))
    kept = cache_folder(cache.folder) if cache and cache.is_used else None
    for name, own, flag in (("the run folder", folder, "--out"), ("the cache", kept, "--cache-dir")):
        if own is not None and images in real_path(own).parents:
            raise UsageError(f"{name} {own} would lie among the images in {images}. Choose another with {flag}.")


def images_of(settings: RunConfig) -> Path | None:
    """The folder whose folders are classes, if the images are in one."""
    return user_path(settings.data.root) if isinstance(settings.data, Folder) else None
