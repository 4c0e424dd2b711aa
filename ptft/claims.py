"""What a file of torch claims to hold, told without building any of it: the check that stands before torch.load.

A file that torch.save wrote is a zip archive of one pickle and the bytes of every tensor (or, before torch 1.6,
pickles and then the bytes). `weights_only=True` keeps the pickle from running code, but not from asking for
memory without bounds: `bytearray(10**12)`, a tensor of terabytes over a storage of four bytes, nested tuples
whose hash takes years. So the pickle's instructions are followed here on inert stand-ins, with a bound on
everything: only what torch.save writes for tensors and plain values is let through.
"""

import io
import math
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

_MAX_PICKLE_BYTES: Final = 1 << 24
_MAX_VALUES: Final = 500_000
_MAX_DEPTH: Final = 100
_MAX_SHARING: Final = 8
"""Tensors together may claim this many times the file's size: several names may share a storage, within reason."""

_LEGACY_START: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The magic number with which files of torch before 1.6 begin, as a pickle of its own."""

_ITEM_BYTES: Final[Mapping[str, int]] = {
    f"torch {name}Storage": size
    for name, size in (
        *(("Bool", 1), ("Byte", 1), ("Char", 1), ("Short", 2), ("Int", 4), ("Long", 8)),
        *(("Half", 2), ("BFloat16", 2), ("Float", 4), ("Double", 8), ("ComplexFloat", 8), ("ComplexDouble", 16)),
    )
}
_TENSOR: Final = "torch._utils _rebuild_tensor_v2"
_PARAMETER: Final = "torch._utils _rebuild_parameter"
_ORDERED: Final = "collections OrderedDict"
_NAMESPACE: Final = "argparse Namespace"
_VALUES: Final = frozenset({"collections Counter", "torch Size", "torch device", "__builtin__ set", "builtins set"})
_DTYPES: Final = frozenset(
    f"torch {name}"
    for name in (
        *("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"),
        *("complex64", "complex128"),
    )
)
_GLOBALS: Final = frozenset({_TENSOR, _PARAMETER, _ORDERED, _NAMESPACE}) | _VALUES | _DTYPES | _ITEM_BYTES.keys()

_CONSTANTS: Final[Mapping[str, Any]] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_ATOMS: Final = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"})
_TUPLES: Final[Mapping[str, int]] = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class ClaimError(ValueError):
    """The file is damaged, foreign, or asks for what no file of weights needs; the message is the end of a sentence
    that begins with the file's name."""


@dataclass(frozen=True)
class _Global:
    name: str


class _Namespace:
    """Stands in for an argparse.Namespace, in which tools save their arguments."""


@dataclass(frozen=True)
class _Storage:
    num_items: int
    item_bytes: int


@dataclass(frozen=True)
class _Tensor:
    num_bytes: int


