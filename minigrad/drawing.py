"""`draw`: pictures of programs, as SVG without any other program, or as DOT or Mermaid text.

    draw(loss)                   the tape that an eager computation has left
    draw(f, *args)               the graph of a function, as `compile` would run it
    draw(f, *args, stage="trace")   as it was recorded, or as it was after the pass of that name
    draw(graph)                  any graph

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> print(draw((x * x).sum(), format="mermaid"))
    flowchart TD
        b0["sum  ...<br/>float32[]"]
        b1["mul  ...<br/>float32[2]"]
        b2(["leaf, requires grad<br/>float32[2]"])
        b1 --> b0
        b2 --> b1

A picture is a string that notebooks show as what it is; `picture.save("step.svg")` writes it.

**The layout** is that of Sugiyama, Tagawa & Toda 1981, in four steps: a rank for every box so that
edges go down; a chain of invisible points where an edge crosses ranks; an order within each rank with
few crossings, by sweeping up and down and sorting by the mean place of the neighbours; and places
that make edges straight where they can be (each box tries to stand at the mean of its neighbours,
and is pushed apart from those beside it).

To keep pictures readable: a group that runs as one loop is one box with a line a step; the lanes of
a group are drawn once; numbers stand where they are used; inputs that go to the same boxes, and
updates that come from the same, share one.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from . import tape
from .compiled import Compiled
from .compiled import compile as compile_
from .errors import ArgumentError, DTypeError, short_line
from .ir import Graph, Group, Spec
from .passes import run
from .tensor import Tensor
from .trace import Captured

#: Fill and border of boxes, by the kind of record.
COLOURS: dict[str, tuple[str, str]] = {
    "elementwise": ("#e3eefb", "#4a7fb8"),
    "contraction": ("#fde6d0", "#c9762b"),
    "reduction": ("#e0f1df", "#4b9155"),
    "movement": ("#efefef", "#8b8b8b"),
    "index": ("#ece4f7", "#7f5fb3"),
    "scan": ("#e0f1df", "#4b9155"),
    "creation": ("#fbf3c9", "#ab9323"),
    "opaque": ("#f7dede", "#b55757"),
    "group": ("#ffffff", "#333333"),
    "input": ("#ffffff", "#8b8b8b"),
    "output": ("#333333", "#333333"),
    "update": ("#ffffff", "#b5478c"),
}

_CHAR, _LINE, _SMALL = 6.7, 16.0, 5.6  # width and height of text, in pixels
_PAD = 9.0
_ACROSS, _DOWN = 22.0, 38.0  # gaps between boxes and ranks


class Row(NamedTuple):
    """A line of text in a box: what it says, its kind (for colour), and small print at its right."""

    text: str
    kind: str = ""
    note: str = ""


@dataclass
class Box:
    """One thing in a picture."""

    rows: list[Row]
    kind: str
    tooltip: str = ""
    x: float = 0.0
    y: float = 0.0
    rank: int = 0
    width: float = 0.0
    height: float = 0.0

    def measure(self) -> None:
        """Width and height from the text."""
        wide = [len(r.text) * _CHAR + (len(r.note) * _SMALL + 14 if r.note else 0) for r in self.rows]
        self.width = max([34.0, *wide]) + 2 * _PAD
        self.height = len(self.rows) * _LINE + 10


@dataclass
class Sketch:
    """Boxes and edges (from, to, label), before they have places."""

    boxes: list[Box] = field(default_factory=list)
    edges: list[tuple[int, int, str]] = field(default_factory=list)

    def add(self, box: Box) -> int:
        """The number of a new box."""
        self.boxes.append(box)
        return len(self.boxes) - 1

    def connect(self, start: int, end: int, label: str = "") -> None:
        """An edge, once."""
        if start != end and (start, end, label) not in self.edges:
            self.edges.append((start, end, label))


class Picture(str):
    """A drawing as text; notebooks show it."""

    language: str = "svg"

    def _repr_html_(self) -> str:
        return str(self) if self.language == "svg" else f"<pre>{html.escape(self)}</pre>"

    def save(self, path: Any) -> None:
        """Write it to a file."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self)


# -- what is drawn -----------------------------------------------------------------------------------


