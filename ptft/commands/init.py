"""`ptft init`: a commented pair of configs to start from."""

import json
from pathlib import Path

from ptft.errors import UsageError
from ptft.storage import storage_errors, write_text_durably

PRETRAIN = """\
# yaml-language-server: $schema=ptft-pretrain.schema.json
# The source task, from random weights:   ckpt=$(ptft pretrain pretrain.yaml)
# Only `data` is required. `ptft check pretrain.yaml` tries it out; `ptft schema` lists every key.
seed: 0
data:
  name: folder                  # ptft list datasets
  root: photos                  # photos/CLASS/*.jpg, or photos/train|val|test/CLASS/*.jpg
  validation: 0.1               # held out of each class to choose the best epoch
  test: 0.2                     # held out of each class for the final number
  image_size: 64                # shorter side in pixels, centre kept
  on_bad_image: skip            # or error
augment: {name: standard}       # ptft list augmentations
model: {name: small-resnet}     # ptft list models
optim: {name: sgd, lr: 0.1, weight_decay: 5.0e-4}
# train: {epochs: 20}           # default: 20, but at least 200 steps
"""

FINETUNE = """\
# yaml-language-server: $schema=ptft-finetune.schema.json
# The target task, from the source task's weights:   ptft finetune finetune.yaml --from "$ckpt"
# Model, image size and channel statistics come from the checkpoint; classes come from the folder.
seed: 0
data:
  name: folder
  root: my-photos
  on_bad_image: skip
  # labels_per_class: 20        # to see how few labels are enough
augment: {name: standard}
optim: {name: sgd, weight_decay: 5.0e-4}
# train: {epochs: 30}           # default: as many steps as suit the number of images
transfer: {recipe: auto, min_loaded: 0.95}   # short races choose recipe and learning rate; ptft list recipes
"""


def write_starter(folder: Path) -> list[Path]:
    """Writes pretrain.yaml, finetune.yaml and the JSON schemas they name, and returns the paths of the configs.

    Raises:
        UsageError: one of the files is there already; nothing is written.
        StorageError: they cannot be written.
    """
    from ptft.config.load import schema
    from ptft.settings import FinetuneConfig, PretrainConfig

    texts = {
        "pretrain.yaml": PRETRAIN,
        "finetune.yaml": FINETUNE,
        "ptft-pretrain.schema.json": json.dumps(schema(PretrainConfig), indent=1) + "\n",
        "ptft-finetune.schema.json": json.dumps(schema(FinetuneConfig), indent=1) + "\n",
    }
    with storage_errors(folder, "create"):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file, not a folder. Choose another folder.")
        if there := [name for name in texts if (folder / name).exists()]:
            raise UsageError(f"{folder / there[0]} is there already; nothing was written. Choose another folder.")
        folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text_durably(folder / name, text)
    return [folder / name for name in texts if name.endswith(".yaml")]
