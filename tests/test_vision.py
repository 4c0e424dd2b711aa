"""torchvision comes without torch's compiler, which is there all the same when it is asked for."""

import subprocess
import sys


def told(source: str) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_network_of_the_zoo_trains_without_the_compiler_and_what_asks_for_it_later_gets_it() -> None:
    source = """
import sys, torch
from ptft.vision import torchvision
from ptft.models import TorchvisionCnn
from ptft.train.optim import Sgd
model = TorchvisionCnn(name="resnet18").build(3, 3)
optimizer = Sgd().build(model)
model(torch.ones(2, 3, 32, 32)).sum().backward()
optimizer.step()
print([name for name in sys.modules if name.startswith(("torch._dynamo", "sympy"))])
asks = sys.modules["torchvision.ops.roi_align"].is_compile_supported
print(asks("cpu"), asks.__module__)
import torch._dynamo.utils
assert torch._dynamo.utils.is_compile_supported("cpu") == asks("cpu")
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2)).tolist())
boxes = torch.tensor([[0.0, 1.0, 1.0, 5.0, 5.0]])
print(tuple(torchvision.ops.roi_align(torch.rand(1, 3, 8, 8), boxes, (2, 2)).shape))
"""
    assert told(source) == "[]\nTrue ptft.vision\n[2.0, 2.0]\n(1, 3, 2, 2)\n"


def test_control_torchvision_imports_the_compiler() -> None:
    source = """
import sys, torchvision
print("torch._dynamo" in sys.modules, "sympy" in sys.modules)
"""
    assert told(source) == "True True\n"


def test_what_uses_the_compiler_while_torchvision_is_imported_gets_it_too() -> None:
    source = """
import sys
from ptft import vision
for name in vision._COMPILER:
    sys.modules.pop(name, None)
with vision._compiler_on_demand():
    import torch._dynamo
    from torch._dynamo.utils import counters
    print(type(counters).__name__, torch._dynamo.is_compiling.__name__)
print(type(sys.modules["torch._dynamo"]).__name__, type(sys.modules["torch._dynamo.utils"]).__name__)
"""
    assert told(source) == "defaultdict is_compiling\nmodule module\n"
