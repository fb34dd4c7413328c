"""Simplify: algebra that the records promise.

    trait        rule                                                  for example
    unit         x op unit = x;  unit op x = x where commutative       x * 1, x - 0, x / 1
    involution   f(f(x)) = x                                           -(-x), flip of flip
    idempotent   f(f(x)) = f(x);  f(x, x) = x                          relu of relu, maximum(x, x)
    identity     f(x) = x, where the trait says so of shape and attrs  a reshape to the same shape, clone
    compose      f(f(x; a); b) = f(x; compose(a, b))                   reshape of reshape, permute of permute
    broadcast    an operation that broadcasts anyway takes x instead   y * broadcast_to(x, shape of y)
    transposes   a contraction reads x transposed, or writes so        x @ w.T, (x @ w).T
    masks        what is spread over zeros is masked before that       the gradient of max_pool(relu(x))

Only what holds for every bit of every number is used: never x * 0 = 0 (NaN, Inf), never
x + 0.0 = x (it makes 0.0 of -0.0; x + -0.0 = x does hold), never 1 / (1 / x) = x (rounding), never a
sum in another order (but a transposed product may be added up by another kernel).  An `idempotent`
or `involution` of a movement holds for equal attributes only.

    >>> import minigrad as mg
    >>> from minigrad.passes import prune
    >>> f = lambda x: (-(-(x * 1.0))).reshape(6).reshape(3, 2).exp()
    >>> graph = mg.trace(f, mg.Spec((2, 3), mg.float32))
    >>> print(prune(simplify(graph)))                   # nobody uses what stood between
    %0: float32[2,3] = input
    %1: float32[3,2] = reshape(%0, shape=(3, 2))    # ...
    %2: float32[3,2] = exp(%1)    # ...
    return %2
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir import Graph, Node, broadcast_shapes
from .rewrite import Rewriter, one_value


def simplify(graph: Graph) -> Graph:
    """The graph after one walk in which every rule has seen every node and what became of its inputs."""
    new = Rewriter(graph)
    uses: dict[int, int] = {}
    for v in [*graph.results, *(v for node in graph.nodes for v in node.inputs)]:
        uses[v] = uses.get(v, 0) + 1
    for node, inputs in new.walk():
        node, inputs = _without_transpositions(new, node, inputs, uses)
        inputs = _without_broadcasts(new, node, inputs)
        masked = _masked_early(new, node, inputs, uses)
        if masked is not None:
            new.replace(masked)
            continue
        same = _same_as(new, node, inputs)
        if same is not None:
            new.replace(same)
            continue
        composed = _composed(new, node, inputs)
        if composed is None:
            new.keep(node, inputs)
            continue
        source, attrs = composed
        changed = Node(node.op, (source,), attrs, node.spec, node.where)
        same = _same_as(new, changed, (source,))
        if same is None:
            new.keep(changed, (source,))
        else:
            new.replace(same)
    return new.done()


def _same_as(new: Rewriter, node: Node, inputs: tuple[int, ...]) -> int | None:
    """An earlier value that the node would only repeat."""
    traits = node.op.traits
    if not traits or not inputs:
        return None
    x = inputs[0]
    same_spec = new.spec(x) == node.spec
    if same_spec and "identity" in traits and traits["identity"](new.spec(x), *node.attrs):
        return x
    if len(inputs) == 2:
        w = inputs[1]
        if "unit" in traits:
            if same_spec and _is(new, w, traits["unit"]):
                return x
            if traits.get("commutative") and new.spec(w) == node.spec and _is(new, x, traits["unit"]):
                return w
        if traits.get("idempotent") and x == w and same_spec:
            return x
        return None
    inner = new.maker(x)
    if inner is None or inner.op is not node.op or inner.attrs != node.attrs:
        return None
    if traits.get("idempotent"):
        return x
    if traits.get("involution") and new.spec(inner.inputs[0]) == node.spec:
        return inner.inputs[0]
    return None


def _is(new: Rewriter, reference: int, value: Any) -> bool:
    array = new.value_of(reference)
    if array is None:
        return False
    one = one_value(array)
    if one is None or not bool(one == value):
        return False
    return one.dtype.kind != "f" or bool(np.signbit(one)) == bool(np.signbit(value))


def _composed(new: Rewriter, node: Node, inputs: tuple[int, ...]) -> tuple[int, tuple[Any, ...]] | None:
    """The source and attributes of one node that does what this one and its input's maker do."""
    compose = node.op.traits.get("compose")
    if compose is None:
        return None
    inner = new.maker(inputs[0])
    if inner is None or inner.op is not node.op:
        return None
    return inner.inputs[0], compose(inner.attrs, node.attrs)


