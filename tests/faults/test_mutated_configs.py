"""Configs changed at random are one sentence for each fault, at once and without memory; or they are still configs."""

import random
import resource
import time
from itertools import pairwise
from pathlib import Path

import pytest
from faults.hostile import CHANGES, tell
from making import Ptft, write_config

from ptft.config.load import dump, load
from ptft.errors import ConfigError
from ptft.settings import FinetuneConfig, PretrainConfig

SHIPPED = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

FRAGMENTS = [
    *("&a ", "*a", "<<: *a\n", "!!python/object/apply:os.system ['touch executed']", "!!binary aGk=", "!!int '9'"),
    *("\0", "\t", "\x7f", "\x85", "\u2028", "\ufeff", '"\\ud800"', '"\\U99999999"', "\ud800", "é"),
    *("1e999999", "-.inf", ".nan", "9" * 10_000, "null", "true", "-1", "0", "1e-9", "''", "~"),
    *("[", "{", "]", "}", "[[" * 30, "{a: " * 30, "- " * 30, "? ", ": ", "---\n", "...\n", "%YAML 9.9\n", "%TAG ! x\n"),
    *("|9+\n", ">\n", "'", '"', "#", "@", "`", "\n", "\r\n", "\r", " " * 50, "a: " * 20, "k: 1\n" * 100, "x" * 5000),
    *("seed: 18446744073709551616\n", "out: /dev/null\n", "out: '/'\n"),
]


def mutated(seed: int) -> bytes:
    """A shipped config with one to four random changes, of bytes, of lines, or by what trips YAML readers."""
    rng = random.Random(seed)
    content = rng.choice(SHIPPED).read_bytes()
    for _ in range(rng.randint(1, 4)):
        lines = content.splitlines(keepends=True) or [b""]
        place, index = rng.randrange(len(content) + 1), rng.randrange(len(lines))
        fragment = rng.choice(FRAGMENTS).encode("utf-8", "surrogatepass")
        kind = rng.randrange(5)
        if kind == 0:
            content = rng.choice(CHANGES)(rng, content)
        elif kind == 1:
            content = content[:place] + fragment + content[place:]
        elif kind == 2:
            lines[index] = lines[index].partition(b":")[0] + b": " + fragment + b"\n"
            content = b"".join(lines)
        elif kind == 3:
            content = b"".join(lines[:index] + lines[index + 1 :])
        else:
            content = b"".join([*lines, lines[index]])
    return content


def judge(path: Path) -> bool:
    """Whether a config is refused; if not, that it can be written and read again."""
    model = FinetuneConfig if b"transfer" in path.read_bytes() else PretrainConfig
    try:
        config = load(path, model)
    except ConfigError as error:
        refusal = error
    else:
        path.write_text(dump(config), encoding="utf-8", errors="surrogatepass")
        assert load(path, model) == config
        return False
    assert refusal.exit_code == 2
    *sentences, summary = str(refusal).splitlines()
    assert sentences
    assert summary.endswith("nothing was run.")
    assert all(char.isprintable() for line in sentences for char in line)
    assert all(len(line) < 2000 for line in sentences)
    return True


def test_a_mutated_config_is_refused_in_sentences_or_still_a_config(tmp_path: Path, trials: int) -> None:
    before, slowest, refused, seed = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0.0, 0, -1
    while refused < trials:
        seed += 1
        path = tmp_path / f"{seed % 16}.yaml"
        path.unlink(missing_ok=True)
        path.write_bytes(mutated(seed))
        began = time.process_time()
        refused += judge(path)
        slowest = max(slowest, time.process_time() - began)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    tell("mutated configs refused", refused, trials, f"{seed + 1 - refused:,} more were valid, slowest {slowest:.2f} s")
    tell("    in memory", int(grown < 200), 1, f"{grown} MB more")
    assert grown < 200


BOMBS = {
    "lists in lists": "a: &a [1]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghi")),
    "merges": "a: &a {b: 1}\nc:\n" + "  <<: *a\n" * 1000,
    "many keys": "".join(f"k{index}: 1\n" for index in range(12_000)),
    "many quoted keys": "".join(f'"k{index}": 1\n' for index in range(10_000)),
    "many items": "a: [" + "a," * 60_000 + "]",
    "open quote": 'a: "' + "b\n" * 60_000,
    "open bracket": "[" + "a " * 60_000,
    "brackets": "[" * 120_000,
    "braces": "{" * 120_000,
    "questions": "? " * 60_000,
    "dashes": "- " * 60_000,
    "indents": "".join(" " * index + "a:\n" for index in range(450)),
    "tag directives": "".join(f"%TAG !a{index}! x\n" for index in range(8000)),
    "anchors": "a: [" + ", ".join(f"&a{index} 1" for index in range(9000)) + "]",
    "digits": "seed: " + "9" * 120_000,
    "exponent": "optim: {lr: 1e999999}",
    "blank lines": "\n" * 130_000,
    "comments": "#\n" * 60_000,
    "long key": "b" * 120_000 + ": 1",
    "a large file": "#" * (1 << 24),
    "lone surrogate": 'seed: "\\ud800"',
    "a path no system has": 'out: "\\ud800"\nseed: x',
    "python": "a: !!python/object/apply:os.system ['touch executed']",
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_a_sentence_and_exit_2(ptft: Ptft, tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.yaml").write_text(BOMBS[kind])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = ptft("pretrain", "a.yaml")
    assert (result.code, result.out) == (2, ""), result.err[:1000]
    assert "nothing was run." in result.err
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10 < 200
    assert not (tmp_path / "executed").exists()


SETTINGS = [
    *(
        "",
        "=",
        "a",
        "seed=" + "9" * 10_000,
        "seed=" + "[" * 30 + "1",
        "data=&a [*a]",
        "data=!!python/none x",
        "." * 1000,
    ),
    *("seed='\\ud800'", 'out="\\ud800"', "out=\udcff\0", ".".join("a" * 30) + "=1", "seed={a: 1, a: 2}", 'seed="'),
    *("seed=1\n2", "data.root=\udcff", "data.root=\0", 'data.classes=[a, "\\ud800"]'),
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_hostile_setting_is_a_sentence(ptft: Ptft, tmp_path: Path, setting: str) -> None:
    write_config(tmp_path / "run.yaml", data={"root": "nowhere"})
    result = ptft("pretrain", "run.yaml", "--set", setting)
    assert result.code in (2, 3), result.err
    assert "Traceback" not in result.err
