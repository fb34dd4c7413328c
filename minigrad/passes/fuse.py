"""Fuse: elementwise work shares one loop over memory with what comes before and after it.

A chain of n elementwise operations, run one by one, reads and writes memory n times; in one loop, a
block of a few hundred elements at a time, it does so once.  The pass changes no node.  It puts them
in an order in which what runs together stands together, and says so with `ir.Group`s.

What may run together has one *space*, the shape that the loop runs over:

* elementwise operations whose result has that shape (operands may broadcast to it);
* a contraction, as the first, whose result has that shape: the rest is its epilogue, done while a
  block of it is still in cache (bias and activation; in the backward pass the mask of relu);
* reductions that read that shape and whose result leaves the group (a loss, the gradient of a bias);
* reductions over the last dimensions whose result the group goes on with: softmax, norms and their
  gradients.  Then rows are the blocks.  Not together with a contraction.

Groups are found backwards.  Every node joins the first group that uses it, if it fits there, and else
begins a group before all others, so the groups are in computable order at any time and no cycle can
arise.  Before that the nodes are ordered so that what is cheap to fuse stands right behind what it
uses.

**Updates.**  What an optimizer does to a parameter could be the epilogue of the product that gives its
gradient, but all parameters in one pass over memory are better: groups that lead to updates take no
contraction, and groups with the same program over different values become the *lanes* of one.

`programs` lists the steps of a group: what a backend turns into instructions.

    >>> import minigrad as mg
    >>> w = mg.Spec((4, 3), mg.float32)
    >>> graph = fuse(mg.trace(lambda x, w: (x @ w + 1.0).tanh(), mg.Spec((2, 4), mg.float32), w))
    >>> graph.groups
    (Group(start=0, stop=3, lanes=1),)
    >>> print(programs(graph, graph.groups[0])[0])
    float32[2,3]: matmul(%0, %1) -> t0; add(t0, %2) -> t1; tanh(t1) -> %5

References: Chen et al. 2018 (TVM, 1802.04799) for the kinds of operations that fuse; Leary & Wang
2017 (XLA) for groups with several outputs.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..ir import Graph, Group, Node, Shape, Spec
from .rewrite import Rewriter

#: Inside a group, reductions whose result is used by the group have rows of at most this many elements.
LONGEST_ROW = 1 << 14


class Cluster:
    """Nodes that are going to be a group."""

    __slots__ = ("anchored", "nodes", "rows", "space", "updates")

    def __init__(self, space: Shape, *, updates: bool = False) -> None:
        self.nodes: list[int] = []  # positions, the last first
        self.space: Shape | None = space
        self.rows: Shape | None = None  # the dimensions of inner reductions
        self.anchored = False  # has a contraction, so nothing may come before
        self.updates = updates


def fuse(graph: Graph) -> Graph:
    """The graph in an order in which groups are ranges, and the groups."""
    order = _schedule(graph)
    users: list[list[int]] = [[] for _ in graph.nodes]
    for position, node in enumerate(graph.nodes):
        for v in node.inputs:
            if v >= graph.first_node:
                users[v - graph.first_node].append(position)
    parts, lanes = _lanes(graph, _joined(graph, _cluster(graph, order, users)))
    return _ordered(graph, parts, lanes)


# -- order -----------------------------------------------------------------------------------------


def _schedule(graph: Graph) -> list[int]:
    """Positions in an order in which elementwise nodes and reductions stand early: right behind what
    they use."""
    first = graph.first_node
    waits = [0] * len(graph.nodes)
    users: list[list[int]] = [[] for _ in graph.nodes]
    for position, node in enumerate(graph.nodes):
        for v in set(node.inputs):
            if v >= first:
                waits[position] += 1
                users[v - first].append(position)

    def rank(position: int) -> tuple[int, int]:
        return int(graph.nodes[position].op.kind not in ("elementwise", "reduction")), position

    ready = [rank(p) for p, n in enumerate(waits) if not n]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        _, position = heapq.heappop(ready)
        order.append(position)
        for user in users[position]:
            waits[user] -= 1
            if not waits[user]:
                heapq.heappush(ready, rank(user))
        sibling = _sibling(graph, position, ready)
        if sibling is not None:
            ready.remove(sibling)
            heapq.heapify(ready)
            heapq.heappush(ready, (-1, sibling[1]))
    return order


def _sibling(graph: Graph, position: int, ready: list[tuple[int, int]]) -> tuple[int, int] | None:
    """What is ready and reads all that a node has read, and more: best done next, while that is at hand.

    A loss and its gradient are of this kind.
    """
    node = graph.nodes[position]
    if node.op.kind != "index" or not node.op.traits.get("refuses"):
        return None
    values = set(node.inputs)
    for item in ready:
        other = graph.nodes[item[1]]
        if other.op.kind == "index" and values < set(other.inputs):
            return item
    return None


# -- groups ----------------------------------------------------------------------------------------


def _cluster(graph: Graph, order: list[int], users: list[list[int]]) -> list[Cluster]:
    """Clusters, in computable order, with their nodes."""
    region = _update_region(graph, users)
    place: dict[int, int] = {}  # position -> index of its cluster, counted from the end
    clusters: list[Cluster] = []  # the last to run first
    for position in reversed(order):
        node = graph.nodes[position]
        chosen = None
        if users[position]:
            earliest = max(place[u] for u in users[position])
            inside = [u for u in users[position] if place[u] == earliest]
            if _joins(graph, position, clusters[earliest], inside, region):
                chosen = earliest
        if chosen is None:
            cluster = Cluster(node.spec.shape, updates=position in region)
            if node.op.kind == "reduction":
                cluster.space = graph.spec(node.inputs[0]).shape if node.inputs else None
                dims = _row_dims(graph, node)
                if node.spec.shape == cluster.space:
                    cluster.rows = dims
                    if dims is None:
                        cluster.space = None
            elif node.op.kind == "contraction":
                cluster.anchored = True
            elif node.op.kind != "elementwise":
                cluster.space = None
            chosen = len(clusters)
            clusters.append(cluster)
        clusters[chosen].nodes.append(position)
        place[position] = chosen
    return clusters[::-1]


def _update_region(graph: Graph, users: list[list[int]]) -> set[int]:
    """Elementwise nodes of the shape of an updated input on the way to its update."""
    first = graph.first_node
    region: set[int] = set()
    for target, value in graph.updates:
        shape = graph.inputs[target].shape
        stack = [value]
        while stack:
            v = stack.pop() - first
            if v < 0 or v in region:
                continue
            node = graph.nodes[v]
            if node.op.kind == "elementwise" and node.spec.shape == shape:
                region.add(v)
                stack += node.inputs
    # what others use too is theirs: it is made before, wherever that is
    for v in sorted(region, reverse=True):
        if any(u not in region for u in users[v]):
            region.discard(v)
    return region


def _joins(graph: Graph, position: int, cluster: Cluster, inside: list[int], region: set[int]) -> bool:
    """Whether a node may become the first of a cluster, of which the nodes `inside` use it."""
    node = graph.nodes[position]
    kind = node.op.kind
    if cluster.space is None or cluster.anchored or not _read_by_position(graph, position, inside):
        return False
    if (position in region) != cluster.updates:
        return False
    if kind == "elementwise":
        return node.spec.shape == cluster.space
    if kind == "contraction":
        if node.spec.shape != cluster.space or cluster.updates or cluster.rows is not None:
            return False
        cluster.anchored = True
        return True
    if kind == "reduction":
        dims = _row_dims(graph, node)
        if dims is None or graph.spec(node.inputs[0]).shape != cluster.space or len(node.inputs) != 1:
            return False
        if len(node.spec.shape) != len(cluster.space) or cluster.rows not in (None, dims) or cluster.updates:
            return False
        if any(_reduces(graph, p) not in (None, dims) for p in cluster.nodes):
            return False
        cluster.rows = dims
        return True
    return False


def _read_by_position(graph: Graph, position: int, inside: list[int]) -> bool:
    """Whether each of these nodes needs, at a place, only that place (or row) of the value."""
    value = graph.first_node + position
    for user in inside:
        node = graph.nodes[user]
        if node.op.kind == "contraction" or node.op.kind not in ("elementwise", "reduction"):
            return False
        if node.op.kind == "reduction" and value in node.inputs[1:]:
            return False
    return True


def _reduces(graph: Graph, position: int) -> Shape | None:
    node = graph.nodes[position]
    return _row_dims(graph, node) if node.op.kind == "reduction" and _goes_on(graph, node) else None


def _goes_on(graph: Graph, node: Node) -> bool:
    """Whether a reduction keeps its dimensions, so that its result can be used in the same loop."""
    return len(node.spec.shape) == len(graph.spec(node.inputs[0]).shape)


def _row_dims(graph: Graph, node: Node) -> Shape | None:
    """The dimensions that a reduction is taken over, if these are the last ones and not too long."""
    if not node.inputs:
        return None
    shape = graph.spec(node.inputs[0]).shape
    dims: Any = None
    for name in ("dims", "dim"):
        if name in node.op.attrs:
            dims = node.attrs[node.op.attrs.index(name)]
    if dims is None:
        out = node.spec.shape
        if len(out) != len(shape):
            return None
        dims = tuple(i for i, (a, b) in enumerate(zip(shape, out, strict=True)) if a != b)
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    if not dims or dims != tuple(range(len(shape) - len(dims), len(shape))):
        return None
    row = 1
    for d in dims:
        row *= shape[d]
    return dims if row <= LONGEST_ROW else None


def _joined(graph: Graph, clusters: list[Cluster]) -> list[Cluster]:
    """Clusters, with each that needs nothing after an earlier one of its space made part of that one.

    What two groups read is then read once: the square of a difference, and its gradient.
    """
    first = graph.first_node
    where: dict[int, int] = {}
    result: list[Cluster] = []
    for cluster in clusters:
        positions = set(cluster.nodes)
        operands = {v - first for p in cluster.nodes for v in graph.nodes[p].inputs if v >= first} - positions
        last = max((where[p] for p in operands), default=-1)
        if last >= 0 and _continues(graph, result[last], cluster, [p for p in operands if where[p] == last]):
            target = result[last]
            target.nodes[:0] = cluster.nodes
            target.rows = target.rows or cluster.rows
        else:
            last = len(result)
            result.append(cluster)
        for p in positions:
            where[p] = last
    return result


def _continues(graph: Graph, one: Cluster, other: Cluster, shared: list[int]) -> bool:
    """Whether `other`, which uses the values `shared` of `one`, may run in the same loop."""
    if one.space is None or one.space != other.space or other.anchored or one.updates != other.updates:
        return False
    rows = one.rows or other.rows
    if other.rows not in (None, rows) or (rows is not None and one.anchored):
        return False
    if any(graph.nodes[p].spec.shape != one.space for p in shared):
        return False
    if not all(_read_by_position(graph, p, _users_in(graph, p, other)) for p in shared):
        return False
    return rows is None or all(_reduces(graph, p) in (None, rows) for p in (*one.nodes, *other.nodes))


def _users_in(graph: Graph, position: int, cluster: Cluster) -> list[int]:
    value = graph.first_node + position
    return [p for p in cluster.nodes if value in graph.nodes[p].inputs]


# -- lanes -----------------------------------------------------------------------------------------


def _lanes(graph: Graph, clusters: list[Cluster]) -> tuple[list[list[int]], list[int]]:
    """Clusters as lists of positions in order; those of one program joined, with their numbers of lanes."""
    parts: list[list[int] | None] = [c.nodes[::-1] for c in clusters]
    lanes = [1] * len(parts)
    first = graph.first_node
    where = {p: k for k, part in enumerate(parts) for p in part or ()}
    needs: list[set[int]] = []
    used_by: list[set[int]] = [set() for _ in parts]
    for k, part in enumerate(parts):
        needed = {where[v - first] for p in part or () for v in graph.nodes[p].inputs if v >= first} - {k}
        needs.append(needed)
        for n in needed:
            used_by[n].add(k)
    known: dict[Any, int] = {}
    for k, part in enumerate(parts):
        if part is None or any(graph.nodes[p].op.kind != "elementwise" for p in part):
            continue
        signature = (clusters[k].updates, _signature(graph, part))
        at = known.get(signature)
        if at is None:
            known[signature] = k
            continue
        mine = parts[at]
        assert mine is not None
        if all(n < at for n in needs[k]):  # this one can go to where the others are
            parts[at], parts[k] = [*mine, *part], None
            source, target = k, at
        elif all(u > k for u in used_by[at]):  # the others can come here
            parts[k], parts[at] = [*mine, *part], None
            source, target = at, k
            known[signature] = k
        else:
            known[signature] = k
            continue
        lanes[target] += lanes[source]
        needs[target] |= needs[source]
        used_by[target] |= used_by[source]
        for n in needs[source]:
            used_by[n].discard(source)
            used_by[n].add(target)
        for u in used_by[source]:
            needs[u].discard(source)
            needs[u].add(target)
    kept = [(part, n) for part, n in zip(parts, lanes, strict=True) if part is not None]
    return [part for part, _ in kept], [n for _, n in kept]


def _signature(graph: Graph, part: list[int]) -> Any:
    """The program of a cluster, whatever the shapes and values that it works on."""
    index = {graph.first_node + p: i for i, p in enumerate(part)}
    steps = []
    for p in part:
        node = graph.nodes[p]
        operands = tuple([index.get(v, -1 if graph.spec(v).shape else -2) for v in node.inputs])
        attrs = tuple([(type(a), a) for a in node.attrs])
        steps.append((node.op, operands, attrs, node.spec.dtype, not node.spec.shape))
    return tuple(steps)


def _ordered(graph: Graph, parts: list[list[int]], lanes: list[int]) -> Graph:
    """The graph with its nodes in the order of the clusters, and the groups."""
    new = Rewriter(graph)
    new.new += [0] * len(graph.nodes)
    groups = []
    for part, n in zip(parts, lanes, strict=True):
        start = len(new.nodes)
        for p in part:
            node = graph.nodes[p]
            inputs = [new.new[v] for v in node.inputs]
            new.new[graph.first_node + p] = new.node(node.op, inputs, node.attrs, node.spec, node.where)
        if len(part) > 1:
            groups.append(Group(start, len(new.nodes), n))
    return new.done(groups)


# -- programs --------------------------------------------------------------------------------------


class Step(NamedTuple):
    """One operation of a program: on values of the graph, or on results of earlier steps (-1 - index)."""

    node: Node
    arguments: tuple[int, ...]
    output: int | None  # the value of the graph that it stores, None if it only lives in the loop

    def __str__(self) -> str:
        return str(self.node.op.name)


class Program(NamedTuple):
    """What one lane of a group does: its space, the values it reads, its steps."""

    space: Spec
    inputs: tuple[int, ...]
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        shown = []
        for i, step in enumerate(self.steps):
            names = [f"%{a}" if a >= 0 else f"t{-1 - a}" for a in step.arguments]
            target = f"t{i}" if step.output is None else f"%{step.output}"
            shown.append(f"{step.node.op.name}({', '.join(names)}) -> {target}")
        return f"{self.space}: {'; '.join(shown)}"


def stored(graph: Graph, group: Group) -> list[int]:
    """The values of a group that are used outside of it, in order: its outputs."""
    return stored_by(graph, (group,))[0]


def stored_by(graph: Graph, steps: Sequence[Group]) -> list[list[int]]:
    """`stored` of each of these steps, which are in order, in one walk."""
    first = graph.first_node
    step_of: dict[int, int] = {}
    for k, step in enumerate(steps):
        for position in range(step.start, step.stop):
            step_of[first + position] = k
    used: list[set[int]] = [set() for _ in steps]
    for v in graph.results:
        if v in step_of:
            used[step_of[v]].add(v)
    for position, node in enumerate(graph.nodes):
        mine = step_of.get(first + position)
        for v in node.inputs:
            theirs = step_of.get(v)
            if theirs is not None and theirs != mine:
                used[theirs].add(v)
    return [sorted(values) for values in used]


def programs(graph: Graph, group: Group) -> list[Program]:
    """The programs of a group, one a lane."""
    outputs = set(stored(graph, group))
    length = (group.stop - group.start) // group.lanes
    result = []
    for start in range(group.start, group.stop, length):
        number = {graph.first_node + start + i: -1 - i for i in range(length)}
        steps: list[Step] = []
        inputs: dict[int, None] = {}
        space = None
        for i in range(length):
            node = graph.nodes[start + i]
            arguments = tuple([number.get(v, v) for v in node.inputs])
            for a in arguments:
                if a >= 0:
                    inputs[a] = None
            value = graph.first_node + start + i
            steps.append(Step(node, arguments, value if value in outputs else None))
            if node.op.kind != "reduction":
                space = node.spec
            elif space is None:
                space = graph.spec(node.inputs[0])
        assert space is not None
        result.append(Program(space, tuple(inputs), tuple(steps)))
    return result


__all__ = ["Program", "Step", "fuse", "programs", "stored", "stored_by"]
