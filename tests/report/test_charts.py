import xml.etree.ElementTree as ElementTree

import pytest

from minikin.report import charts

NS = "{http://www.w3.org/2000/svg}"


def parsed(svg):
    return ElementTree.fromstring(svg.replace("<svg ", f'<svg xmlns="{NS[1:-1]}" ', 1))


def circles(svg, role):
    return [(float(c.get("cx")), float(c.get("cy"))) for c in parsed(svg).iter(f"{NS}circle") if c.get("class") == role]


def test_reliability_places_bins():
    bins = [
        {"confidence": 0.5, "accuracy": 0.5, "n": 3},
        {"confidence": 1.0, "accuracy": 0.0, "n": 9},
        {"confidence": 0.1, "accuracy": 0.1, "n": 0},
    ]
    svg = charts.reliability(bins, title="t")
    (ax, ay), (bx, by) = circles(svg, "student")
    assert (ax, ay) == pytest.approx((196, 162))
    assert (bx, by) == pytest.approx((346, 312))
    assert charts.reliability([], title="t") == ""


@pytest.mark.parametrize(("share", "width"), [(0.5, 50), (2, 100), (-1, 0.6), (0, 0.6)])
def test_bar(share, width):
    assert float(parsed(charts.bar(share)).find(f"{NS}rect").get("width")) == width


@pytest.mark.parametrize(("change", "kind", "x", "width"), [(-0.1, "loss", 0, 50), (0.05, "gain", 50, 25)])
def test_diverging(change, kind, x, width):
    rect = parsed(charts.diverging(change, 0.1)).find(f"{NS}rect")
    assert (rect.get("class"), float(rect.get("x")), float(rect.get("width"))) == (kind, x, width)
    assert parsed(charts.diverging(0.0, 0.0)).find(f"{NS}rect") is None


def test_strip_stays_inside():
    root = parsed(charts.strip(0.9, (0.8, 1.2), (0.85, 1.0), "student", 0.95))
    for line in root.iter(f"{NS}line"):
        assert 6 <= float(line.get("x1")) <= float(line.get("x2")) <= 174


@pytest.mark.parametrize(
    "role", ["teacher", "student", "control", "lexical", "front", "winner", "dominated", "eliminated"]
)
def test_every_role_has_a_mark(role):
    assert parsed(charts.key(role))[0].get("class") == role
