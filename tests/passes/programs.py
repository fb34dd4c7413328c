"""Random programs for the passes: elementwise, broadcasts, reductions, movement, products, indexing, sharing,
dead code, several outputs, state that is updated, gradients."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import minigrad as mg
from minigrad import autograd
from minigrad.trace import capture

ROWS, COLUMNS = 3, 4

UNARY = {
    "tanh": lambda x: x.tanh(),
    "relu twice": lambda x: x.relu().relu(),
    "neg twice": lambda x: x.neg().neg(),
    "neg": lambda x: -x,
    "unit": lambda x: x * 1.0 + 0.0,
    "minus zero": lambda x: x - 0.0,
    "scale": lambda x: x * 0.7 + 0.1,
    "constants": lambda x: x * (mg.tensor(2.0, dtype=x.dtype).sqrt() - 1.0),
    "double transpose": lambda x: x.T.T,
    "transpose": lambda x: x.T.sin().T,
    "flip twice": lambda x: x.flip(0).flip(0),
    "reshapes": lambda x: x.reshape(-1).reshape(2, 6).reshape(4, 3).reshape(ROWS, COLUMNS),
    "clone": lambda x: x.clone().contiguous(),
    "expand": lambda x: x * x.sum(0, keepdim=True).tanh().expand(ROWS, COLUMNS),
    "ones": lambda x: x * mg.ones_like(x) + mg.zeros_like(x),
    "softmax": lambda x: x.softmax(1),
    "log softmax": lambda x: x.log_softmax(0).tanh(),
    "norm": lambda x: (x - x.mean(1, keepdim=True)) / (1.0 + x.var(1, keepdim=True)),
    "rows": lambda x: x - x.mean(0, keepdim=True),
    "whole": lambda x: x / (1.0 + x.square().sum()),
    "amax": lambda x: x - x.amax(1, keepdim=True),
    "cumsum": lambda x: x.cumsum(1).tanh(),
    "pick": lambda x: x[[2, 0, 0]],
    "slice": lambda x: mg.cat([x[:, 1:], x[:, :1]], 1),
    "where": lambda x: mg.where(x > 0.1, x, x * 0.5),
    "clamp": lambda x: x.clamp(-1.0, 1.0),
    "tril": lambda x: mg.tril(mg.tril(x)),
    "cast": lambda x: x.double().float().to(x.dtype),
    "same": lambda x: x.exp() / (1.0 + x.exp()),
    "in place": lambda x: x.clone().mul_(0.5).add_(0.25),
    "set": lambda x: _set(x),
    "dead": lambda x: (x.exp().sin(), x)[1],
}
BINARY = {
    "add": lambda x, w: x + w,
    "sub": lambda x, w: x - w,
    "mul": lambda x, w: x * w,
    "div": lambda x, w: x / (2.0 + w.sin()),
    "maximum": lambda x, w: mg.maximum(x, x) + mg.maximum(x, w),
    "matmul": lambda x, w: (x @ w.T @ x).tanh(),
    "layer": lambda x, w: ((x @ w.T + 1.0).relu() @ w).tanh(),
    "transposed product": lambda x, w: (
        (w @ x.T).T.sum(1, keepdim=True).tanh() * mg.ones(1, COLUMNS, dtype=x.dtype)
    ),
    "row": lambda x, w: x + w[0],
    "column": lambda x, w: x * w[:, :1],
    "stack": lambda x, w: mg.stack([x, w]).mean(0),
    "compare": lambda x, w: (x > w).to(x.dtype) * x,
}


def _set(x):
    y = x.clone()
    y[0] = y[1] * 2.0
    y[:, 1] -= 0.5
    return y


@st.composite
def programs(draw):
    """Steps (name, operand numbers), the values returned, whether with gradients, whether with updates."""
    steps = []
    count = draw(st.integers(1, 9))
    for position in range(count):
        last = position + 2  # values: two inputs and one state, then one a step
        pick = st.integers(max(0, last - 4), last)
        if draw(st.booleans()):
            steps.append((draw(st.sampled_from(sorted(UNARY))), draw(pick)))
        else:
            steps.append((draw(st.sampled_from(sorted(BINARY))), draw(pick), draw(st.integers(0, last))))
    returned = draw(st.lists(st.integers(0, count + 2), min_size=1, max_size=3))
    return steps, tuple(returned), draw(st.booleans()), draw(st.booleans())


def values(steps, x, w, state):
    """Run the steps."""
    found = [x, w, state]
    for name, *operands in steps:
        table = UNARY if len(operands) == 1 else BINARY
        found.append(table[name](*(found[i] for i in operands)))
    return found


class Case:
    """A program with its inputs: captured, and as the eager function to compare with."""

    def __init__(self, program, dtype, seed=0):
        self.steps, self.returned, self.gradients, self.updates = program
        rng = np.random.default_rng(seed)
        self.arrays = [rng.normal(size=(ROWS, COLUMNS)).astype(dtype) for _ in range(3)]
        self.state = mg.tensor(self.arrays[2])
        self.momentum = mg.zeros(ROWS, COLUMNS, dtype=dtype)

    def tensors(self):
        return [mg.tensor(a, requires_grad=self.gradients) for a in self.arrays[:2]]

    def function(self, x, w):
        found = values(self.steps, x, w, self.state)
        # a reshaped tensor may not be used after a change of what it was made of
        outputs = [found[i] * 1.0 if self.updates else found[i] for i in self.returned]
        if self.gradients:
            loss = sum((y.square() + 0.1 * y).mean() for y in outputs)
            loss = loss + (x * w).sum() * 0.1
            gx, gw = autograd.grad(loss, [x, w])
            outputs = [loss, gx, gw, *outputs]
        if self.updates:
            last = found[-1].detach()
            self.momentum.assign(self.momentum * 0.9 + last)
            self.state.assign(self.state - 0.1 * self.momentum)
        return [y.detach() for y in outputs]

    def eager(self):
        """Outputs, and the state afterwards; the state is put back."""
        outputs = [y.numpy().copy() for y in self.function(*self.tensors())]
        after = [self.state.numpy().copy(), self.momentum.numpy().copy()]
        self.state.assign(self.arrays[2])
        self.momentum.fill_(0.0)
        return outputs, after

    def captured(self):
        return capture(self.function, tuple(self.tensors()), {})

    def inputs(self, captured):
        """Arrays for the graph's inputs, of their own."""
        arrays = [a.copy() for a in self.arrays[:2]]
        for s in captured.state:
            arrays.append(s.tensor()._array.copy())
        return arrays


def close(a, b, dtype):
    """Whether two results are the same up to the order in which kernels add up."""
    tolerance = 2e-4 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