def _sketch_tape(outputs: Sequence[Tensor]) -> Sketch:
    sketch = Sketch()
    places: dict[Any, int] = {}
    for y in outputs:
        if y._node is None:
            raise ArgumentError(
                "draw",
                f"a tensor of shape {y.shape} has no history",
                fix="draw a result that requires grad, or a function with its arguments",
            )
    nodes = tape.reachable([y._node for y in outputs if y._node is not None])
    for node in reversed(nodes):
        spec = str(Spec(node.shape, node.dtype))
        if isinstance(node, tape.Leaf):
            has = "with grad" if node.grad is not None else "requires grad"
            box = Box([Row(f"leaf, {has}"), Row(spec)], "input")
        else:
            saved = (
                [Spec(t.shape, t.dtype) for t in node.saved if isinstance(t, Tensor)] if node.saved else []
            )
            keeps = [str(s) for s in saved] + (["its output"] if node.y is not None else [])
            attrs = [f"{n}={v}" for n, v in zip(node.op.attrs, node.attrs, strict=False)]
            note = short_line(node.where)
            tip = "; ".join([*attrs, f"keeps {', '.join(keeps) or 'nothing'}", note])
            box = Box([Row(node.name, "", note), Row(spec)], node.op.kind, tip)
        places[node] = sketch.add(box)
    for node in reversed(nodes):
        for parent in node.inputs:
            if parent is not None:
                sketch.connect(places[parent], places[node])
    return sketch


def _attrs_text(node: Any) -> str:
    shown = []
    for name, value in zip(node.op.attrs, node.attrs, strict=True):
        if value is False or value is None or name in ("shape", "dtype") or len(str(value)) > 18:
            continue
        shown.append(name if value is True else f"{name}={value}".replace(", ", ","))
    return f" {' '.join(shown)}" if shown else ""


def _sketch_graph(graph: Graph, names: dict[int, str]) -> Sketch:
    sketch = Sketch()
    first = graph.first_node
    steps = graph.steps()
    place: dict[int, int] = {}  # value -> box
    needs: list[list[int]] = []
    for group in steps:
        length = (group.stop - group.start) // group.lanes
        number = sketch.add(_step_box(graph, group, length))
        inputs: dict[int, None] = {}
        for position in range(group.start, group.stop):
            place[first + position] = number
            for v in graph.nodes[position].inputs:
                inputs[v] = None
        needs.append([v for v in inputs if v < first and not (v >= len(graph.inputs) and _number(graph, v))])
    for number, group in enumerate(steps):
        for position in range(group.start, group.stop):
            for v in graph.nodes[position].inputs:
                if v >= first:
                    sketch.connect(place[v], number)
    users: dict[int, list[int]] = {v: [] for v in range(len(graph.inputs))}
    for number, values in enumerate(needs):
        for v in values:
            users.setdefault(v, []).append(number)
    together: dict[tuple[int, ...], list[int]] = {}
    for v, readers in users.items():
        together.setdefault(tuple(readers), []).append(v)
    for who, values in together.items():
        results = [v for v in values if v in graph.outputs]
        if not who and not results and len(values) == len(graph.inputs):
            continue
        rows = _listed(
            [_input_name(names, v, "input" if v < len(graph.inputs) else "constant") for v in values],
            [str(graph.spec(v)) for v in values],
        )
        number = sketch.add(Box(rows, "input"))
        for v in values:
            place[v] = number
        for user in who:
            sketch.connect(number, user)
    for k, v in enumerate(graph.outputs):
        number = sketch.add(Box([Row(f"output {k}" if len(graph.outputs) > 1 else "output")], "output"))
        if v in place:
            sketch.connect(place[v], number)
    written: dict[int, list[int]] = {}
    for target, v in graph.updates:
        if v in place:
            written.setdefault(place[v], []).append(target)
    for source, targets in written.items():
        rows = _listed([f"update {_input_name(names, t)}" for t in targets], [""] * len(targets))
        sketch.connect(source, sketch.add(Box(rows, "update")))
    return sketch


def _input_name(names: dict[int, str], value: int, otherwise: str = "input") -> str:
    return f"%{value} {names.get(value, otherwise)}"


def _listed(texts: list[str], notes: list[str]) -> list[Row]:
    rows = [Row(text, "", note) for text, note in zip(texts, notes, strict=True)]
    return rows if len(rows) <= 7 else [*rows[:6], Row(f"and {len(rows) - 6} more")]


