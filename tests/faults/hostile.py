"""Files made to do harm: pickles that run a command, small files that ask for much memory, bytes changed at random.

Everything is a function of its arguments, so that a trial can be repeated from its seed.
"""

import io
import pickle
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

Change = Callable[[random.Random, bytes], bytes]


def tell(row: str, passed: int, total: int, more: str = "") -> None:
    """A row of the harness's table."""
    print(f"\nfaults: {row}: {passed:,}/{total:,}{', ' if more else ''}{more}")  # noqa: T201


# Pickles, assembled by hand: protocol 2 unless an instruction needs more.


def text(value: str) -> bytes:
    """Pushes a string."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(module: str, attribute: str) -> bytes:
    """Pushes a global."""
    return f"c{module}\n{attribute}\n".encode()


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    """Pushes the result of a call."""
    return name(module, attribute) + b"(" + b"".join(arguments) + b"tR"


def number(value: int) -> bytes:
    """Pushes a whole number."""
    raw = value.to_bytes(20, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def whole(content: bytes, protocol: int = 2) -> bytes:
    """A complete pickle."""
    return b"\x80" + bytes([protocol]) + content + b"."


def payloads(target: Path) -> dict[str, bytes]:
    """Pickle instructions, each of which creates the file `target` when a plain unpickler follows it."""
    shell, code = text(f"touch {target}"), text(f"open({str(target)!r}, 'w')")
    words = b"]" + text("touch") + b"a" + text(str(target)) + b"a"
    system = name("posix", "system")
    inner = pickle.dumps({})[:2] + call("posix", "system", shell) + b"."
    held = b"C" + bytes([len(inner)]) + inner
    mapped = name("builtins", "map") + system + b"]" + shell + b"a\x86"
    return {
        "GLOBAL REDUCE": system + shell + b"\x85R",
        "os.system": call("os", "system", shell),
        "importlib": call("builtins", "getattr", call("importlib", "import_module", text("os")), text("system"))
        + shell
        + b"\x85R",
        "STACK_GLOBAL": text("posix") + text("system") + b"\x93" + shell + b"\x85R",
        "INST": b"(" + shell + b"iposix\nsystem\n",
        "OBJ": b"(" + system + shell + b"o",
        "NEWOBJ": name("builtins", "bytes") + mapped + b"\x81\x85R",
        "NEWOBJ_EX": name("builtins", "bytes") + mapped + b"}\x92\x85R",
        "BUILD __setstate__": call("argparse", "Namespace")
        + b"}"
        + text("__setstate__")
        + system
        + b"sb"
        + shell
        + b"b",
        "eval": call("builtins", "eval", code),
        "exec": call("builtins", "exec", code),
        "python 2 eval": call("__builtin__", "eval", code),
        "open": call("builtins", "open", text(str(target)), text("w")),
        "io.open": call("io", "open", text(str(target)), text("w")),
        "os.popen": call("os", "popen", shell),
        "subprocess.call": call("subprocess", "call", words),
        "subprocess.check_output": call("subprocess", "check_output", words),
        "subprocess.Popen": call("subprocess", "Popen", words),
        "os.spawnvp": call("os", "spawnvp", number(0), text("touch"), words),
        "timeit": call("timeit", "timeit", code, text("pass"), name("time", "perf_counter"), number(1)),
        "runpy": call("runpy", "_run_code", call("builtins", "compile", code, text("x"), text("eval")), b"}"),
        "functools.partial": call("functools", "partial", system, shell) + b")R",
        "operator.methodcaller": call("operator", "methodcaller", text("system"), shell)
        + call("importlib", "import_module", text("posix"))
        + b"\x85R",
        "pickle.loads": call("pickle", "loads", held),
        "_pickle.loads": call("_pickle", "loads", held),
        "torch._load_from_bytes": call(
            "torch.storage", "_load_from_bytes", _bytes(zipped(whole(call("posix", "system", shell))))
        ),
        "pathlib": call("builtins", "getattr", call("pathlib", "PosixPath", text(str(target))), text("touch")) + b")R",
        "shutil.copy": call("shutil", "copy", text("/dev/null"), text(str(target))),
        "logging": call("logging", "FileHandler", text(str(target))),
        "cProfile": call("cProfile", "run", code),
    }


def _bytes(content: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(content)) + content


def zipped(content: bytes, **more: bytes) -> bytes:
    """An archive as torch.save writes it, around any pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        entries = {"data.pkl": content, "byteorder": b"little", "data/0": bytes(4), "version": b"3\n"}
        for entry, held in (entries | {key.replace("__", "/"): value for key, value in more.items()}).items():
            archive.writestr(f"archive/{entry}", held)
    return stream.getvalue()


