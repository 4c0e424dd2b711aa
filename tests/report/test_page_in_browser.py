"""The pages in a real browser: headless Chromium, and a proxy that hears every request that leaves the file."""

import html
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from making import COLOURS, make_images, write_config
from making_tasks import MULTI, NUMBERS, Shapes, write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NOT TESTED: the pages in a browser. Install chromium (Debian: apt install chromium)."
)
# What the browser itself asks for at its start, whatever the page.
CHROMIUMS_OWN = re.compile(r"(^|\.)(google|googleapis|gvt1|gstatic|chromium)\.(com|org)$")

WATCH = """<script>
var heard = [];
addEventListener("error", event => heard.push(event.message || "failed: " + event.target.outerHTML.slice(0, 80)), true);
addEventListener("unhandledrejection", event => heard.push(String(event.reason)));
console.error = console.warn = (...words) => heard.push(words.join(" "));
</script>"""

PROBE = """<script>
function wellSorted(table, column, sign) {
  const cells = [...table.tBodies[0].rows].map(row => row.cells[column]);
  const number = table.tHead.rows[0].cells[column].classList.contains("number");
  const numeric = cell => cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  const values = cells.map(cell => number ? numeric(cell) : cell.innerText);
  return values.every((value, i) => {
    if (i === 0) return true;
    const before = values[i - 1];
    if (before === null) return value === null;
    if (value === null) return true;
    return sign * (number ? value - before : value.localeCompare(before, undefined, {numeric: true})) >= 0;
  });
}
function sortings() {
  let clicks = 0, wrong = [];
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      for (let turn = 0; turn < 2; turn++) {
        const button = heading.querySelector("button");
        button.focus();
        if (document.activeElement !== button) wrong.push("no focus: " + heading.innerText);
        button.click();
        clicks++;
        const sign = {ascending: 1, descending: -1}[heading.ariaSort];
        if (!sign || !wellSorted(table, column, sign)) wrong.push(heading.innerText + " " + heading.ariaSort);
      }
    });
  }
  return {clicks, wrong};
}
function textSizes() {
  const sizes = [];
  for (const text of document.querySelectorAll("svg text")) {
    const svg = text.ownerSVGElement;
    sizes.push(parseFloat(getComputedStyle(text).fontSize) * svg.clientWidth / svg.viewBox.baseVal.width);
  }
  for (const element of document.querySelectorAll("p, td, th, dd, dt, figcaption, summary, a, button"))
    sizes.push(parseFloat(getComputedStyle(element).fontSize));
  return sizes;
}
addEventListener("load", async () => {
  document.querySelectorAll("details").forEach(fold => fold.open = true);
  const pictures = [...document.images];
  const drawings = [...document.querySelectorAll("svg")];
  const found = {
    heard,
    broken: pictures.filter(picture => !picture.complete || picture.naturalWidth === 0).length,
    pictures: pictures.length,
    drawings: drawings.length,
    flat: drawings.filter(svg => svg.getBoundingClientRect().height < 40).length,
    mute: pictures.filter(picture => !picture.alt).length,
    sorting: sortings(),
    width: innerWidth,
    scrollWidth: document.documentElement.scrollWidth,
    smallest: Math.min(...textSizes()),
    fetched: performance.getEntriesByType("resource").map(entry => entry.name).filter(name => !/^data:/.test(name)),
    background: getComputedStyle(document.body).backgroundColor,
    line: getComputedStyle(document.querySelector(".drawing path[style*='var(--c']") || document.body).stroke,
  };
  parent.postMessage(JSON.stringify(found), "*");
});
</script>"""

# A window of headless Chromium is at least 500 pixels wide; a frame is as narrow as a phone.
FRAME = """<!doctype html><body style="margin: 0"><pre id="told"></pre>
<script>addEventListener("message", event => { document.getElementById("told").textContent = event.data; });</script>
<iframe src="probed.html" style="border: 0; width: WIDTHpx; height: 900px"></iframe>"""


@dataclass(frozen=True)
class Seen:
    """What the probe measured, and what the browser did beside."""

    found: dict[str, Any]
    console: list[str]
    requests: list[str]

    def faults(self) -> list[str]:
        """Everything that a page must not do, by name."""
        found = self.found
        checks = {
            "console": bool(found["heard"] or self.console),
            "request": bool(found["fetched"] or self.requests),
            "broken picture": found["broken"] > 0 or found["flat"] > 0,
            "no text alternative": found["mute"] > 0,
            "sorting": bool(found["sorting"]["wrong"]),
            "overflow": found["scrollWidth"] > found["width"],
            "tiny text": found["smallest"] < 11,
        }
        return [name for name, is_wrong in checks.items() if is_wrong]