def _number(graph: Graph, v: int) -> str:
    """A constant that is one number, as text."""
    if not len(graph.inputs) <= v < graph.first_node:
        return ""
    array = graph.constants[v - len(graph.inputs)]
    if array.ndim:
        return ""
    value = array.item()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _step_box(graph: Graph, group: Group, length: int) -> Box:
    first = graph.first_node
    nodes = graph.nodes[group.start : group.start + length]
    lines = dict.fromkeys(n.where for n in graph.nodes[group.start : group.stop] if n.where)
    where = ", ".join(lines)
    rows = []
    for node in nodes:
        numbers = [_number(graph, v) for v in node.inputs]
        text = node.op.name + _attrs_text(node) + "".join(f" {n}" for n in numbers if n)
        rows.append(Row(text, node.op.kind, str(node.spec)))
    tooltip = "\n".join(
        f"%{first + p} = {graph.nodes[p].op.name}({', '.join(f'%{v}' for v in graph.nodes[p].inputs)})  "
        f"{graph.nodes[p].where}"
        for p in range(group.start, group.start + length)
    )
    if length == 1 and group.lanes == 1:
        node = nodes[0]
        return Box([Row(rows[0].text, "", where), Row(str(node.spec))], node.op.kind, tooltip)
    spare = len(rows) - 14
    if spare > 1:
        rows = [*rows[:12], Row(f"... {spare} more ..."), *rows[-2:]]
    title = f"{length} in one loop" if length > 1 else "side by side"
    if group.lanes > 1:
        title += f", {group.lanes} lanes"
    return Box([Row(title, "title", next(iter(lines), "")), *rows], "group", tooltip)


# -- layout ---------------------------------------------------------------------------------------------