def _legacy(*replaced: tuple[int, bytes]) -> bytes:
    stream = io.BytesIO()
    torch.save({"a": 1}, stream, _use_new_zipfile_serialization=False)
    stream.seek(0)
    parts = []
    for _ in range(5):
        start = stream.tell()
        pickle.load(stream)
        parts.append(stream.getvalue()[start : stream.tell()])
    for index, part in replaced:
        parts[index] = part
    return b"".join(parts)


def _tar(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for entry in ("sys_info", "pickle", "storages", "tensors"):
            info = tarfile.TarInfo(entry)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


STORAGE = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x01tQ"
HOOKS = name("collections", "OrderedDict") + b")R"
FLOAT32 = name("torch", "float32")
EVEN_MORE = number(10**13)


def _storage(count: int, end: bytes = b"t") -> bytes:
    """Pushes storage 0, said to be of `count` numbers."""
    return STORAGE.replace(b"K\x01tQ", number(count) + end + b"Q")


def tensor(
    storage: bytes = STORAGE, shape: Sequence[int] = (1,), strides: Sequence[int] = (1,), hooks: bytes = HOOKS
) -> bytes:
    """Pushes a tensor over a storage of one float32."""
    sizes = b"(" + b"".join(map(number, shape)) + b"t(" + b"".join(map(number, strides)) + b"t"
    return call("torch._utils", "_rebuild_tensor_v2", storage, b"K\x00", sizes, b"\x89", hooks)


def pairs(**values: bytes) -> bytes:
    """Pushes a dict."""
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def payload_files(target: Path) -> dict[str, bytes]:
    """Checkpoint files with a payload: every payload at the root of an archive, and one in every other place."""
    run = call("posix", "system", text(f"touch {target}"))
    ours = {"format": text("ptft"), "version": b"K\x01", "metadata": text("{}"), "digest": text("0")}
    files = {kind: zipped(whole(content, 4)) for kind, content in payloads(target).items()}
    files |= {
        f"protocol 2, {kind}": zipped(whole(payloads(target)[kind])) for kind in ("GLOBAL REDUCE", "INST", "NEWOBJ")
    }
    return files | {
        "bare pickle": whole(run),
        "bare pickle of protocol 0": b"cposix\nsystem\n(S'touch " + str(target).encode() + b"'\ntR.",
        "as metadata": zipped(whole(pairs(**ours | {"metadata": run}))),
        "as tensors": zipped(whole(pairs(**ours, tensors=run))),
        "as format": zipped(whole(pairs(**ours | {"format": run}))),
        "as version": zipped(whole(pairs(**ours | {"version": run}))),
        "as digest": zipped(whole(pairs(**ours | {"digest": run}))),
        "among the tensors": zipped(
            whole(pairs(**ours, tensors=pairs(**{"backbone.a": tensor(), "head.weight": run})))
        ),
        "in the optimizer": zipped(whole(pairs(**ours, tensors=pairs(**{"optimizer.a.step": run})))),
        "as a key": zipped(whole(b"}" + run + b"K\x01s")),
        "in a list": zipped(whole(b"](" + run + run + b"e")),
        "as persistent id": zipped(whole(run + b"Q")),
        "in a persistent id": zipped(whole(b"(" + text("storage") + run + text("0") + text("cpu") + b"K\x01tQ")),
        "as hooks": zipped(whole(tensor(hooks=run))),
        "as shape": zipped(whole(call("torch._utils", "_rebuild_tensor_v2", STORAGE, b"K\x00", run, b")\x89", HOOKS))),
        "as attributes": zipped(whole(HOOKS + b"}" + text("_metadata") + run + b"sb")),
        "popped again": zipped(whole(run + b"0N")),
        "second pickle": zipped(whole(b"N") + whole(run)),
        "other entry of the archive": zipped(whole(run), constants__pkl=whole(run)),
        "torchscript": zipped(whole(pairs(a=tensor())), **{"constants.pkl": whole(run), "code__a.py": b"import os"}),
        "archive in an archive": zipped(whole(pairs(a=_bytes(zipped(whole(run)))), 4)),
        "entry named twice": _twice(whole(pairs(a=tensor())), whole(run)),
        "legacy": _legacy((3, whole(run))),
        "legacy magic": _legacy((0, whole(run))),
        "legacy version": _legacy((1, whole(run))),
        "legacy system": _legacy((2, whole(run))),
        "legacy order": _legacy((4, whole(run))),
        "legacy tar": _tar(whole(run)),
        "numpy scalar": zipped(
            whole(call("numpy.core.multiarray", "scalar", call("numpy", "dtype", text("O")), run), 4)
        ),
        "rebuilt from a type": zipped(
            whole(call("torch._tensor", "_rebuild_from_type_v2", name("posix", "system"), run, b")", b"}"))
        ),
        "extension code": zipped(whole(b"\x82\x01" + b")R")),
    }


def _twice(first: bytes, second: bytes) -> bytes:
    """An archive whose pickle is there twice, so that readers could differ about which one counts."""
    content = zipped(first, **{"data.pkx": second})
    return content.replace(b"data.pkx", b"data.pkl")


def bombs() -> dict[str, bytes]:
    """Checkpoint files without any code that ask for terabytes, or for years."""
    root = {
        "bytearray": call("builtins", "bytearray", number(10**13)),
        "torch.Tensor": call("torch", "Tensor", number(10**7), number(10**6)),
        "storage larger than its bytes": tensor(_storage(10**13), (10**13,)),
        "storage that is not there": tensor(STORAGE.replace(text("0"), text("9"))),
        "shape larger than its storage": tensor(shape=(10**13,)),
        "expanded": tensor(shape=(10**13,), strides=(0,)),
        "expanded in two dimensions": tensor(shape=(10**7, 10**7), strides=(0, 0)),
        "product that overflows": tensor(shape=(2**40, 2**40), strides=(0, 0)),
        "negative shape": tensor(shape=(-1,)),
        "huge stride": tensor(shape=(2,), strides=(10**13,)),
        "many dimensions": tensor(shape=(1,) * 1000, strides=(1,) * 1000),
        "meta tensor": call("torch._utils", "_rebuild_meta_tensor_no_storage", FLOAT32, b"(" + EVEN_MORE + b"t)\x89"),
        "text doubled by encoding": text("a") + (b"q\x01" + call("_codecs", "encode", b"h\x01", text("hex"))) * 60,
        "tuples whose hash takes years": b"}" + b")q\x01" + b"h\x01h\x01\x86q\x01" * 70 + b"K\x01s",
        "lists in lists": b"]q\x01" + b"](" + b"h\x01" * 10 + b"eq\x01" + (b"](" + b"h\x01" * 10 + b"eq\x01") * 30,
        "list in itself": b"]q\x01h\x01a",
        "deep": b"]" * 100_000 + b"a" * 99_999,
        "deep tuples": b")" + b"\x85" * 100_000,
        "many values": b"](" + b"K\x01" * 3_000_000 + b"e",
        "memo at four billion": b"Nr\xff\xff\xff\xff",
        "text longer than the file": b"X\xff\xff\xff\xff",
        "text of 2**60 bytes": b"\x8d" + struct.pack("<Q", 1 << 60),
        "bytes of 2**60": b"\x8e" + struct.pack("<Q", 1 << 60),
        "bytearray of 2**60": b"\x96" + struct.pack("<Q", 1 << 60),
        "number of 2**31 bytes": b"\x8b\xff\xff\xff\x7f",
    }  # fmt: skip
    views = pairs(**{f"v{index}": tensor() for index in range(5000)})
    many = b"".join(text(f"t{index}") + tensor(_storage(25_000), (25_000,)) for index in range(2000))
    files = {kind: zipped(whole(content, 4 if content[:1] in b"\x8d\x8e\x96" else 2)) for kind, content in root.items()}
    return files | {
        "one storage under 2,000 names": zipped(whole(b"}(" + many + b"u"), data__0=bytes(100_000)),
        "one number under 5,000 names, which is small": zipped(whole(views)),
        "compressed zeros": _compressed(1 << 28),
        "legacy storage of terabytes": _legacy((3, whole(tensor(_storage(10**13, b"Nt"), (10**13,))))),
        "archive cut": zipped(whole(views))[:-30],
    }  # fmt: skip


def _compressed(size: int) -> bytes:
    stream = io.BytesIO()
    storage = _storage(size // 4)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", whole(pairs(a=tensor(storage, (size // 4,)))))
        archive.writestr("archive/data/0", bytes(size))
    return stream.getvalue()


# Bytes changed at random.


def changed(seed: int, content: bytes) -> bytes:
    """The content with one to three random changes."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 3)):
        content = rng.choice(CHANGES)(rng, content)
    return content


def _place(rng: random.Random, content: bytes) -> int:
    return rng.randrange(max(1, len(content)))


def _flip(rng: random.Random, content: bytes) -> bytes:
    place = _place(rng, content)
    flipped = bytes([content[place] ^ 1 << rng.randrange(8)]) if content else b""
    return content[:place] + flipped + content[place + 1 :]


def _overwrite(rng: random.Random, content: bytes) -> bytes:
    place, noise = _place(rng, content), rng.randbytes(rng.choice((1, 2, 4, 8, 64)))
    return content[:place] + noise + content[place + len(noise) :]


def _zero(rng: random.Random, content: bytes) -> bytes:
    place, length = _place(rng, content), rng.choice((4, 64, 512, 4096))
    return content[:place] + bytes(len(content[place : place + length])) + content[place + length :]


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: _place(rng, content)]


def _remove(rng: random.Random, content: bytes) -> bytes:
    place = _place(rng, content)
    return content[:place] + content[place + rng.choice((1, 4, 64)) :]


def _insert(rng: random.Random, content: bytes) -> bytes:
    place = _place(rng, content)
    return content[:place] + rng.randbytes(rng.choice((1, 4, 64))) + content[place:]


def _repeat(rng: random.Random, content: bytes) -> bytes:
    start, place = _place(rng, content), _place(rng, content)
    return content[:place] + content[start : start + rng.choice((16, 256))] + content[place:]


CHANGES: tuple[Change, ...] = (_flip, _flip, _flip, _overwrite, _zero, _cut, _remove, _insert, _repeat)


def forged(seed: int, content: bytes) -> bytes:
    """An archive of torch with changed bytes inside one entry and every checksum right: only a digest can tell."""
    rng = random.Random(seed)
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        entries = {entry: old.read(entry) for entry in old.namelist()}
        chosen = rng.choice([entry for entry, held in entries.items() if held])
        for entry, held in entries.items():
            new.writestr(entry, _flip(rng, held) if entry == chosen else held)
    return stream.getvalue()


# Images.


def png(
    width: int, height: int, data: bytes = b"", *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 2
) -> bytes:
    """A PNG that claims a size, with the chunks given before its data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(data, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held)) for kind, held in parts
    )