def check_claims(file: BinaryIO) -> None:
    """Checks a file before torch.load reads it; leaves it at its start.

    Of an archive the CRC-32 of every entry is checked too, which torch.load does not do.

    Args:
        file: a regular file, open for reading.

    Raises:
        ClaimError: not a file of torch, damaged, or one that asks for more than tensors and plain values, or for
            more memory than its size warrants.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(len(_LEGACY_START))
    file.seek(0)
    try:
        if start == _LEGACY_START:
            _check_legacy(file, size)
        elif start.startswith(b"PK\x03\x04"):
            _check_archive(file, size)
        else:
            raise ClaimError(
                "is empty." if size == 0 else "is damaged or not a checkpoint: torch.save did not write it."
            )
    except (ClaimError, MemoryError):
        raise
    # Arbitrary bytes: zipfile and pickletools raise whatever these lead them to.
    except Exception as error:
        raise ClaimError(f"is damaged or not a checkpoint ({type(error).__name__}).") from error
    file.seek(0)


def _check_archive(file: BinaryIO, size: int) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = _entries(archive, size)
        folder = next(iter(entries)).partition("/")[0]
        if f"{folder}/constants.pkl" in entries:
            raise ClaimError("is a TorchScript program, not a file of weights. Save the model's state_dict() instead.")
        if bad := archive.testzip():
            raise ClaimError(f"is damaged: the checksum (CRC-32) of {_short(bad)} in it is wrong.")
        if entries.get(f"{folder}/data.pkl", 0) > _MAX_PICKLE_BYTES:
            raise ClaimError(f"holds more than {_MAX_PICKLE_BYTES >> 20} MiB beside its tensors.")
        place = f"{folder}/data/"
        storages = {name.removeprefix(place): size for name, size in entries.items() if name.startswith(place)}
        outline = _Outline(storages)
        content = archive.read(f"{folder}/data.pkl")
        if outline.follow(io.BytesIO(content)) != len(content):
            raise ClaimError("is damaged or not a checkpoint: something follows the end of its content.")
        outline.check(size)


def _entries(archive: zipfile.ZipFile, size: int) -> dict[str, int]:
    """Bytes of every entry by name."""
    infos = archive.infolist()
    entries = {info.filename: info.file_size for info in infos}
    if len(entries) < len(infos):
        raise ClaimError("is damaged: two parts of it have the same name.")
    if any(info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size for info in infos):
        raise ClaimError("holds compressed parts, which torch.save never writes: they could fill the memory.")
    if sum(entries.values()) > size:
        raise ClaimError(f"claims {sum(entries.values()):,} bytes, but has {size:,}.")
    return entries


def _check_legacy(file: BinaryIO, size: int) -> None:
    outline = _Outline(None)
    for _ in range(5):  # magic number, protocol version, system, content, order of the storages
        outline.follow(file)
    if file.tell() > _MAX_PICKLE_BYTES + outline.num_stored:
        raise ClaimError(f"holds more than {_MAX_PICKLE_BYTES >> 20} MiB beside its tensors.")
    if file.tell() + outline.num_stored > size:
        raise ClaimError(f"claims {file.tell() + outline.num_stored:,} bytes, but has {size:,}.")
    outline.check(size)


class _Outline:
    """Follows the instructions of pickles as torch's own reader does, on stand-ins.

    Args:
        storages: bytes of every storage by key, as the archive has them; None where they follow the pickles.
    """

    def __init__(self, storages: Mapping[str, int] | None) -> None:
        self.num_stored = 0
        self._storages = storages
        self._known: dict[str, _Storage] = {}
        self._values: list[Any] = []
        self._num_claimed = 0

    def follow(self, file: BinaryIO) -> int:
        """Follows one pickle to its end; returns the position after it."""
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > 4 * _MAX_VALUES:
                raise ClaimError(f"holds more than {_MAX_VALUES:,} values.")
            self._step(opcode.name, argument)
        self._values.append(self._stack.pop())
        return file.tell()

    def check(self, size: int) -> None:
        """Checks what the pickles built: how much, how deep, and how many bytes of tensors."""
        for count, _ in enumerate(_walk(self._values)):
            if count > _MAX_VALUES:
                raise ClaimError(f"holds more than {_MAX_VALUES:,} values.")
        if self._num_claimed > _MAX_SHARING * size:
            raise ClaimError(f"claims tensors of {self._num_claimed:,} bytes together, but has {size:,}.")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _ATOMS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "MARK":
            self._marked.append(stack)
            self._stack = []
        elif name == "PROTO":
            _expect(argument == 2, f"a pickle of protocol {argument}, where torch.save writes 2")
        elif name != "STOP":
            self._build(name, argument)

    def _build(self, name: str, argument: Any) -> None:
        if name == "GLOBAL":
            self._stack.append(_global(argument))
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            self._stack.append([] if name == "EMPTY_LIST" else {})
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "TUPLE"):
            self._fill(name)
        elif name == "REDUCE":
            arguments = self._stack.pop()
            self._stack.append(self._call(self._stack.pop(), arguments))
        elif name == "BINPERSID":
            self._stack.append(self._storage(self._stack.pop()))
        elif name == "NEWOBJ":
            arguments, kind = self._stack.pop(), self._stack.pop()
            _expect(kind == _Global(_NAMESPACE) and arguments == (), "an object that is not an argparse.Namespace")
            self._stack.append(_Namespace())
        elif name == "BUILD" and type(self._stack[-2]) in (OrderedDict, _Namespace):
            attributes = self._stack.pop()  # such as _metadata of a state dict
            _expect(type(attributes) in (dict, OrderedDict), "attributes without names")
            self._values.append(attributes)
        else:
            raise ClaimError(f"holds the instruction {name}, which torch.save does not write for weights.")

    def _fill(self, name: str) -> None:
        """Adds the newest items, back to the mark where the instruction has one, to what lies below them."""
        single = {"APPEND": 1, "SETITEM": 2}.get(name)
        if single is None:
            items, self._stack = self._stack, self._marked.pop()
        else:
            items = self._stack[-single:]
            del self._stack[-single:]
        if name == "TUPLE":
            self._stack.append(tuple(items))
        elif name.startswith("APPEND"):
            target = self._stack[-1]
            _expect(type(target) is list, "an item of something that is not a list")
            target.extend(items)
        else:
            target = self._stack[-1]
            _expect(type(target) in (dict, OrderedDict), "an item of something that is not a dict")
            _expect(len(items) % 2 == 0, "a key without a value")
            target.update(zip(_keys(items[::2]), items[1::2], strict=True))

    def _call(self, function: Any, arguments: Any) -> Any:
        name = function.name if isinstance(function, _Global) else ""
        _expect(type(arguments) is tuple, "a call without arguments")
        if name == _TENSOR:
            return self._tensor(*arguments)
        if name == _PARAMETER:
            tensor, requires_grad, hooks = arguments
            _expect(isinstance(tensor, _Tensor) and type(requires_grad) is bool and not hooks, "a parameter with hooks")
            return tensor
        if name == _ORDERED:
            pairs = [tuple(pair) for pair in (arguments[0] if arguments else ())]
            return OrderedDict(zip(_keys([key for key, _ in pairs]), [value for _, value in pairs], strict=True))
        _expect(name in _VALUES, f"a call of {name or 'a value'}")
        for argument in arguments:
            _keys(argument if isinstance(argument, list | tuple | dict) else [argument])
        return arguments

    def _storage(self, identity: Any) -> _Storage:
        """The storage of a persistent id: ("storage", type, key, location, number of items)."""
        kind, type_, key, location, num_items, *views = identity
        _expect(kind == "storage" and isinstance(type_, _Global), "something stored that is not a tensor")
        _expect(type_.name in _ITEM_BYTES and type(key) is str and type(location) is str, "an unknown kind of storage")
        _expect(type(num_items) is int and num_items >= 0 and views in ([], [None]), "a storage of no size")
        storage = _Storage(num_items, _ITEM_BYTES[type_.name])
        num_bytes = num_items * storage.item_bytes
        if key not in self._known:
            self._known[key] = storage
            self.num_stored += num_bytes
        if self._known[key] != storage:
            raise ClaimError(f"is damaged: storage {_short(key)} has two sizes.")
        if self._storages is not None and self._storages.get(key) != num_bytes:
            held = self._storages.get(key, 0)
            raise ClaimError(f"claims {num_bytes:,} bytes for storage {_short(key)}, but holds {held:,} of it.")
        return storage

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any, hooks: Any) -> _Tensor:
        numbers = [offset, *shape, *strides]
        _expect(isinstance(storage, _Storage) and type(requires_grad) is bool and not hooks, "a tensor with hooks")
        _expect(all(type(number) is int and 0 <= number < 1 << 62 for number in numbers), "a tensor of no shape")
        _expect(len(shape) == len(strides) <= _MAX_DEPTH, "a tensor of no shape")
        count = math.prod(shape)
        last = sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True)) if count else -1
        if count > storage.num_items or offset + last >= storage.num_items:
            raise ClaimError(
                f"claims a tensor of shape {_short(str(list(shape)))} over a storage of {storage.num_items:,} numbers."
            )
        self._num_claimed += count * storage.item_bytes
        return _Tensor(count * storage.item_bytes)


def _global(argument: str) -> _Global:
    if argument not in _GLOBALS:
        raise ClaimError(
            f"holds a Python object ({_short(argument.replace(' ', '.'))}) beside tensors and plain values. Reading it "
            "could run code, so ptft did not. If you trust the file, write its weights alone into another: "
            "torch.save(torch.load(FILE, map_location='cpu', weights_only=False)['state_dict'], 'w.pt') in Python "
            "('state_dict' is what most tools call them; others say 'model'; where the file is the model itself, write "
            ".state_dict() in place of ['state_dict'])."
        )
    return _Global(argument)


def _keys(keys: Any) -> Any:
    """The keys, all of a kind whose hash costs nothing."""
    _expect(all(type(key) in (str, int, float, bool, type(None)) for key in keys), "a key that is not text or a number")
    return keys


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ClaimError(f"is damaged or not a checkpoint: it holds {otherwise}.")


def _walk(values: list[Any]) -> Iterator[Any]:
    """Every value as often as it is reached, shared ones again, so that sharing without end is noticed."""
    waiting = [(value, 0) for value in values]
    while waiting:
        value, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ClaimError(f"is nested deeper than {_MAX_DEPTH} levels.")
        yield value
        if isinstance(value, dict | list | tuple):
            inner = value.values() if isinstance(value, dict) else value
            waiting += [(item, depth + 1) for item in inner]


def _short(text: str) -> str:
    shown = text if len(text) <= 60 else text[:59] + "…"
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in shown)
