import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikin.report.scatter import Mark, scatter

NS = "{http://www.w3.org/2000/svg}"


def parsed(svg):
    return ElementTree.fromstring(svg.replace("<svg ", f'<svg xmlns="{NS[1:-1]}" ', 1))


def circles(svg, role):
    return [(float(c.get("cx")), float(c.get("cy"))) for c in parsed(svg).iter(f"{NS}circle") if c.get("class") == role]


def test_scatter_is_logarithmic_across_and_linear_up():
    marks = [Mark(x, y, "front", "t") for x, y in ((0.1, 0.5), (1, 0.6), (10, 0.7))]
    (x0, y0), (x1, y1), (x2, y2) = circles(scatter(marks, title="t", x_label="MiB"), "front")
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y0 > y1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(1e-4, 1e5), st.floats(0, 1), st.sampled_from(["front", "student", "teacher"])), max_size=12
    )
)
def test_scatter_holds_any_marks(points):
    marks = [Mark(x, y, role, "t", "a label") for x, y, role in points]
    svg = scatter(
        marks, title="t", x_label="x", line=[(x, y) for x, y, _ in points], limit=(1.0, "b"), floor=(0.5, "f")
    )
    if not points:
        assert svg == ""
        return
    for role in ("front", "student"):
        for x, y in circles(svg, role):
            assert 0 <= x <= 440
            assert 0 <= y <= 358
    assert svg.count("a label") == len(points)


def test_front_line_never_steps_down():
    marks = [Mark(x, y, "front", "") for x, y in ((1, 0.9), (2, 0.8), (3, 0.95))]
    svg = scatter(marks, title="t", x_label="x", line=[(m.x, m.y) for m in marks])
    points = parsed(svg).find(f".//{NS}polyline").get("points").split()
    heights = [float(p.split(",")[1]) for p in points]
    assert heights == sorted(heights, reverse=True)
    assert len(points) == 3


def test_labels_keep_apart():
    marks = [Mark(1, 0.9, "student", "", "one label"), Mark(1.02, 0.9, "control", "", "two label")]
    texts = [t for t in parsed(scatter(marks, title="t", x_label="x")).iter(f"{NS}text") if "label" in t.text]
    (ax, ay), (bx, by) = [(float(t.get("x")), float(t.get("y"))) for t in texts]
    assert abs(ax - bx) > 50 or abs(ay - by) > 10


def test_words_are_escaped():
    svg = scatter([Mark(1, 0.5, "front", '"<b>"', "<i>&")], title='<"t">', x_label="<x>", limit=(1, "<l>"))
    root = parsed(svg)
    assert root.get("aria-label") == '<"t">'
    assert "<i>&" in "".join(root.itertext())


def test_costs_of_nothing_are_left_out():
    assert scatter([Mark(0, 0.5, "front", ""), Mark(1, float("nan"), "front", "")], title="t", x_label="x") == ""
