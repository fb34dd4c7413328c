"""Planning memory: every value of a graph gets a place in one arena before anything runs.

A value is needed from the step that makes it to the last step that reads it.  Two values that are
never needed at the same time can lie in the same place, so the arena can be much smaller than the
sum of all values; how much smaller, `Plan` says, beside the lower bound that no plan can beat (the
most that is alive in any one step).

    >>> import minigrad as mg
    >>> graph = mg.trace(lambda x: (x @ x).sin().flip(0) @ x, mg.Spec((64, 64), mg.float32))
    >>> print(plan(graph))
    arena 32.0 KB of 48.0 KB for 4 values (67 %), lower bound 32.0 KB

Finding the smallest arena is the NP-hard problem of packing rectangles (dynamic storage allocation);
"the largest first, each as low as it fits" comes close (Pisarchyk & Lee 2020, arXiv 2001.03288).

* What lives only inside of a group has no place at all: the loop keeps it in a block.
* A view has the place of what it is a view of.
* The result of an elementwise step may take the place of an operand that nobody needs afterwards
  (`in_place`).
* Outputs belong to the caller and have no place in the arena.  The new value of an update goes right
  into the state's own memory (`direct`) where that is safe: every read of the old one has happened,
  at the latest in the same elementwise step, and nothing that could refuse comes later.

`verify` checks a plan by another way of counting.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import NamedTuple

from .execute import roots
from .ir import Graph, Group
from .passes.fuse import stored_by

#: Offsets are multiples of this: a cache line.
ALIGN = 64
#: Kinds of records whose kernels may refuse what they are given, because of its values (others have
#: the trait `refuses`), or find no memory to work in.
FALLIBLE = ("index", "opaque", "creation", "contraction")


class Block(NamedTuple):
    """A place: values that share it, from its first step to its last, both included."""

    offset: int
    size: int
    first: int
    last: int
    values: tuple[int, ...]


class Plan(NamedTuple):
    """Places of values.

    steps     what runs, in order: groups, and single nodes as groups of one
    blocks    the places in the arena
    offset    value -> offset in the arena, for each value that has a place
    views     value -> the value in whose memory it lies
    direct    value -> the input into whose memory it is written at once
    outputs   values that are given memory by the caller
    peak      size of the arena;  naive: all values side by side;  bound: no plan can be smaller
    """

    steps: tuple[Group, ...]
    blocks: tuple[Block, ...]
    offset: dict[int, int]
    views: dict[int, int]
    direct: dict[int, int]
    outputs: tuple[int, ...]
    peak: int
    naive: int
    bound: int

    def __str__(self) -> str:
        share = f" ({100 * self.peak / self.naive:.0f} %)" if self.naive else ""
        count = len(self.offset) + len(self.outputs)
        return (
            f"arena {size_text(self.peak)} of {size_text(self.naive)} for {count} values{share}, "
            f"lower bound {size_text(self.bound)}"
        )


def size_text(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KB", "MB"):
        if count < 1024 or unit == "MB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def size_of(graph: Graph, value: int) -> int:
    """Bytes of a value."""
    spec = graph.spec(value)
    count = spec.dtype.itemsize
    for s in spec.shape:
        count *= s
    return count


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def plan(graph: Graph, copied: Container[int] = (), workspace: Mapping[int, int] | None = None) -> Plan:
    """Places for the values of a graph; see the module.

    copied: values of view operations that have memory of their own.  workspace: bytes that a step, given by
    the position of its first node, needs while it runs; its place is the offset of value -1 - position.
    """
    first = graph.first_node
    steps = graph.steps()
    step_of = [k for k, group in enumerate(steps) for _ in range(group.start, group.stop)]
    kept: set[int] = set()
    for group, values in zip(steps, stored_by(graph, steps), strict=True):
        kept.update(values if group.stop - group.start > 1 else [first + group.start])
    root = roots(graph, copied)
    kept.update(
        [root[v] for v in kept if root[v] >= first]
    )  # a view that leaves a group takes its root along
    for v in range(first, first + len(graph.nodes)):
        if root[v] != v and v not in kept:
            root[v] = v  # inside of a loop there is no memory to share
    born, dies, readers = _lifetimes(graph, steps, step_of, root)
    outputs: dict[int, None] = {}
    for v in graph.outputs:
        if root[v] == v and v >= first:
            outputs[v] = None
    direct = _direct(graph, step_of, root, steps, outputs)
    values = [v for v in sorted(kept) if root[v] == v and v not in outputs and v not in direct]
    blocks = _share(graph, steps, step_of, values, born, dies, readers)
    blocks += [
        Block(0, workspace[group.start], k, k, (-1 - group.start,))
        for k, group in enumerate(steps)
        if workspace and group.start in workspace
    ]
    placed = _place(blocks)
    offset = {v: block.offset for block in placed for v in block.values}
    alive = [0] * (len(steps) + 1)
    for block in placed:
        for k in range(block.first, block.last + 1):
            alive[k] += _aligned(block.size)
    own = roots(graph, copied)
    real = [v for v in range(first, first + len(graph.nodes)) if own[v] == v]
    return Plan(
        tuple(steps),
        tuple(placed),
        offset,
        {v: root[v] for v in sorted(kept) if root[v] != v},
        direct,
        tuple(outputs),
        max((b.offset + _aligned(b.size) for b in placed), default=0),
        sum(_aligned(size_of(graph, v)) for v in real if v not in outputs and v not in direct),
        max(alive, default=0),
    )


def _lifetimes(
    graph: Graph, steps: list[Group], step_of: list[int], root: list[int]
) -> tuple[dict[int, int], dict[int, int], dict[int, set[int]]]:
    """First and last step of each root, and the steps that read it."""
    first = graph.first_node
    born = {first + p: k for p, k in enumerate(step_of)}
    dies = dict(born)
    readers: dict[int, set[int]] = {}
    for position, node in enumerate(graph.nodes):
        for v in node.inputs:
            r = root[v]
            if r >= first:
                dies[r] = max(dies[r], step_of[position])
                readers.setdefault(r, set()).add(step_of[position])
    for v in graph.results:
        if root[v] >= first:
            dies[root[v]] = len(steps)
    return born, dies, readers


def _direct(
    graph: Graph, step_of: list[int], root: list[int], steps: list[Group], outputs: dict[int, None]
) -> dict[int, int]:
    """Values of updates that may be written into the state at once."""
    first = graph.first_node
    last_read: dict[int, int] = {}
    fallible = -1
    for position, node in enumerate(graph.nodes):
        for v in node.inputs:
            if root[v] < len(graph.inputs):
                last_read[root[v]] = step_of[position]
        if node.op.kind in FALLIBLE or node.op.traits.get("refuses"):
            fallible = max(fallible, step_of[position])
    for v in graph.results:  # copied out at the end
        if root[v] < len(graph.inputs):
            last_read[root[v]] = len(steps)
    direct: dict[int, int] = {}
    used = [v for _, v in graph.updates]
    for target, v in graph.updates:
        if v < first or root[v] != v or used.count(v) > 1 or v in outputs:
            continue
        step = step_of[v - first]
        read = last_read.get(target, -1)
        if fallible > step or read > step:
            continue
        if read == step and not _elementwise(graph, steps[step], target, v):
            continue
        direct[v] = target
    return direct


def _elementwise(graph: Graph, group: Group, source: int, target: int) -> bool:
    """Whether a step reads `source` only at the places that it writes `target` at, and not after it has
    written there, so that one place may serve both."""
    writer = target - graph.first_node
    if graph.spec(source) != graph.spec(target) or graph.nodes[writer].op.kind != "elementwise":
        return False
    for position in range(group.start, group.stop):
        node = graph.nodes[position]
        if source in node.inputs and (
            position > writer or node.op.kind != "elementwise" or node.spec.shape != graph.spec(source).shape
        ):
            return False
    return True


def _share(
    graph: Graph,
    steps: list[Group],
    step_of: list[int],
    values: list[int],
    born: dict[int, int],
    dies: dict[int, int],
    readers: dict[int, set[int]],
) -> list[Block]:
    """Values that lie in the same place because one is computed from the other in place."""
    owner: dict[int, list[int]] = {v: [v] for v in values}
    taken: set[int] = set()
    viewed = {v for n in graph.nodes if n.op.view for v in n.inputs}
    for v in values:
        node = graph.nodes[v - graph.first_node]
        if node.op.kind != "elementwise":
            continue
        step = steps[born[v]]
        inputs = {i for n in graph.nodes[step.start : step.stop] for i in n.inputs}
        for x in sorted(inputs):
            if (
                x in owner
                and x not in taken
                and born[x] < born[v]
                and dies[x] == born[v]
                and _elementwise(graph, step, x, v)
                and x not in viewed
            ):
                taken.add(x)
                chain = owner[x]
                chain.append(v)
                owner[v] = chain
                break
    blocks = []
    done: set[int] = set()
    for v in values:
        chain = owner[v]
        if id(chain) in done:
            continue
        done.add(id(chain))
        blocks.append(
            Block(
                0, size_of(graph, v), min(born[x] for x in chain), max(dies[x] for x in chain), tuple(chain)
            )
        )
    return blocks


def _place(blocks: list[Block]) -> list[Block]:
    """The largest first, each as low as it fits."""
    placed: list[Block] = []
    for block in sorted(blocks, key=lambda b: (-b.size, b.first)):
        offset = 0
        size = _aligned(block.size)
        others = [b for b in placed if b.first <= block.last and block.first <= b.last and b.size]
        for other in sorted(others, key=lambda b: b.offset):
            if offset + size <= other.offset:
                break
            offset = max(offset, other.offset + _aligned(other.size))
        placed.append(block._replace(offset=offset))
    return sorted(placed, key=lambda b: (b.first, b.offset))


class PlanError(ValueError):
    """A plan in which two values would overwrite each other."""


def verify(graph: Graph, made: Plan) -> Plan:
    """Return the plan if it is right, else raise PlanError.

    By walking through the steps with the memory as a list of who lies where: whatever a step reads
    must still be what was written, and a step may overwrite only what nobody reads later, or what it
    reads itself at the same places.
    """
    first = graph.first_node
    memory: dict[int, tuple[int, int]] = {}  # value -> its range, as long as it is intact

    def home(v: int) -> int:
        return made.views.get(v, v)

    later: dict[int, int] = {}
    for k, group in enumerate(made.steps):
        for node in graph.nodes[group.start : group.stop]:
            for v in node.inputs:
                later[home(v)] = k
    for v in graph.results:
        later[home(v)] = len(made.steps)
    intact = set(range(first))
    for k, group in enumerate(made.steps):
        own = range(first + group.start, first + group.stop)
        for node in graph.nodes[group.start : group.stop]:
            for v in node.inputs:
                if v not in own and home(v) not in intact:
                    raise PlanError(f"step {k} reads %{v}, which has been overwritten or has no place")
        for v in own:
            if v in made.direct:
                target = made.direct[v]
                if later.get(target, -1) > k or (
                    later.get(target, -1) == k and not _elementwise(graph, group, target, v)
                ):
                    raise PlanError(f"%{v} is written over %{target}, which is still read")
                intact.discard(target)
                intact.add(v)
            elif v in made.outputs:
                intact.add(v)
            elif v in made.offset:
                low = made.offset[v]
                high = low + size_of(graph, v)
                if high > made.peak:
                    raise PlanError(f"%{v} ends at {high}, beyond the arena of {made.peak}")
                for other, (a, b) in list(memory.items()):
                    if a < high and low < b:
                        in_place = a == low and b == high and _elementwise(graph, group, other, v)
                        read = later.get(other, -1)
                        if read > k or (read == k and not in_place) or other in own:
                            raise PlanError(f"%{v} is written over %{other}, which is still needed")
                        del memory[other]
                        intact.discard(other)
                memory[v] = (low, high)
                intact.add(v)
            elif v in made.views:
                intact.add(v)
    for v in graph.results:
        if home(v) not in intact and not (v < first and v in made.direct.values()):
            raise PlanError(f"the result %{v} has been overwritten")
    return made


__all__ = ["Block", "Plan", "PlanError", "plan", "size_of", "size_text", "verify"]