class Browser:
    """Chromium behind a proxy that answers nothing and notes which hosts are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.hosts: list[str] = []
        hosts = self.hosts

        class Proxy(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hosts.append(urlsplit(self.path).hostname or self.path)
                self.send_error(404)

            def do_CONNECT(self) -> None:
                hosts.append(self.path.partition(":")[0])
                self.send_error(404)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def see(self, page: str, *, width: int = 390, dark: bool = False) -> Seen:
        """Opens a copy of the page with the probe in it."""
        self.hosts.clear()
        frame = self._folder / "frame.html"
        frame.write_text(FRAME.replace("WIDTH", str(width)))
        (self._folder / "probed.html").write_text(
            page.replace("<meta charset", WATCH + "<meta charset", 1).replace("</body>", PROBE + "</body>")
        )
        flags = (
            f"--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync "
            f"--disable-component-update --disable-default-apps --hide-scrollbars --window-size=1300,900 "
            f"--enable-logging=stderr --virtual-time-budget=4000 "
            f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        ).split()
        place = [f"--user-data-dir={self._folder / 'profile'}", f"--proxy-server=127.0.0.1:{self._server.server_port}"]
        assert CHROMIUM is not None
        done = subprocess.run(
            [CHROMIUM, *flags, *place, "--dump-dom", frame.as_uri()], capture_output=True, text=True, timeout=120
        )
        told = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.S)
        assert told, done.stderr[-2000:]
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        own = [host for host in self.hosts if not CHROMIUMS_OWN.search(host)]
        return Seen(json.loads(html.unescape(told[1])), console, own)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A pretraining of ten classes, a finetuning of three, both side by side, scored, and searched for leaks; and a
    run of each other task.
    """
    from ptft.cli import main

    folder = tmp_path_factory.mktemp("runs")
    make_images(folder / "photos", COLOURS, 10)
    config = write_config(folder / "a.yaml", train={"steps": 20})
    sections = json.loads(config.read_text()) | {
        "data": {"name": "fashion-mnist-10k", "labels_per_class": 30, "test": 0.03}
    }
    config.write_text(json.dumps(sections))

    def call(*arguments: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(sys, "argv", ["ptft", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        assert not ended.value.code

    call("pretrain", "a.yaml")
    sets = [f"--set=train.{key}" for key in ("steps=6", "precision=fp32", "memory_format=contiguous")]
    call("finetune", "--from", "runs/a/checkpoints/best.pt", "--data", "photos", "--out", "runs/b", *sets)
    call("report", "runs/a", "runs/b", "--out", "runs.html")
    checkpoints = [f"runs/{name}/checkpoints/best.pt" for name in "ab"]
    call("score", *checkpoints, "--data", "photos", "--page", "score.html")
    call("leak", checkpoints[1], "--page", "leak.html")
    Shapes(folder / "shapes")
    for name, sections in (("multi", MULTI), ("numbers", NUMBERS)):
        write(folder / f"{name}.yaml", sections)
        call("pretrain", f"{name}.yaml", "--set=train.steps=12")
    paths = {"score": "score.html", "leak": "leak.html"}
    paths |= {name: f"runs/{name}/report.html" for name in ("multi", "numbers")}
    paths |= {"pretrain": "runs/a/report.html", "finetune": "runs/b/report.html", "runs": "runs.html"}
    return {name: (folder / path).read_text("utf-8") for name, path in paths.items()}


@pytest.mark.parametrize("name", ["pretrain", "finetune", "runs", "score", "leak", "multi", "numbers"])
def test_a_page_is_whole_on_a_phone_and_asks_nobody(browser: Browser, pages: dict[str, str], name: str) -> None:
    seen = browser.see(pages[name])
    assert seen.faults() == [], seen
    assert seen.found["width"] == 390
    assert seen.found["drawings"] >= {"score": 1, "leak": 0}.get(name, 2)
    assert seen.found["sorting"]["clicks"] >= 10
    # Of 6 test images each has its lookalike.
    assert seen.found["pictures"] >= {"runs": 0, "score": 0, "leak": 6}.get(name, 8)


def test_a_page_is_whole_on_a_wide_dark_screen(browser: Browser, pages: dict[str, str]) -> None:
    dark = browser.see(pages["pretrain"], width=1280, dark=True)
    light = browser.see(pages["pretrain"], width=1280)
    assert (dark.faults(), light.faults()) == ([], [])
    assert sum(map(int, re.findall(r"\d+", dark.found["background"]))) < 150
    assert sum(map(int, re.findall(r"\d+", light.found["background"]))) > 600
    assert dark.found["line"] != light.found["line"], "drawings follow the scheme"


SPOILT = {
    "console": "<script>console.error('ouch')</script>",
    "request": '<link rel="stylesheet" href="http://fonts.invalid/a.css">',
    "broken picture": '<img alt="x" src="data:image/png;base64,iVBORw0KGgo=">',
    "no text alternative": '<img src="data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw==">',
    "overflow": '<div style="width: 500px">wide</div>',
    "tiny text": '<p style="font-size: 8px">small print</p>',
}


def test_each_fault_would_be_seen(browser: Browser, pages: dict[str, str]) -> None:
    """The negative control: one page with every fault planted, and one whose tables do not sort."""
    page = pages["runs"].replace("</main>", "".join(SPOILT.values()) + "</main>")
    page = page.replace("table.tBodies[0].append(...rows);", "")
    seen = browser.see(page)
    assert set(seen.faults()) == {*SPOILT, "sorting"}
    assert seen.requests == ["fonts.invalid"]