class _Layout:
    """Places for the boxes of a sketch; points that edges go through are boxes without size."""

    def __init__(self, sketch: Sketch) -> None:
        self.boxes = list(sketch.boxes)
        for box in self.boxes:
            box.measure()
        pairs = sorted({(a, b) for a, b, _ in sketch.edges})
        self._rank(pairs)
        self.paths: dict[tuple[int, int], list[int]] = {}
        self.above: dict[int, list[int]] = {}
        self.below: dict[int, list[int]] = {}
        for a, b in pairs:
            path = [a]
            for rank in range(self.boxes[a].rank + 1, self.boxes[b].rank):
                self.boxes.append(Box([], "", rank=rank, width=8.0))
                path.append(len(self.boxes) - 1)
            path.append(b)
            self.paths[a, b] = path
            for start, end in pairwise(path):
                self.below.setdefault(start, []).append(end)
                self.above.setdefault(end, []).append(start)
        ranks = max((b.rank for b in self.boxes), default=-1) + 1
        self.ranks: list[list[int]] = [[] for _ in range(ranks)]
        for i, box in enumerate(self.boxes):
            self.ranks[box.rank].append(i)
        self._order()
        self._place()

    def _rank(self, pairs: list[tuple[int, int]]) -> None:
        """As low as the sources allow, then sources as near to their users as they can be."""
        after: dict[int, list[int]] = {}
        waits = [0] * len(self.boxes)
        for a, b in pairs:
            after.setdefault(a, []).append(b)
            waits[b] += 1
        sources = [i for i, n in enumerate(waits) if not n]
        ready, order = list(sources), []
        while ready:
            a = ready.pop()
            order.append(a)
            for b in after.get(a, ()):
                self.boxes[b].rank = max(self.boxes[b].rank, self.boxes[a].rank + 1)
                waits[b] -= 1
                if not waits[b]:
                    ready.append(b)
        for a in reversed(order):
            if a in after and a in sources:
                self.boxes[a].rank = min(self.boxes[b].rank for b in after[a]) - 1
        least = min((b.rank for b in self.boxes), default=0)
        for box in self.boxes:
            box.rank -= least

    def _crossings(self, upper: list[int], lower: list[int]) -> int:
        place = {v: i for i, v in enumerate(lower)}
        ends = [sorted(place[w] for w in self.below.get(v, ()) if w in place) for v in upper]
        flat = [e for group in ends for e in group]
        tree = [0] * (len(lower) + 1)  # a Fenwick tree counts the inversions
        count = 0
        for seen, e in enumerate(flat):
            i, smaller = e + 1, 0
            while i:
                smaller += tree[i]
                i &= i - 1
            count += seen - smaller
            i = e + 1
            while i <= len(lower):
                tree[i] += 1
                i += i & -i
        return count

    def _total(self) -> int:
        return sum(self._crossings(a, b) for a, b in pairwise(self.ranks))

    def _order(self) -> None:
        best, least = [list(r) for r in self.ranks], self._total()
        for sweep in range(14):
            down = sweep % 2 == 0
            neighbours = self.above if down else self.below
            for rank in self.ranks if down else self.ranks[::-1]:
                place = {v: i for r in self.ranks for i, v in enumerate(r)}
                old = {v: i for i, v in enumerate(rank)}

                def mean(v: int, place: dict[int, int] = place, old: dict[int, int] = old) -> float:
                    near = neighbours.get(v, ())  # noqa: B023 - used at once
                    return sum(place[w] for w in near) / len(near) if near else float(old[v])

                rank.sort(key=mean)
            total = self._total()
            if total < least:
                best, least = [list(r) for r in self.ranks], total
            if not least:
                break
        self.ranks = best

    def _place(self) -> None:
        boxes = self.boxes
        y = 0.0
        for rank in self.ranks:
            height = max((boxes[v].height for v in rank), default=0.0)
            for v in rank:
                boxes[v].y = y + height / 2
            y += height + _DOWN
            x = 0.0
            for v in rank:
                boxes[v].x = x + boxes[v].width / 2
                x += boxes[v].width + _ACROSS
        for sweep in range(24):
            down = sweep % 2 == 0
            for rank in self.ranks if down else self.ranks[::-1]:
                self._align(rank, (self.above, self.below) if down else (self.below, self.above))
        left = min((b.x - b.width / 2 for b in boxes), default=0.0)
        for box in boxes:
            box.x -= left

    def _align(self, rank: list[int], sides: tuple[dict[int, list[int]], dict[int, list[int]]]) -> None:
        """Move each box of a rank to the mean of its neighbours, as near as the others allow.

        The best places in order with gaps are found by pooling: boxes that would overlap form a
        block, which stands at the mean of what its members want (isotonic regression).
        """
        boxes = self.boxes
        blocks: list[list[float]] = []  # wanted sum, weight, members, width so far
        shift = 0.0
        offsets = []
        for k, v in enumerate(rank):
            if k:
                shift += boxes[rank[k - 1]].width / 2 + boxes[v].width / 2
                shift += _ACROSS if boxes[v].rows or boxes[rank[k - 1]].rows else 12.0
            offsets.append(shift)
            near = sides[0].get(v) or ()
            far = sides[1].get(v) or ()
            total = weight = 0.0
            for others, strength in ((near, 1.0), (far, 0.6)):
                for w in others:
                    straight = 10.0 if not boxes[v].rows and not boxes[w].rows else 1.0
                    total += boxes[w].x * strength * straight
                    weight += strength * straight
            wanted = total / weight if weight else boxes[v].x
            weight = max(weight, 0.05)
            blocks.append([(wanted - shift) * weight, weight, 1.0])
            while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
                last = blocks.pop()
                blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
        k = 0
        for total, weight, members in blocks:
            for _ in range(int(members)):
                boxes[rank[k]].x = total / weight + offsets[k]
                k += 1


# -- formats ----------------------------------------------------------------------------------------------


def _svg(sketch: Sketch) -> str:
    layout = _Layout(sketch)
    margin = 16.0
    width = max((b.x + b.width / 2 for b in layout.boxes), default=0.0) + 2 * margin
    height = max((b.y + b.height / 2 for b in layout.boxes), default=0.0) + 2 * margin
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="{-margin:.0f} {-margin:.0f} {width:.0f} {height:.0f}" '
        'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="11">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="#777"/></marker></defs>',
        f'<rect x="{-margin:.0f}" y="{-margin:.0f}" width="{width:.0f}" height="{height:.0f}" fill="white"/>',
    ]
    ends: dict[tuple[int, bool], list[tuple[float, tuple[int, int]]]] = {}
    for pair, path in layout.paths.items():
        ends.setdefault((pair[0], False), []).append((layout.boxes[path[1]].x, pair))
        ends.setdefault((pair[1], True), []).append((layout.boxes[path[-2]].x, pair))
    port: dict[tuple[tuple[int, int], bool], float] = {}
    for (number, top), edges in ends.items():
        box = layout.boxes[number]
        room = min(box.width - 16, 26.0 * (len(edges) - 1))
        for k, (_, pair) in enumerate(sorted(edges)):
            at = 0.0 if len(edges) == 1 else -room / 2 + room * k / (len(edges) - 1)
            port[pair, top] = box.x + at
    for (a, b), path in layout.paths.items():
        points = [(port[(a, b), False], layout.boxes[a].y + layout.boxes[a].height / 2)]
        points += [(layout.boxes[v].x, layout.boxes[v].y) for v in path[1:-1]]
        points.append((port[(a, b), True], layout.boxes[b].y - layout.boxes[b].height / 2))
        dashed = ' stroke-dasharray="4 3"' if layout.boxes[b].kind == "update" else ""
        parts.append(
            f'<path d="{_curve(points)}" fill="none" stroke="#777" stroke-width="1.1"{dashed} '
            'marker-end="url(#tip)"/>'
        )
    for box in layout.boxes:
        if box.rows:
            parts.append(_box_svg(box))
    parts.append("</svg>")
    return "\n".join(parts)


