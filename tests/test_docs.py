"""What the README and the documents show is run: code blocks in order, output compared.

A ``python`` block runs in the namespace of the blocks before it on its page. If a ``text`` block
follows directly, it is the output: words must be equal, numbers agree to 5 % or one last digit,
since another version of torch draws and rounds differently.
"""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n?^```text\n(.*?)^```\n)?", re.M | re.S)
WITH_LINKS = sorted({*PAGES, *ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md")})
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)#?([^)\s]*)\)")
NUMBER = re.compile(r"[-−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


# What their examples compute takes longer than a first tier has; the README is in it.
SECOND_TIER = ("log_likelihood.md", "collapse.md")


def with_code() -> list[object]:
    pages = [page for page in PAGES if page.exists() and BLOCK.search(page.read_text())]
    return [
        pytest.param(page, marks=pytest.mark.slow if page.name in SECOND_TIER else ())
        for page in pages
    ]


def same(shown: str, printed: str) -> bool:
    words = [NUMBER.sub("#", " ".join(text.split())) for text in (shown, printed)]
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=False)
    return words[0] == words[1] and all(near(a, b) for a, b in pairs)


def near(a: str, b: str) -> bool:
    x, y = (float(text.replace("−", "-")) for text in (a, b))
    last_digit = 10.0 ** -len(a.partition(".")[2])
    return abs(x - y) <= max(0.05 * abs(x), 2 * last_digit)


@pytest.mark.parametrize("page", with_code(), ids=lambda page: page.name)
def test_code_blocks_run_and_print_what_is_shown(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "docs"}
    for code, shown in BLOCK.findall(page.read_text()):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(page), "exec"), namespace)
        assert not shown or same(shown, printed.getvalue()), printed.getvalue()


def slugs(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", WITH_LINKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text()):
        place = (page.parent / target) if target else page
        assert place.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in slugs(place), f"{page.name} links to {target}#{anchor}"


def test_the_map_of_the_house_is_true():
    page = (ROOT / "docs/design_principles.md").read_text()
    house = ROOT / "src/elboscope"
    looked_for = page.partition("### Where is")[2].partition("### Rules")[0]
    paths = re.findall(r"`([\w/]+/(?:\w+\.py)?)`", looked_for)
    assert len(paths) >= 6
    assert [path for path in paths if not (house / path).exists()] == []
    for file, function in (("objectives/settings.py", "known_objectives"),
                           ("diagnostics/decision.py", "gap_thresholds")):  # fmt: skip
        assert f"`{function}()` in `{file}`" in looked_for
        assert f"\ndef {function}(" in (house / file).read_text()


def test_every_file_of_a_question_is_on_the_map():
    page = (ROOT / "docs/design_principles.md").read_text()
    table = page.partition("| question |")[2].partition("### Where is")[0]
    columns = [set(), set(), set(), set()]
    for row in table.splitlines()[2:]:
        for column, cell in zip(columns, row.strip("|").split("|"), strict=False):
            column.update(re.findall(r"`(\w+)(?:\.py|/)`", cell))
    house = ROOT / "src/elboscope"

    def files(folder: str, but: tuple[str, ...] = ()) -> set[str]:
        return {p.stem for p in (house / folder).glob("*.py")} - {"__init__", *but}

    rooms = {p.parent.name for p in (house / "estimators").glob("*/__init__.py")}
    assert columns[1] == rooms
    assert columns[2] == files("diagnostics/quantities")
    assert columns[2] == files("report/panels", but=("kinds",))
    assert columns[3] == files("plots", but=("style",))


def test_the_comparison_can_fail():
    assert same("log p = -3.70 ± 0.02", "log p = -3.71 ± 0.02\n")
    assert not same("log p = -3.70 ± 0.02", "log p = -4.71 ± 0.02")
    assert not same("log p = -3.70", "ELBO = -3.70")