def zeros(compressed_of: int) -> bytes:
    """Zeros, compressed as far as zlib does."""
    return zlib.compress(bytes(compressed_of), 9)


def tiff(size: int, *extra: tuple[int, int, int], compression: int = 1) -> bytes:
    """A grey TIFF of size x size that holds no pixels, with further (tag, type, value) entries."""
    entries = sorted(
        [
            *((256, 4, size), (257, 4, size), (258, 3, 8), (259, 3, compression), (262, 3, 1)),
            *((273, 4, 8), (277, 3, 1), (278, 4, size), (279, 4, 100), *extra),
        ]
    )
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e[:2], 1, e[2]) for e in entries)
    return b"II*\0" + struct.pack("<I", 108) + bytes(100) + directory + bytes(4)


def jpeg(width: int, height: int, scans: int = 0) -> bytes:
    """A JPEG whose header claims a size; with `scans`, a progressive one of so many empty scans."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", progressive=bool(scans))
    content = stream.getvalue()
    start = content.index(b"\xff\xc2" if scans else b"\xff\xc0") + 5
    content = content[:start] + struct.pack(">HH", height, width) + content[start + 4 :]
    return content[:-2] + b"\xff\xda\0\x08\1\1\0\1\x3f\0\0" * scans + content[-2:]


def gif(width: int, height: int, frame: tuple[int, int]) -> bytes:
    """A GIF whose screen has one size and whose first frame another."""
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\2\2\x4c\1\0;"


def encoded(format_: str, size: tuple[int, int] = (8, 8), **options: Any) -> bytes:
    """An honest image."""
    stream = io.BytesIO()
    Image.new("RGB", size, "red").save(stream, format_, **options)
    return stream.getvalue()


def images() -> dict[str, bytes]:
    """Files named `.jpg` that are no image, or one that asks for what nobody should give."""
    zipped_text = b"key\0\0" + zeros(1 << 27)
    bmp = encoded("BMP")
    webp = encoded("WEBP", lossless=True)
    jp2 = encoded("JPEG2000")
    huge_frame = struct.pack(">IIIII", 0, 2**30, 2**30, 0, 0) + bytes(6)
    tiles = ((324, 4, 8), (325, 4, 100))
    return {
        "jpeg of 1.3 GB": jpeg(20_000, 22_000),
        "jpeg of 4.3 gigapixels": jpeg(65_500, 65_500),
        "jpeg of 2,000 scans": jpeg(9000, 9000, scans=2000),
        "png of 2.6 GB": png(30_000, 30_000, bytes(1 << 20)),
        "png of 2**62 pixels": png(2**31 - 1, 2**31 - 1),
        "png of no pixels": png(0, 10),
        "png of 16-bit gigapixels": png(40_000, 40_000, depth=16, colour=6),
        "png cut": png(100, 100, bytes(100)),
        "png with zTXt of 128 MB": png(8, 8, bytes(200), (b"zTXt", zipped_text)),
        "png with iTXt of 128 MB": png(8, 8, bytes(200), (b"iTXt", b"key\0\1\0\0\0" + zeros(1 << 27))),
        "png with iCCP of 128 MB": png(8, 8, bytes(200), (b"iCCP", zipped_text)),
        "png with 1,000 zTXt of 1 MB": png(8, 8, bytes(200), *[(b"zTXt", b"key\0\0" + zeros(1 << 20))] * 1000),
        "png whose pixels are 128 MB more": png(8, 8, bytes(1 << 27)),
        "png with a palette missing": png(8, 8, bytes(72), colour=3),
        "apng of gigapixels": png(8, 8, bytes(200), (b"acTL", b"\x7f" * 8), (b"fcTL", huge_frame)),
        "gif of 65,535 x 65,535": gif(65_535, 65_535, (1, 1)),
        "gif frame of 65,535 x 65,535": gif(1, 1, (65_535, 65_535)),
        "bmp of 2**30 x 2**30": bmp[:18] + struct.pack("<II", 2**30, 2**30) + bmp[26:],
        "bmp of 50,000 x 50,000": bmp[:18] + struct.pack("<II", 50_000, 50_000) + bmp[26:],
        "bmp with negative size": bmp[:18] + struct.pack("<ii", -5, -5) + bmp[26:],
        "tiff of 60,000 x 60,000": tiff(60_000),
        "tiff with huge tiles": tiff(8, (322, 4, 2**31 - 16), (323, 4, 2**31 - 16), *tiles),
        "tiff with huge deflated tiles": tiff(8, (322, 4, 65_536), (323, 4, 65_536), *tiles, compression=8),
        "tiff with huge strips": tiff(8, (254, 4, 0), (266, 4, 2**31), compression=8),
        "tiff directory in itself": tiff(8)[:4] + struct.pack("<I", 4) + tiff(8)[8:],
        "webp of 16,384 x 16,384": webp[:21] + b"\xff\xff\xff\x0f" + webp[25:],
        "webp cut": webp[:30],
        "jpeg 2000 of gigapixels": jp2.replace(struct.pack(">II", 8, 8), struct.pack(">II", 2**31 - 1, 2**31 - 1)),
        "ppm of gigapixels": b"P6 99999 99999 255\n",
        "ppm of negative size": b"P6 -9 -9 255\n",
        "ppm with a number of a megabyte": b"P6 " + b"9" * (1 << 20) + b" 9 255\n",
        "ppm that ends early": b"P6 100 100 255\nabc",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n(x) run\n",
        "eps in a dos header": b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, 50) + bytes(20) + b"%!PS-Adobe-3.0 EPSF",
        "pdf": b"%PDF-1.4\n1 0 obj<</OpenAction<</S/JavaScript>>>>endobj",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/passwd"/></svg>',
        "svg with entities": b'<!DOCTYPE s [<!ENTITY a "aaaa">]><svg>&a;</svg>',
        "wmf": b"\xd7\xcd\xc6\x9a" + bytes(60),
        "ico": encoded("ICO", (16, 16)),
        "icns": b"icns" + struct.pack(">I", 1 << 30),
        "psd of gigapixels": b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 300_000, 300_000, 8, 3),
        "fits": b"SIMPLE  =                    T" + b" " * 3000,
        "fli": struct.pack("<IHHHHH", 128, 0xAF11, 65_535, 65_535, 65_535, 8) + bytes(200),
        "sun raster of gigapixels": struct.pack(">8I", 0x59A66A95, 2**20, 2**20, 24, 0, 1, 0, 0),
        "dds": b"DDS " + struct.pack("<7I", 124, 0x1007, 2**16, 2**16, 0, 0, 0) + bytes(100),
        "xpm": b"/* XPM */\nstatic char *x[] = {\n\"99999 99999 2 1\",\n",
        "python": b"import os\nos.system('true')\n",
        "html": b"<html><script>alert(1)</script></html>",
        "zip": zipped(b"N."),
        "pickle": pickle.dumps([1, 2]),
        "zeros": bytes(1000),
        "nothing": b"",
        "one byte": b"\xff",
        "jpeg of one marker": b"\xff\xd8\xff",
        "avif cut": b"\0\0\0\x18ftypavif\0\0\0\0avifmif1\0\0\0\x14ispe\0\0\0\0" + b"\xff" * 8,
    }  # fmt: skip


READABLE = frozenset({"png whose pixels are 128 MB more", "tiff with huge tiles"})
"""Odd, but with all the pixels that their size promises."""
