"""The README says what is true, and the scripts do what they say."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from ptft import errors

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_the_one_of_the_configs() -> None:
    assert load_script("reference").insert(README) == README, "run: python scripts/reference.py"


def test_every_command_of_the_readme_exists() -> None:
    from ptft.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups}
    assert set(re.findall(r"(?:`|\(|^)ptft ([a-z]+)", README, re.MULTILINE)) == known


def test_every_exit_code_of_the_errors_is_in_the_readme() -> None:
    table = README.partition("### Exit codes")[2].partition("###")[0]
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert all(re.search(rf"\b{code}\b", table) for code in codes | {130, 143})


def test_the_configs_of_the_readme_are_valid(tmp_path: Path) -> None:
    from ptft.config.load import load
    from ptft.settings import FinetuneConfig, PretrainConfig

    for text, model in zip(
        re.findall(r"```yaml\n(.*?)```", README, re.S), (PretrainConfig, FinetuneConfig), strict=True
    ):
        path = tmp_path / "a.yaml"
        path.write_text(text)
        assert load(path, model).data is not None


@pytest.mark.parametrize("placeholder", ["DEMO_OUTPUT", "RESULTS_TABLE", "GPU_NOTE", "MACHINE", "DEMO_MACHINE"])
def test_no_placeholder_is_left(placeholder: str) -> None:
    assert placeholder not in README
