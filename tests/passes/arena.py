"""Running a graph in the memory that a plan gives it: what an executor in C will do, slowly.

Every step computes all that it stores before it stores anything for a lane, as a loop over blocks does.
"""

from __future__ import annotations

import math

import numpy as np

from minigrad.mode import current
from minigrad.passes.fuse import stored


def run_in_arena(graph, plan, arrays):
    """The outputs; updates are written into `arrays`."""
    arena = np.full(plan.peak + 64, 0xA5, np.uint8)
    first = graph.first_node
    memory = [*arrays, *graph.constants]
    values = dict(enumerate(memory))
    backend = current().backend

    def home(v):
        spec = graph.spec(v)
        if v in plan.direct:
            return arrays[plan.direct[v]]
        if v in plan.offset:
            size = math.prod(spec.shape) * spec.dtype.itemsize
            return arena[plan.offset[v] : plan.offset[v] + size].view(spec.dtype).reshape(spec.shape)
        return np.empty(spec.shape, spec.dtype)

    for group in plan.steps:
        single = group.stop - group.start == 1
        keep = set(stored(graph, group)) if not single else {first + group.start}
        local = {}
        for position in range(group.start, group.stop):
            node, v = graph.nodes[position], first + position
            inputs = [local.get(i, values.get(i)) for i in node.inputs]
            y = np.asarray(backend[node.op](*inputs, *node.attrs))
            if v in plan.views:
                values[v] = y
                continue
            if v in keep:  # in the order of the program, and seen by later steps where it lies
                place = home(v)
                place[...] = y
                values[v] = y = place
            local[v] = y
    outputs = [np.array(values[v]) for v in graph.outputs]
    rest = [(t, np.array(values[v])) for t, v in graph.updates if plan.direct.get(v) != t]
    for target, value in rest:
        arrays[target][...] = value
    return outputs
