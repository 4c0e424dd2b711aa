"""Reading, checking and listing models loads no torch."""

import subprocess
import sys

CHECK = """
import sys
from pydantic import TypeAdapter
from ptft.models import Model, TorchvisionCnn
config = TypeAdapter(Model).validate_python({"name": "resnet18", "small_stem": True})
config.min_image_size(), TorchvisionCnn.summaries(), TypeAdapter(Model).json_schema()
"""
REPORT = "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'torchvision', 'numpy'}))"


def loaded_after(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code + REPORT], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_configs_are_checked_and_listed_without_torch() -> None:
    assert loaded_after(CHECK) == "[]"


def test_the_check_sees_torch_when_a_model_is_built() -> None:
    assert "torch" in loaded_after(CHECK + "import ptft.models.classifier\n")