def _curve(points: list[tuple[float, float]]) -> str:
    """A smooth line through points, vertical at each."""
    (x, y), *rest = points
    d = [f"M{x:.1f} {y:.1f}"]
    for u, v in rest:
        bend = (v - y) / 2
        d.append(f"C{x:.1f} {y + bend:.1f} {u:.1f} {v - bend:.1f} {u:.1f} {v:.1f}")
        x, y = u, v
    return "".join(d)


def _box_svg(box: Box) -> str:
    fill, stroke = COLOURS[box.kind]
    left, top = box.x - box.width / 2, box.y - box.height / 2
    round_ = 12 if box.kind in ("input", "output", "update") else 4
    dashed = ' stroke-dasharray="4 3"' if box.kind == "update" else ""
    parts = ["<g>"]
    if box.tooltip:
        parts.append(f"<title>{html.escape(box.tooltip)}</title>")
    parts.append(
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{round_}" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="{1.6 if box.kind == "group" else 1.2}"{dashed}/>'
    )
    ink = "#ffffff" if box.kind == "output" else "#222222"
    for k, row in enumerate(box.rows):
        y = top + 5 + k * _LINE
        if row.kind in COLOURS:
            parts.append(
                f'<rect x="{left + 4:.1f}" y="{y + 0.5:.1f}" width="{box.width - 8:.1f}" '
                f'height="{_LINE - 1:.1f}" rx="2" fill="{COLOURS[row.kind][0]}"/>'
            )
        single = box.kind not in ("group", "input", "update") and k == 0
        weight = ' font-weight="bold"' if row.kind == "title" or (single and box.kind != "output") else ""
        colour = ink if k == 0 or box.kind in ("group", "input", "update") else "#555555"
        anchor, x = ("start", left + _PAD)
        if not row.note and len(box.rows) == 1:
            anchor, x = "middle", box.x
        parts.append(
            f'<text x="{x:.1f}" y="{y + 12:.1f}" fill="{colour}" text-anchor="{anchor}"{weight}>'
            f"{html.escape(row.text)}</text>"
        )
        if row.note:
            parts.append(
                f'<text x="{left + box.width - _PAD:.1f}" y="{y + 11.5:.1f}" fill="#777777" font-size="9" '
                f'text-anchor="end">{html.escape(row.note)}</text>'
            )
    parts.append("</g>")
    return "".join(parts)


def _lines(box: Box) -> list[str]:
    return [f"{row.text}  {row.note}" if row.note else row.text for row in box.rows]


def _dot(sketch: Sketch) -> str:
    lines = ["digraph {", '    node [shape=box, style="rounded,filled", fontname=monospace, fontsize=10];']
    for i, box in enumerate(sketch.boxes):
        text = "\\l".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in _lines(box))
        fill, stroke = COLOURS[box.kind]
        ink = ", fontcolor=white" if box.kind == "output" else ""
        lines.append(f'    b{i} [label="{text}\\l", fillcolor="{fill}", color="{stroke}"{ink}];')
    lines += [f"    b{a} -> b{b};" for a, b, _ in sketch.edges]
    return "\n".join([*lines, "}"])


def _mermaid(sketch: Sketch) -> str:
    lines = ["flowchart TD"]
    for i, box in enumerate(sketch.boxes):
        text = "<br/>".join(_lines(box)).replace('"', "#quot;")
        left, right = ("([", "])") if box.kind in ("input", "output", "update") else ("[", "]")
        lines.append(f'    b{i}{left}"{text}"{right}')
    lines += [f"    b{a} --> b{b}" for a, b, _ in sketch.edges]
    return "\n".join(lines)


