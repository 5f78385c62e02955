"""The report in a headless Chromium: nothing fetched, nothing logged as an error, nothing cut off.

Skipped where there is no Chromium, unless ELBOSCOPE_REQUIRE asks for one (see tests/conftest.py).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "report"))
from hand_made_evidence import complete_diagnosis

pytestmark = pytest.mark.browser

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
)
# Where bokeh has drawn a point, in the page's coordinates, and which datapoint it is.
POINT = """(place) => {
  const view = [...Bokeh.index.roots][0];
  const source = view.model.renderers[0].data_source;
  const frame = view.canvas_view.el.getBoundingClientRect();
  return [frame.x + view.frame.x_scale.compute(source.get_array("horizontal")[place]),
          frame.y + view.frame.y_scale.compute(source.get_array("vertical")[place]),
          source.data.index[place], source.data.image[place]];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield chrome
        chrome.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    return complete_diagnosis().save(tmp_path_factory.mktemp("report") / "report.html")


class Visit:
    """A page with everything that it asked for and complained about."""

    def __init__(self, browser, report: Path, width: int, scheme: str) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(report.as_uri())
        self.page.wait_for_function("window.Bokeh && [...Bokeh.index.roots].length > 0")
        self.page.wait_for_timeout(300)

    def _console(self, message) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)


@pytest.fixture(
    scope="module",
    params=[(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")],
    ids=lambda p: f"{p[0]}-{p[1]}",
)
def visit(request, browser, report) -> Iterator[Visit]:
    visit = Visit(browser, report, *request.param)
    yield visit
    visit.context.close()


def test_no_errors_and_no_requests(visit, report):
    assert visit.errors == []
    fetched = [url for url in visit.requests if not url.startswith(("data:", "blob:"))]
    assert fetched == [report.as_uri()]


def test_nothing_overflows_the_page(visit):
    script = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    width, room = visit.page.evaluate(script)
    assert width <= room
    outside = visit.page.evaluate(
        """() => [...document.querySelectorAll("body *")]
             .filter(e => !e.closest(".scroll") && e.getBoundingClientRect().right > innerWidth + 1)
             .map(e => e.tagName + "." + e.className)"""
    )
    assert outside == []


def test_no_column_of_a_table_is_cut_off(visit):
    """On a wide page no table scrolls: a long unit breaks its line instead."""
    cut = visit.page.evaluate(
        """() => innerWidth < 1280 ? [] : [...document.querySelectorAll(".scroll")]
             .filter(e => e.scrollWidth > e.clientWidth)
             .map(e => e.getAttribute("aria-label"))"""
    )
    assert cut == []


def test_text_can_be_read_on_its_ground(visit):
    """WCAG's contrast of the text, of the muted text and of every badge, at least 4.5."""
    contrasts = visit.page.evaluate(
        """() => {
          const canvas = document.createElement("canvas").getContext("2d");
          const rgb = (colour, over) => {
            canvas.fillStyle = over; canvas.fillRect(0, 0, 1, 1);
            canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
          };
          const css = ([r, g, b]) => `rgb(${r}, ${g}, ${b})`;
          const light = c => c.map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const ground = e => {
            const chain = [];
            for (let n = e; n; n = n.parentElement) {
              chain.unshift(getComputedStyle(n).backgroundColor);
            }
            return chain.reduce((over, colour) => css(rgb(colour, over)), "rgb(255, 255, 255)");
          };
          return [...document.querySelectorAll("p, .badge, td, .is-not, h2, figcaption, dt, dd")]
            .filter(e => e.textContent.trim() && e.offsetParent)
            .map(e => {
              const over = ground(e);
              const [a, b] = [light(rgb(getComputedStyle(e).color, over)), light(rgb(over, over))];
              const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
              return [ratio, e.className, e.textContent.slice(0, 40)];
            });
        }"""
    )
    assert len(contrasts) > 100
    assert [c for c in contrasts if c[0] < 4.5] == []


def test_the_image_appears_under_the_pointer(visit):
    page = visit.page
    page.locator(".map-place").scroll_into_view_if_needed()
    x, y, index, image = page.evaluate(POINT, 17)
    page.mouse.move(x - 2, y - 1)
    page.mouse.move(x, y)
    shown = page.locator(".map-tip img")
    shown.wait_for(state="visible", timeout=5000)
    box = shown.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert f"datapoint {index}" in page.locator(".map-tip").inner_text()
    assert shown.get_attribute("src") == image
    assert shown.evaluate("e => e.complete && e.naturalWidth") == 8
