"""The page of results is made of the results that are kept, and shows each of their numbers."""

from pathlib import Path

from elboscope.reproductions import EXPERIMENTS
from elboscope.reproductions.frame.result import BEGIN, END, main, results, update

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_holds_what_is_kept():
    page = (DOCS / "reproductions.md").read_text()
    assert update(page, results(DOCS / "reproductions", DOCS)) == page
    for entry in EXPERIMENTS:
        assert f"| `{entry.name}` |" in page


def test_a_result_is_taken_over_with_its_pictures(tmp_path):
    (tmp_path / "kept/run").mkdir(parents=True)
    text = "# A table\n\n| a |\n| --- |\n| 1.5 |\n\n![it](it.svg)\n"
    (tmp_path / "kept/run/result.md").write_text(text)
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{BEGIN}\nold\n{END}\nend\n")
    for _ in range(2):
        main(page, tmp_path / "kept")
        written = page.read_text()
        assert "### A table" in written
        assert "![it](kept/run/it.svg)" in written
        assert "old" not in written
        assert written.endswith(f"{END}\nend\n")