FORMATS: dict[str, Callable[[Sketch], str]] = {"svg": _svg, "dot": _dot, "mermaid": _mermaid}


def input_names(function: Any, captured: Captured) -> dict[int, str]:
    """What the inputs of a captured function are called in the program: parameters by their paths,
    other tensors by the variable that holds them, an optimizer's state by what it belongs to."""
    known: dict[int, str] = {}
    optimizers = []
    for variable, value in _reachable_from(function):
        if isinstance(value, Tensor):
            known.setdefault(id(value), variable)
        elif hasattr(value, "named_parameters") and hasattr(value, "named_buffers"):
            for name, t in (*value.named_parameters(), *value.named_buffers()):
                known.setdefault(id(t), f"{variable}.{name}" if variable else name)
        elif hasattr(value, "param_groups") and hasattr(value, "state"):
            optimizers.append(value)
    for optimizer in optimizers:
        for p, slots in optimizer.state.items():
            for name, t in slots.items():
                if isinstance(t, Tensor):
                    known.setdefault(id(t), f"{name} of {known.get(id(p), 'a parameter')}")
    names = dict.fromkeys(range(captured.arguments), "argument")
    for i, state in enumerate(captured.state, captured.arguments):
        t = None if state.tensor is None else state.tensor()
        names[i] = "state" if t is None else known.get(id(t), "state")
    for i, number in enumerate(captured.live, captured.arguments + len(captured.state)):
        names[i] = number.name
    return names


def _reachable_from(function: Any) -> list[tuple[str, Any]]:
    """Variables that a function uses, with their values: what it closes over, and its globals."""
    owner = getattr(function, "__self__", function)
    found: list[tuple[str, Any]] = [] if owner is None else [("", owner)]
    code = getattr(function, "__code__", None)
    if code is None:
        return found
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            found.append((name, cell.cell_contents))
        except ValueError:  # not bound yet
            continue
    space = function.__globals__
    found += [(name, space[name]) for name in code.co_names if name in space]
    defaults = function.__defaults__ or ()
    found += zip(
        code.co_varnames[: code.co_argcount][-len(defaults) :] if defaults else (), defaults, strict=True
    )
    for _, value in list(found):  # one level deeper: a function that this one calls
        if hasattr(value, "__code__") and value.__closure__:
            for name, cell in zip(value.__code__.co_freevars, value.__closure__, strict=True):
                try:
                    found.append((name, cell.cell_contents))
                except ValueError:
                    continue
    return found


def stages(f: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Graph], dict[int, str]]:
    """The graphs of a function, after tracing ("trace") and after each pass; and names of its inputs."""
    compiled = f if isinstance(f, Compiled) else compile_(f)
    captured = compiled.captured(*args, **kwargs)
    found = {"trace": captured.graph}
    run(captured.graph, compiled.passes, lambda name, before, after: found.__setitem__(name, after))
    return found, input_names(compiled.function, captured)


def draw(x: Any, *args: Any, format: str = "svg", stage: str | None = None, **kwargs: Any) -> Picture:
    """A picture of a tensor's history, of a graph, or of a function called with these arguments.

    format: "svg", "dot" or "mermaid".  stage: of a function, "trace" or the name of a pass; by default
    what is run.  Raises ArgumentError for another format or stage.
    """
    if format not in FORMATS:
        raise ArgumentError("draw", f"there is no format {format!r}", fix=f"use {', '.join(FORMATS)}")
    if isinstance(x, Tensor):
        sketch = _sketch_tape([x, *(a for a in args if isinstance(a, Tensor))])
    elif isinstance(x, Graph):
        sketch = _sketch_graph(x, {})
    elif callable(x):
        found, names = stages(x, args, kwargs)
        if stage is not None and stage not in found:
            raise ArgumentError("draw", f"there is no stage {stage!r}", fix=f"use {', '.join(found)}")
        sketch = _sketch_graph(found[stage or next(reversed(found))], names)
    else:
        raise DTypeError("draw", f"a {type(x).__name__}", fix="pass a tensor, a graph or a function")
    picture = Picture(FORMATS[format](sketch))
    picture.language = format
    return picture


__all__ = ["COLOURS", "FORMATS", "Picture", "draw", "input_names", "stages"]
