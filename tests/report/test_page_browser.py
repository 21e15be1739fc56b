"""The page in a real browser: one headless Chromium session for all checks."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from audio_lottery.report.page import read_group, write_page
from tests.report.synthetic_run import make_run

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install -e '.[dev]'")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no Chromium with its driver: apt-get install chromium-driver"
    ),
]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
EVIL = "\"><script>window.broken=1<img src=x onerror=window.broken=1> it's"


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """The page of one search with noisy suites and foreign text, and of two searches side by side."""
    root = tmp_path_factory.mktemp("pages")
    suites = {"clean": 0.0, "noise10": 0.1, EVIL: 0.2}
    first = make_run(root / "first", 6, utterances=30, suites=suites, reference=EVIL)
    second = make_run(root / "second", 4, seed=1, base=0.3, utterances=30, suites={"clean": 0.0})
    write_page([read_group(EVIL, [first])], root / "one.html")
    write_page([read_group(EVIL, [first]), read_group("second", [second])], root / "two.html")
    return {name: root / f"{name}.html" for name in ("one", "two")}


@pytest.fixture(scope="module")
def browser() -> Iterator["webdriver.Chrome"]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
        driver.set_script_timeout(30)
        yield driver
        driver.quit()


@pytest.fixture(params=["one", "two"])
def page(request, browser, pages) -> Iterator["webdriver.Chrome"]:
    """Each page at 1440 px, light; and afterwards no line on the console, nothing injected, nothing fetched."""
    show(browser, 1440, "light")
    browser.get(pages[request.param].as_uri())
    yield browser
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.broken") is None
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name.slice(0, 5))")
    assert set(fetched) <= {"data:"}


def show(browser: "webdriver.Chrome", width: int, scheme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})


def count(browser: "webdriver.Chrome", selector: str) -> int:
    return browser.execute_script("return document.querySelectorAll(arguments[0]).length", selector)


def test_curves_bands_dense_lines_and_tickets_are_drawn(page):
    curves = count(page, "#curve-legend button") or 1
    for part in ("line", "band", "dense"):
        assert count(page, f"#curve-chart .{part}") == curves
    assert count(page, "#curve-chart .ticket") >= 1
    assert count(page, ".heatmap td") >= 6 * 5
    assert count(page, "[data-training] .line") >= 5
    assert count(page, "#multiples .chart") == 3


def test_hovering_a_point_shows_its_numbers(page):
    action = webdriver.ActionChains(page)
    chart = page.find_element("css selector", "#curve-chart")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    point = page.find_element("css selector", "#curve-chart circle.point, #curve-chart circle.winning")
    action.move_to_element(point).perform()
    tip = page.find_element("css selector", "#curve-chart .tip")
    assert tip.is_displayed()
    assert "% remaining" in tip.text
    assert "WER " in tip.text
    assert "95 % [" in tip.text


def test_keys_walk_over_the_points(page):
    from selenium.webdriver.common.keys import Keys

    chart = page.find_element("css selector", "#curve-chart svg")
    page.execute_script("arguments[0].focus()", chart)
    chart.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert "round 1" in page.find_element("css selector", "#curve-chart .tip").text
    assert "round 1" in page.execute_script("return document.getElementById('announce').textContent")
    chart.send_keys(Keys.ESCAPE)
    assert not page.find_element("css selector", "#curve-chart .tip").is_displayed()


def test_suite_and_axis_switch(page):
    path = "return document.querySelector('#curve-chart .line').getAttribute('d')"
    drawn = [page.execute_script(path)]
    select = page.find_element("css selector", "#suite")
    names = [option.text for option in select.find_elements("css selector", "option")]
    assert names == ["clean", "noise10", EVIL], "in the order of the run; foreign names as they are"
    for index in (1, 2):
        select.find_elements("css selector", "option")[index].click()
        drawn.append(page.execute_script(path))
    page.find_element("css selector", "[data-axis=linear]").click()
    drawn.append(page.execute_script(path))
    assert len(set(drawn)) == 4
    assert page.find_element("css selector", "[data-axis=linear]").get_attribute("aria-pressed") == "true"


def test_audio_loads(page):
    loads = """
        const done = arguments[0], all = [...document.querySelectorAll('audio')];
        Promise.all(all.map((a) => new Promise((ok) => {
            if (a.readyState > 0) return ok(a.duration);
            a.addEventListener('loadedmetadata', () => ok(a.duration));
            a.addEventListener('error', () => ok(-1));
            a.load();
        }))).then(done);
    """
    lengths = page.execute_async_script(loads)
    assert len(lengths) >= 10
    assert all(abs(length - 0.5) < 0.05 for length in lengths)


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_follows_the_colour_scheme(page, width, scheme):
    show(page, width, scheme)
    page.execute_script("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    seen = page.execute_script(
        "return [document.documentElement.scrollWidth, getComputedStyle(document.body).backgroundColor]"
    )
    assert seen[0] <= width
    red = int(seen[1].removeprefix("rgb(").split(",")[0])
    assert (red < 64) == (scheme == "dark")
    widths = page.execute_async_script(
        "const done = arguments[0];"
        "requestAnimationFrame(() => requestAnimationFrame(() => done([...document.querySelectorAll('.chart')]"
        ".map((c) => [c.clientWidth, c.querySelector('svg').getBoundingClientRect().width]))))"
    )
    assert all(chart > 0 and abs(chart - drawn) < 2 for chart, drawn in widths), "drawn anew for the width"


def test_a_curve_can_be_hidden(page):
    buttons = page.find_elements("css selector", "#curve-legend button")
    if not buttons:
        return
    buttons[0].click()
    assert count(page, "#curve-chart .line") == len(buttons) - 1


def test_it_fits_on_paper(page):
    show(page, 700, "light")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    assert page.execute_script("return document.documentElement.scrollWidth") <= 700
