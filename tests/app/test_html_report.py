"""The page about files: it needs nothing else, says what they hold, and sorts and filters in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

import sgdsim
from sgdsim.app.cli import main
from sgdsim.app.html_report import write_report

BROWSER = os.environ.get("SGDSIM_BROWSER") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
VOID = {"meta", "input", "br", "img", "link", "hr"}


class Reader(HTMLParser):
    """Elements in order, all closed; what is outside of it that it names."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files: one with a claim that is true and one that is false, and one with a title full of tricks."""
    folder = tmp_path_factory.mktemp("report")
    run = {"initial": {"x": 1.0}, "trajectories": 2000, "steps": 8, "every": 2, "noise": {"z": "normal"}}
    claims = ["mean(x) = 0.8**8; resolution=0.1", "mean(x) = 5", "variance(x) = 7"]
    common = {**run, "learning_rate": 0.2}
    sgdsim.simulate("a*x**2/2 + z*x", constants={"a": 1}, predict=claims, **common).save(folder / "one.h5")
    sgdsim.simulate("x**2/2 + z*x", title="</script><b>bold & wild", **common).save(folder / "two.h5")
    write_report([folder / "one.h5", folder / "two.h5"], folder / "report.html")
    return folder


def test_the_page_is_whole_and_needs_nothing_else(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    reader = read(text)
    for tag, attributes in reader.found:
        assert tag != "link"
        assert not (tag == "script" and attributes)
        for name in ("src", "href"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:image/svg+xml;base64,"))
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", text)


def test_the_page_says_what_was_simulated_and_what_came_of_it(folder: Path) -> None:
    reader = read((folder / "report.html").read_text())
    words = " ".join(reader.words)
    assert "</script><b>bold & wild" in words  # as text: there is no such element
    assert "b" not in {tag for tag, _ in reader.found}
    tags = [tag for tag, _ in reader.found]
    assert tags.count("math") == 2
    assert tags.count("img") >= 2
    verdicts = [attributes["data-verdict"] for tag, attributes in reader.found if "data-verdict" in attributes]
    report = sgdsim.compare_file(folder / "one.h5")
    assert verdicts == [row.outcome for row in report.comparisons]
    assert verdicts.count("disagrees") == 2
    assert sgdsim.Ensemble.open(folder / "one.h5").digest() in words
    assert "sgdsim run one.toml -o one.h5" in words


def test_the_command_that_repeats_it_does(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "".join(read((folder / "report.html").read_text()).words)
    text = re.search(r"cat > one.toml <<'END_OF_SCENARIO'\n(.*?)\nEND_OF_SCENARIO", words, re.DOTALL)
    assert text is not None
    monkeypatch.chdir(tmp_path)
    Path("one.toml").write_text(text[1])
    again = sgdsim.run_scenario(sgdsim.load_scenario("one.toml"), "again.h5", device="python")
    assert again.digest() == sgdsim.Ensemble.open(folder / "one.h5").digest()


PROBE = """
<script>
const box = document.querySelector(".verdicts"), body = box.querySelector("tbody");
const column = [...box.querySelectorAll("th")].findIndex(head => head.textContent === "z");
const read = () => [...body.rows].filter(row => !row.hidden).map(row => row.cells[column].textContent);
const result = {before: read()};
const button = box.querySelectorAll("th button")[column];
button.click(); result.up = read(); result.sort = button.parentElement.getAttribute("aria-sort");
button.click(); result.down = read();
const select = box.querySelector("select"), text = box.querySelector("input");
select.value = "disagrees"; select.dispatchEvent(new Event("change")); result.disagrees = read();
text.value = "VARIANCE"; text.dispatchEvent(new Event("input")); result.variance = read();
result.count = box.querySelector("output").textContent;
result.images = [...document.images].every(image => image.complete && image.naturalWidth > 0);
const out = document.createElement("pre"); out.id = "probe"; out.textContent = JSON.stringify(result);
document.body.append(out);
</script>
"""


def browse(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--enable-logging=stderr", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_in_a_browser_it_sorts_filters_and_prints(folder: Path, tmp_path: Path) -> None:
    """Numbers go by size, not by letters, and the controls of the table do what they say, without a word of error."""
    text = (folder / "report.html").read_text()
    assert text.count("</body>") == 1
    (tmp_path / "probed.html").write_text(text.replace("</body>", PROBE + "</body>"))
    done = browse(tmp_path, "--dump-dom", f"file://{tmp_path / 'probed.html'}")
    assert "CONSOLE" not in done.stderr
    probe = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout)
    assert probe is not None
    result = json.loads(probe[1].replace("&lt;", "<").replace("&amp;", "&"))
    z = sorted(row.z for row in sgdsim.compare_file(folder / "one.h5").comparisons)
    assert [float(text) for text in result["up"]] == pytest.approx(z, abs=0.005)
    assert result["sort"] == "ascending"
    assert result["down"] == result["up"][::-1]
    assert len(result["before"]) == 3
    assert len(result["disagrees"]) == 2
    assert len(result["variance"]) == 1
    assert result["count"] == "1 of 3 rows"
    assert result["images"]
    browse(tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}", f"file://{folder / 'report.html'}")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_an_error_of_a_page_is_seen(tmp_path: Path) -> None:
    """The negative control."""
    (tmp_path / "wrong.html").write_text("<!DOCTYPE html><script>undefined.x</script>")
    assert "CONSOLE" in browse(tmp_path, "--dump-dom", f"file://{tmp_path / 'wrong.html'}").stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["no.h5", "-o", "new.html"], "no.h5: no such file"),
        (["one.h5", "-o", "page.txt"], "page.txt: expected the suffix .html"),
        (["one.h5", "-o", "report.html"], "report.html: the file exists"),
        ([], "Missing argument 'FILE…'"),
    ],
)
def test_what_cannot_be_reported(folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str):
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(main, ["report", *arguments])
    assert done.exit_code == 2
    assert problem in done.output


def test_the_command_says_what_it_wrote(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(main, ["report", "one.h5", "-o", "mine.html"])
    assert done.output == "mine.html: 1 file, 3 rows, 2 disagree\n"