def _without_broadcasts(new: Rewriter, node: Node, inputs: tuple[int, ...]) -> tuple[int, ...]:
    """An elementwise node takes what was broadcast rather than the broadcast, if its shape stays."""
    if node.op.kind != "elementwise" or len(inputs) < 2:
        return inputs
    for k, reference in enumerate(inputs):
        source = _source(new, reference)
        if source is None:
            continue
        shapes = [new.spec(v).shape for v in (*inputs[:k], source, *inputs[k + 1 :])]
        if broadcast_shapes(*shapes) == node.spec.shape:
            inputs = (*inputs[:k], source, *inputs[k + 1 :])
    return inputs


def _without_transpositions(
    new: Rewriter, node: Node, inputs: tuple[int, ...], uses: dict[int, int]
) -> tuple[Node, tuple[int, ...]]:
    """A contraction that reads transposed, or that gives the transposed result, instead of a movement."""
    names = node.op.traits.get("transposes", ())
    for k, name in enumerate(names):
        maker = new.maker(inputs[k])
        if maker is not None and _transposes(new, maker):
            at = node.op.attrs.index(name)
            attrs = (*node.attrs[:at], not node.attrs[at], *node.attrs[at + 1 :])
            node = Node(node.op, node.inputs, attrs, node.spec, node.where)
            inputs = (*inputs[:k], maker.inputs[0], *inputs[k + 1 :])
    if len(inputs) == 1 and uses.get(node.inputs[0], 0) == 1 and _transposes(new, node, inputs[0]):
        product = new.maker(inputs[0])
        turn = None if product is None else product.op.traits.get("transposed")
        if product is not None and turn is not None:
            order, attrs = turn(*product.attrs)
            node = Node(product.op, node.inputs, attrs, node.spec, node.where)
            inputs = tuple([product.inputs[i] for i in order])
    return node, inputs


def _transposes(new: Rewriter, node: Node, source: int | None = None) -> bool:
    test = node.op.traits.get("transposition")
    if test is None:
        return False
    return bool(test(new.spec(node.inputs[0] if source is None else source), *node.attrs))


def _masked_early(new: Rewriter, node: Node, inputs: tuple[int, ...], uses: dict[int, int]) -> int | None:
    """mask(spread(g, places), y) as spread(mask(g, y at these places), places), which has been picked before.

    `masks`: f(g, y) is g or 0.0, whichever y says, element by element.  `spreads`: parts of g are added at
    places of zeros, which the operation of that name picks.  Each place has the same mask for all that is
    added there, so the bits are the same; but y, which is larger, need not be kept, nor read.
    """
    if not node.op.traits.get("masks") or uses.get(node.inputs[0], 0) != 1:
        return None
    shaped, y = new.maker(inputs[0]), inputs[1]
    spread = (
        None if shaped is None else new.maker(shaped.inputs[0]) if shaped.op.traits.get("flat") else shaped
    )
    if spread is None or shaped is None or len(spread.inputs) != 3 or "spreads" not in spread.op.traits:
        return None
    base, places, g = spread.inputs
    if not _is(new, base, 0.0) or new.spec(g).shape != new.spec(places).shape or new.spec(y) != node.spec:
        return None
    for at, other in enumerate(new.nodes):
        if other.op.name != spread.op.traits["spreads"] or other.inputs[1:] != (places,):
            continue
        whole = new.maker(other.inputs[0])
        flat = whole is not None and whole.op is shaped.op and shaped is not spread and whole.inputs == (y,)
        if other.attrs != spread.attrs or new.spec(other.inputs[0]) != spread.spec:
            continue
        if flat or (other.inputs[0] == y and shaped is spread):
            picked = new.NODE + at
            part = new.node(node.op, (g, picked), node.attrs, new.spec(g), node.where)
            result = new.node(spread.op, (base, places, part), spread.attrs, spread.spec, node.where)
            if shaped is spread:
                return result
            return new.node(shaped.op, (result,), shaped.attrs, shaped.spec, node.where)
    return None


def _source(new: Rewriter, reference: int) -> int | None:
    """What a value is a broadcast of."""
    maker = new.maker(reference)
    if maker is not None:
        repeats = maker.op.traits.get("broadcast")
        if repeats is None or not repeats(new.spec(maker.inputs[0]), *maker.attrs):
            return None
        return maker.inputs[0]
    array = new.value_of(reference)
    if array is None or not array.ndim or not array.size:
        return None
    one = one_value(array)
    return None if one is None else new.constant(one)
