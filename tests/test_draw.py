"""Pictures and explanations."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.drawing import Sketch, _Layout, _sketch_graph, stages
from minigrad.errors import ArgumentError, DTypeError
from minigrad.nn import functional as F
from minigrad.trace import trace

SVG = "{http://www.w3.org/2000/svg}"


def training_step():
    mg.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, (mg.ones(5, 8), mg.ones(5, 4))


def texts(svg):
    return [t.text for t in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_the_tape():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    w = mg.tensor([3.0, 4.0], requires_grad=True)
    y = (x * w).exp().sum()
    y.backward(retain_graph=True)
    shown = texts(mg.draw(y))
    for text in ("sum", "exp", "mul", "leaf, with grad", "float32[2]"):
        assert text in shown
    assert any("test_draw.py" in t for t in shown)
    with pytest.raises(ArgumentError, match="history"):
        mg.draw(mg.ones(2))


def test_a_long_tape_does_not_recurse():
    x = mg.ones((), requires_grad=True)
    y = x
    for _ in range(3000):
        y = y + 1.0
    assert mg.draw(y, format="dot").count("->") == 3000


def test_stages_of_a_function():
    step, args = training_step()
    raw = mg.draw(step, *args, stage="trace")
    fused = mg.draw(step, *args)
    assert len(ElementTree.fromstring(fused)) < len(ElementTree.fromstring(raw))
    assert any("in one loop, 4 lanes" in t for t in texts(fused))
    assert any(t.startswith("update %") for t in texts(fused))
    for name in ("lr", "model.0.weight", "momentum_buffer of model.0.weight"):
        assert any(name in t for t in texts(fused)), name
    assert set(stages(step, args, {})[0]) == {"trace", "fold", "simplify", "cse", "prune", "fuse"}
    assert mg.draw(mg.compile(step), *args)
    with pytest.raises(ArgumentError, match="no stage"):
        mg.draw(step, *args, stage="melt")


@pytest.mark.parametrize("stage", ["prune", "fuse"])
def test_layout_is_tidy(stage):
    """Boxes of a rank do not overlap, edges go down, and everything lies inside the picture."""
    step, args = training_step()
    found, names = stages(step, args, {})
    layout = _Layout(_sketch_graph(found[stage], names))
    for rank in layout.ranks:
        for left, right in pairwise(rank):
            a, b = layout.boxes[left], layout.boxes[right]
            assert a.x + a.width / 2 < b.x - b.width / 2 + 1e-6
    for path in layout.paths.values():
        ys = [layout.boxes[v].y for v in path]
        assert ys == sorted(ys)
        assert [layout.boxes[v].rank for v in path] == list(
            range(layout.boxes[path[0]].rank, layout.boxes[path[-1]].rank + 1)
        )
    svg = ElementTree.fromstring(mg.draw(step, *args, stage=stage))
    left, top, width, height = map(float, svg.get("viewBox").split())
    for rect in svg.iter(f"{SVG}rect"):
        x, y = float(rect.get("x")), float(rect.get("y"))
        assert left <= x
        assert x + float(rect.get("width")) <= left + width + 1
        assert top <= y
        assert y + float(rect.get("height")) <= top + height + 1
    assert layout._total() < 2.5 * len(layout.paths)


def test_ordering_removes_crossings():
    sketch = Sketch()
    from minigrad.drawing import Box, Row

    top = [sketch.add(Box([Row(f"a{i}")], "input")) for i in range(4)]
    bottom = [sketch.add(Box([Row(f"b{i}")], "input")) for i in range(4)]
    for i in range(4):
        sketch.connect(top[i], bottom[3 - i])
    assert _Layout(sketch)._total() == 0


def test_texts_are_escaped():
    graph = trace(lambda x: x < 1.0, mg.Spec((2,), mg.float32))
    for language in ("svg", "dot", "mermaid"):
        picture = mg.draw(graph, format=language)
        assert "lt" in picture
    ElementTree.fromstring(mg.draw(graph))


def test_formats(tmp_path):
    graph = trace(lambda x: (x * 2.0).exp(), mg.Spec((2,), mg.float32))
    dot = mg.draw(graph, format="dot")
    assert dot.startswith("digraph {")
    assert re.search(r"b\d -> b\d;", dot)
    mermaid = mg.draw(graph, format="mermaid")
    assert mermaid.startswith("flowchart TD")
    assert "mul 2" in mermaid
    picture = mg.draw(graph)
    picture.save(tmp_path / "x.svg")
    assert (tmp_path / "x.svg").read_text() == picture
    assert picture._repr_html_() == picture
    assert dot._repr_html_().startswith("<pre>")
    with pytest.raises(ArgumentError, match="no format"):
        mg.draw(graph, format="png")
    with pytest.raises(DTypeError):
        mg.draw(3)


def test_empty_and_unused():
    assert mg.draw(trace(lambda x: x, mg.Spec((2,), mg.float32)))
    assert mg.draw(lambda: mg.zeros(2) + 1.0)
    assert mg.draw(lambda x, y: x * 2.0, mg.ones(2), mg.ones(2))


# -- explain -------------------------------------------------------------------------------------------------


def test_explain(tmp_path):
    step, args = training_step()
    step(*args)
    from minigrad.compiled import compile

    f = compile(step)
    before = f(*args).item()
    report = mg.explain(f, *args, repeats=2)
    names = [s.name for s in report.stages]
    assert names == ["trace", "fold", "simplify", "cse", "prune", "fuse"]
    first, last = report.stages[0], report.stages[-1]
    assert last.bytes < 0.7 * first.bytes
    assert last.steps < 0.4 * first.steps
    assert last.plan.peak <= first.plan.peak
    assert all(s.seconds > 0 for s in report.stages)
    text = str(report)
    assert "gained nothing" in text or "nodes" in text
    assert "lower bound" in text
    assert f(*args).item() < before  # a step further, and not the many that were measured
    page = tmp_path / "step.html"
    report.save(page)
    assert "<svg" in page.read_text()
    report.save(tmp_path / "step.txt")
    assert report.picture("trace").startswith("<svg")


def test_a_pass_that_gained_nothing_says_so():
    report = mg.explain(lambda x: x.exp(), mg.ones(3), repeats=1)
    assert report.verdict(1) == "gained nothing"
    assert "gained nothing" in report._repr_html_()


def test_explain_leaves_everything_alone():
    w = mg.zeros(3)
    mg.explain(lambda x: w.add_(x), mg.ones(3), repeats=3)
    assert w.tolist() == [0.0] * 3
    assert w.version == 0
