"""Gradients on request: the tape's contract, function by function."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable

import numpy as np
import pytest

import minigrad as mg
from minigrad import autograd, func
from minigrad.errors import AnomalyError, DTypeError, GradientError, ShapeError


def leaf(data, dtype=mg.float64):
    return mg.tensor(data, dtype=dtype, requires_grad=True)


# -- backward ----------------------------------------------------------------------------------------


def test_backward_fills_leaves_and_accumulates():
    x = leaf([1.0, 2.0])
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]
    (x * 3.0).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]
    x.grad = None
    assert x.grad is None


def test_accumulation_does_not_share_memory():
    """x + y hands the same cotangent to both: their gradients are nevertheless separate."""
    x, y = leaf([1.0, 1.0]), leaf([1.0, 1.0])
    (x + y).backward(g := mg.ones(2, dtype=mg.float64))
    assert not np.shares_memory(x.grad.numpy(), y.grad.numpy())
    assert not np.shares_memory(x.grad.numpy(), g.numpy())
    x.grad.zero_()
    assert y.grad.tolist() == [1.0, 1.0]
    assert g.tolist() == [1.0, 1.0]
    (x + 0.0).backward(g)
    x.grad.mul_(5.0)
    assert g.tolist() == [1.0, 1.0]


def test_same_input_twice():
    x = leaf(3.0)
    (x * x + x + x).backward()
    assert x.grad.item() == 8.0


def test_leaf_itself():
    x = leaf(3.0)
    x.backward()
    assert x.grad.item() == 1.0


def test_non_scalar_needs_a_cotangent():
    x = leaf([1.0, 2.0])
    with pytest.raises(GradientError, match="shape \\(2,\\)"):
        (x * 2.0).backward()
    (x * 2.0).backward(mg.tensor([1.0, 10.0], dtype=mg.float64))
    assert x.grad.tolist() == [2.0, 20.0]
    with pytest.raises(ShapeError, match="cotangent"):
        (x * 2.0).backward(mg.ones(3))


def test_several_outputs_at_once():
    x = leaf([1.0, 2.0])
    autograd.backward([x.sum(), (x * x).sum()], [None, mg.tensor(2.0)])
    assert x.grad.tolist() == [5.0, 9.0]


def test_twice_needs_retain_graph():
    x = leaf(2.0)
    y = x.exp() * x
    y.backward(retain_graph=True)
    first = x.grad.item()
    y.backward()
    assert x.grad.item() == 2 * first
    with pytest.raises(GradientError, match="second time"):
        y.backward()


def test_backward_of_shared_part_twice_is_an_error():
    x = leaf(2.0)
    h = x.exp()
    (h * 2.0).backward()
    with pytest.raises(GradientError, match=r"retain_graph=True"):
        (h * 3.0).backward()


def test_inputs_restricts_accumulation():
    x, w = leaf(2.0), leaf(3.0)
    h = x * w
    (h * h).backward(inputs=[w])
    assert x.grad is None
    assert w.grad.item() == 2 * 6.0 * 2.0
    with pytest.raises(GradientError, match="does not require grad"):
        (x * w).backward(inputs=[mg.tensor(1.0)])


def test_create_graph_accumulates_a_differentiable_gradient():
    x = leaf(3.0)
    (x**3).backward(create_graph=True)
    assert x.grad.requires_grad
    (second,) = autograd.grad(x.grad, x)
    assert second.item() == 18.0


def test_no_gradient_flows_through_integers_and_comparisons():
    x = leaf([1.5, -2.5])
    assert not (x > 0).requires_grad
    assert not x.long().requires_grad
    assert not x.argmax().requires_grad
    with pytest.raises(GradientError, match="int64"):
        x.long().sum().backward()


# -- grad ------------------------------------------------------------------------------------------


def test_grad_accumulates_nothing():
    x, w = leaf(2.0), leaf(5.0)
    gx, gw = autograd.grad(x * w, [x, w])
    assert (gx.item(), gw.item()) == (5.0, 2.0)
    assert x.grad is None
    assert w.grad is None


def test_grad_of_intermediate_values():
    x = leaf(2.0)
    h = x * x
    y = h.exp()
    (gh,) = autograd.grad(y, h, retain_graph=True)
    gx, gh2 = autograd.grad(y, [x, h])
    assert gh.item() == gh2.item() == pytest.approx(np.exp(4.0))
    assert gx.item() == pytest.approx(4.0 * np.exp(4.0))


def test_unused_inputs():
    x, w = leaf(2.0), leaf([1.0, 2.0])
    with pytest.raises(GradientError, match=r"do not depend on input 1 of shape \(2,\)"):
        autograd.grad(x * x, [x, w])
    assert autograd.grad(x * x, [x, w], allow_unused=True)[1] is None
    assert autograd.grad(x * x, [x, w], materialize_grads=True)[1].tolist() == [0.0, 0.0]


def test_any_order():
    x = leaf(0.7)
    y = x.sin()
    for expected in (np.cos, lambda v: -np.sin(v), lambda v: -np.cos(v), np.sin, np.cos):
        (y,) = autograd.grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(expected(0.7), rel=1e-12)


def test_powers_at_zero_have_all_derivatives():
    for build in (lambda x: x**4, lambda x: x * x * x * x, lambda x: x.square().square(), lambda x: x**4.0):
        x = leaf(0.0)
        values = []
        y = build(x)
        for _ in range(4):
            (y,) = autograd.grad(y, x, create_graph=True)
            values.append(y.item())
        assert values == [0.0, 0.0, 0.0, 24.0]


def test_powers_with_tensor_exponents():
    """Zero to the zero, negative bases, and the mixed second derivative at exponent 0, which is 1/x."""
    x, p = leaf([0.0, 0.0, 0.0, -2.0, 3.0, 0.7]), leaf([0.0, 1.0, 2.0, 3.0, 0.0, 1.5])
    (gx,) = autograd.grad((x**p).sum(), x, create_graph=True)
    assert gx.tolist() == pytest.approx([0.0, 1.0, 0.0, 12.0, 0.0, 1.5 * 0.7**0.5])
    (gxx,) = autograd.grad(gx.sum(), x, retain_graph=True)
    assert gxx.tolist() == pytest.approx([0.0, 0.0, 2.0, -12.0, 0.0, 0.75 / 0.7**0.5])
    positive = [leaf([3.0, 0.7]), leaf([0.0, 1.5])]
    assert autograd.gradcheck(lambda a, b: a**b, positive)
    assert autograd.gradgradcheck(lambda a, b: a**b, positive)


def test_mixed_dtypes_give_each_input_its_own():
    x, w = leaf([1.0, 2.0], mg.float32), leaf([3.0, 4.0], mg.float64)
    y = x * w
    assert y.dtype == mg.float64
    gx, gw = autograd.grad(y.sum(), [x, w])
    assert gx.dtype == mg.float32
    assert gw.dtype == mg.float64


# -- hooks, retained gradients -------------------------------------------------------------------------


def test_hooks_see_and_replace_gradients():
    x = leaf(3.0)
    h = x * 2.0
    seen = []
    handle = h.register_hook(lambda g: seen.append(g.item()))
    doubling = h.register_hook(lambda g: g * 2.0)
    (h * 5.0).backward(retain_graph=True)
    assert seen == [5.0]
    assert x.grad.item() == 20.0
    handle.remove()
    handle.remove()
    doubling.remove()
    x.grad = None
    (h * 5.0 + x).backward()
    assert seen == [5.0]
    assert x.grad.item() == 11.0


def test_hook_on_a_leaf_runs_once_on_the_total():
    x = leaf(3.0)
    seen = []
    with x.register_hook(lambda g: seen.append(g.item())):
        (x * 2.0 + x * 5.0).backward()
    assert seen == [7.0]
    (x * 2.0).backward()
    assert seen == [7.0]


def test_hook_that_changes_the_spec_is_an_error():
    x = leaf([1.0, 2.0])
    h = x * 2.0
    h.register_hook(lambda g: g.sum())
    with pytest.raises(GradientError, match="hook of mul"):
        h.sum().backward()


def test_retain_grad_and_its_own_memory():
    x = leaf([1.0, 2.0])
    a, b = x * 1.0, x * 2.0
    a.retain_grad()
    b.retain_grad()
    (a + b).sum().backward()
    assert a.grad.tolist() == b.grad.tolist() == [1.0, 1.0]
    assert not np.shares_memory(a.grad.numpy(), b.grad.numpy())
    c = x * 3.0
    c.sum().backward()
    assert c.grad is None, "results keep no gradient unless asked to"
    with pytest.raises(GradientError, match="retain_grad"):
        mg.ones(2).retain_grad()


def test_post_accumulate_hook():
    x = leaf([1.0, 2.0])
    seen = []
    handle = x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.tolist()))
    (x * 3.0).sum().backward()
    (x * 3.0).sum().backward()
    assert seen == [[3.0, 3.0], [6.0, 6.0]]
    handle.remove()
    (x * 3.0).sum().backward()
    assert len(seen) == 2
    gc.disable()
    y = leaf([1.0])
    y.register_post_accumulate_grad_hook(print)
    alive = weakref.ref(y)
    del y
    gc.enable()
    assert alive() is None, "a hook is no cycle"
    with pytest.raises(GradientError, match="leaves"):
        (x * 1.0).register_post_accumulate_grad_hook(print)


# -- switches ---------------------------------------------------------------------------------------


def test_switches_nest_and_restore():
    x = leaf(2.0)
    with mg.no_grad():
        assert not (x * x).requires_grad
        with mg.enable_grad():
            assert (x * x).requires_grad
            with mg.inference_mode():
                assert not (x * x).requires_grad
                assert autograd.is_inference_mode_enabled()
        assert not mg.is_grad_enabled()
    assert (x * x).requires_grad
    with mg.set_grad_enabled(False):
        assert not (x * x).requires_grad
    with pytest.raises(ZeroDivisionError), mg.no_grad():
        raise ZeroDivisionError
    assert mg.is_grad_enabled()


def test_switches_decorate():
    x = leaf(2.0)

    @mg.no_grad()
    def one():
        return x * x

    @mg.no_grad
    def two():
        return x * x

    @mg.inference_mode()
    def three():
        return x * x

    @mg.enable_grad()
    def four():
        return x * x

    assert not any(f().requires_grad for f in (one, two, three))
    with mg.no_grad():
        assert four().requires_grad
    assert one.__name__ == "one"


def test_one_switch_can_be_reused_and_reentered():
    switch = mg.no_grad()
    with switch, switch:
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()
    with switch:
        assert not mg.is_grad_enabled()


def test_threads_have_their_own_switches_and_tapes():
    x = leaf(2.0)
    inside, results, errors = threading.Event(), [], []

    def other():
        try:
            inside.wait(5)
            results.append(mg.is_grad_enabled())
            w = leaf(3.0)
            for _ in range(200):
                (w * w).backward()
            results.append(w.grad.item())
        except Exception as error:  # pragma: no cover
            errors.append(error)

    threads = [threading.Thread(target=other) for _ in range(3)]
    for t in threads:
        t.start()
    with mg.no_grad():
        inside.set()
        assert not (x * x).requires_grad
        for t in threads:
            t.join()
    assert not errors
    assert results.count(True) == 3
    assert results.count(1200.0) == 3


def test_detach_and_requires_grad_():
    x = leaf([1.0, 2.0])
    y = x * 2.0
    d = y.detach()
    assert not d.requires_grad
    assert np.shares_memory(d.numpy(), y.detach().numpy())
    assert d.requires_grad_() is d
    assert d.is_leaf
    assert not y.is_leaf
    assert y.grad_fn.name == "mul"
    assert x.grad_fn is None
    with pytest.raises(GradientError, match="detach"):
        y.requires_grad_(False)
    with pytest.raises(DTypeError, match="int64"):
        mg.tensor([1, 2]).requires_grad_()
    x.requires_grad = False
    assert not (x * 2.0).requires_grad


# -- memory and depth --------------------------------------------------------------------------------


def test_chain_of_100_000_operations():
    """Forward, backward and deallocation, with a small stack: nothing recurses."""
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y * 1.0
    y.backward()
    assert x.grad.item() == 1.0
    del y
    z = x
    for _ in range(100_000):
        z = z.sin()
    del z  # not walked at all
    gc.collect()


def test_results_die_without_the_collector():
    """Nodes point to nodes and never to results: no cycle keeps memory alive."""
    gc.collect()
    gc.disable()
    try:
        x = leaf(np.ones(1000))
        y = x.exp()
        z = (y * y).sum()
        alive = weakref.ref(y)
        z.backward()
        del y, z
        assert alive() is None
    finally:
        gc.enable()


def test_memory_is_freed_as_backward_goes():
    n, depth = 100_000, 50
    x = leaf(np.ones(n))
    y = x
    for _ in range(depth):
        y = y.sin()  # keeps its input
    loss = y.sum()
    del y
    tracemalloc.start()
    loss.backward()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * n * 10, f"backward needed {peak / (8 * n):.1f} arrays on top"
    held = weakref.ref(loss)
    del loss
    assert held() is None


def test_only_what_rules_need_is_kept():
    n = 100_000
    x = leaf(np.ones(n))
    tracemalloc.start()
    y = x
    for _ in range(20):
        y = (y + 1.0).reshape(-1, 2).reshape(-1)  # keeps nothing
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * n * 4


# -- Function ---------------------------------------------------------------------------------------


class Exp(autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y


class Polar(autograd.Function):
    """Two float outputs, of different shapes, and one integer output."""

    @staticmethod
    def forward(ctx, x, w, power=1):
        ctx.save_for_backward(x, w)
        ctx.power = power
        return x * w, (x * x).sum(), x.argmax()

    @staticmethod
    def backward(ctx, g, s, _):
        x, w = ctx.saved_tensors
        assert ctx.power == 2
        return g * w + 2.0 * s * x, g * x


def test_function_and_its_second_derivative():
    x = leaf([0.3, -0.5])
    assert autograd.gradcheck(Exp.apply, [x])
    assert autograd.gradgradcheck(Exp.apply, [x]), "a saved output has a history"
    y = Exp.apply(x)
    assert y.grad_fn.name == "Exp"
    assert not Exp.apply(x.detach()).requires_grad
    with mg.no_grad():
        assert not Exp.apply(x).requires_grad


def test_function_with_several_outputs():
    x, w = leaf([0.3, -0.5, 1.0]), leaf([1.0, 2.0, 3.0])

    def both(a, b):
        return Polar.apply(a, b, power=2)[:2]

    assert autograd.gradcheck(both, [x, w])
    assert autograd.gradgradcheck(both, [x, w])
    first, second, index = Polar.apply(x, w, power=2)
    assert index.item() == 2
    assert not index.requires_grad
    second.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.detach().numpy())
    assert first.shape == (3,)


def test_function_saving_one_of_several_outputs():
    class SinCos(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            s, c = x.sin(), x.cos()
            ctx.save_for_backward(s, c)
            return s, c

        @staticmethod
        def backward(ctx, gs, gc):
            s, c = ctx.saved_tensors
            return gs * c - gc * s

    assert autograd.gradcheck(SinCos.apply, [leaf([0.3, 0.4])])
    assert autograd.gradgradcheck(SinCos.apply, [leaf([0.3, 0.4])])
    assert autograd.gradgradcheck(lambda x: SinCos.apply(x)[0], [leaf([0.3, 0.4])])


def test_function_non_differentiable_outputs():
    class Sorted(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y, step = x * 2.0, x.sign()
            ctx.mark_non_differentiable(step)
            return y, step

        @staticmethod
        def backward(ctx, g, _):
            return g * 2.0

    class Sign(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = x.sign()
            ctx.mark_non_differentiable(y)
            return y

    x = leaf([1.0, -2.0])
    y, step = Sorted.apply(x)
    assert y.requires_grad
    assert not step.requires_grad
    assert not Sign.apply(x).requires_grad


def test_function_arguments_without_gradient():
    class Scale(autograd.Function):
        @staticmethod
        def forward(ctx, x, factor, table):
            assert ctx.needs_input_grad == (True, False, False)
            ctx.factor = factor
            return x * factor

        @staticmethod
        def backward(ctx, g):
            return g * ctx.factor, None, None

    x = leaf([1.0, 2.0])
    Scale.apply(x, 3.0, {"a": 1}).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_function_notices_changes_of_what_it_saved():
    x = leaf([1.0, 2.0])
    w = x * 1.0
    y = Polar.apply(w, w, power=2)[0]
    w.mul_(2.0)
    with pytest.raises(GradientError, match=r"saved tensor.*changed in place"):
        y.sum().backward()
    e = Exp.apply(x)
    e.mul_(2.0)
    with pytest.raises(GradientError, match="changed in place"):
        e.sum().backward()


def test_function_frees_what_it_saved():
    x = leaf([1.0, 2.0])
    y = Exp.apply(x).sum()
    y.backward()
    with pytest.raises(GradientError, match="second time"):
        y.backward()


def test_function_mistakes_are_explained():
    def make(result):
        class Wrong(autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 1.0

            @staticmethod
            def backward(ctx, g):
                return result(g)

        return Wrong.apply(leaf([1.0, 2.0])).sum()

    for result, message in (
        (lambda g: (g, g), "2 gradients for 1 arguments"),
        (lambda g: g.sum(), "shape \\(\\) for argument 0 of shape \\(2,\\)"),
        (lambda g: 2.0, "returned a float"),
    ):
        with pytest.raises(mg.Error, match=message):
            make(result).backward()
    x = leaf([1.0], mg.float32)

    class Wide(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1.0

        @staticmethod
        def backward(ctx, g):
            return g.double()

    Wide.apply(x).sum().backward()
    assert x.grad.dtype == mg.float32


# -- anomalies ---------------------------------------------------------------------------------------


def test_anomaly_forward_names_the_first_operation_and_line():
    x = mg.tensor([1.0, 0.0], requires_grad=True)
    with autograd.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        x.log().exp()  # this line
    message = str(caught.value)
    assert message.startswith("log: the first Inf")
    assert "test_autograd.py" in message
    assert "# this line" in message


def test_anomaly_backward_names_the_forward_line():
    x = mg.tensor([1.0, 0.0], requires_grad=True)
    with autograd.detect_anomaly():
        y = x.sqrt()  # the culprit
        loss = y.sum()
        with pytest.raises(AnomalyError) as caught:
            loss.backward()
    message = str(caught.value)
    assert "gradient of sqrt" in message
    assert "# the culprit" in message


def test_nan_that_came_from_outside_is_not_blamed_on_an_operation():
    x = mg.tensor([float("nan"), 1.0], requires_grad=True)
    with autograd.detect_anomaly():
        (x * 2.0).sum().backward()


# -- checks -----------------------------------------------------------------------------------------


def test_gradcheck_arguments():
    with pytest.raises(GradientError, match="no input requires grad"):
        autograd.gradcheck(lambda x: x, [mg.ones(2, dtype=mg.float64)])
    with pytest.raises(DTypeError, match="float32, too coarse"):
        autograd.gradcheck(lambda x: x, [mg.ones(2, requires_grad=True)])
    assert autograd.gradcheck(lambda x: x.detach() * x, [leaf([2.0])], raise_exception=False) is False
    assert autograd.gradcheck(lambda x, n: x * n, [leaf([2.0]), 3])
    assert autograd.gradcheck(lambda x: (x.sin(), x.cos().sum()), leaf([2.0, 3.0]))


# -- functions of functions ------------------------------------------------------------------------------


def test_func_grad_nests():
    cube = lambda x: x**3  # noqa: E731
    x = mg.tensor(2.0, dtype=mg.float64)
    assert func.grad(cube)(x).item() == 12.0
    assert func.grad(func.grad(cube))(x).item() == 12.0
    assert func.grad(func.grad(func.grad(cube)))(x).item() == 6.0
    assert not func.grad(cube)(x).requires_grad


def test_func_grad_of_a_closure():
    """The inner gradient depends on a variable that is no argument of the inner function."""
    outer = func.grad(lambda x: func.grad(lambda y: x * y * y)(mg.tensor(3.0)))
    assert outer(mg.tensor(2.0)).item() == 6.0
    w = mg.tensor(5.0, requires_grad=True)
    g = func.grad(lambda x: x * x * w)(mg.tensor(2.0))
    g.backward()
    assert w.grad.item() == 4.0
    with mg.no_grad():
        assert not func.grad(lambda x: x * x * w)(mg.tensor(2.0)).requires_grad


def test_func_value_and_grad():
    parameters = {"w": mg.ones(2, dtype=mg.float64), "layers": [mg.tensor(2.0), (mg.tensor(3.0),)]}

    def loss(p, scale):
        total = (p["w"] * scale).sum() * p["layers"][0] + p["layers"][1][0] ** 2
        return total, {"n": 1}

    (value, aux), gradient = func.value_and_grad(loss, has_aux=True)(parameters, 3.0)
    assert value.item() == 21.0
    assert aux == {"n": 1}
    assert gradient["w"].tolist() == [6.0, 6.0]
    assert gradient["layers"][0].item() == 6.0
    assert gradient["layers"][1][0].item() == 6.0
    assert isinstance(gradient["layers"][1], tuple)
    assert not value.requires_grad


def test_func_argnums():
    f = lambda x, y: (x * y * y).sum()  # noqa: E731
    x, y = mg.tensor([1.0]), mg.tensor([3.0])
    assert func.grad(f, 1)(x, y).item() == 6.0
    gx, gy = func.grad(f, (0, 1))(x, y)
    assert (gx.item(), gy.item()) == (9.0, 6.0)
    with pytest.raises(mg.Error, match="argnums"):
        func.grad(f, 2)(x, y)
    with pytest.raises(mg.Error, match="scalar"):
        func.grad(lambda x: x * 2.0)(mg.ones(3))
    with pytest.raises(mg.Error, match="float"):
        func.grad(f)(1.0, y)
    assert func.grad(lambda x: mg.tensor(1.0))(x).tolist() == [0.0]


def test_func_vjp():
    x = mg.tensor([1.0, 2.0])
    y, pull = func.vjp(lambda x: (x * x, {"sum": x.sum()}), x)
    assert y[0].numpy().tolist() == [1.0, 4.0]
    (g,) = pull((mg.ones(2), {"sum": mg.tensor(10.0)}))
    assert g.numpy().tolist() == [12.0, 14.0]
    (again,) = pull((mg.zeros(2), {"sum": mg.tensor(1.0)}))
    assert again.tolist() == [1.0, 1.0]
    value, pull, aux = func.vjp(lambda x: (x.sum(), "aux"), x, has_aux=True)
    assert (value.item(), aux) == (3.0, "aux")
    with pytest.raises(mg.Error, match="cotangents"):
        pull(mg.ones(()), mg.ones(()))


def test_func_vjp_is_differentiable_in_its_cotangent():
    """J v from two sweeps: the derivative of u -> u^T J."""
    x, v = mg.tensor([0.3, 0.4], dtype=mg.float64), mg.tensor([1.0, -2.0], dtype=mg.float64)
    y, pull = func.vjp(lambda x: x.sin(), x)
    u = mg.zeros(2, dtype=mg.float64, requires_grad=True)
    (uj,) = pull(u)
    (jv,) = autograd.grad(uj, u, v)
    np.testing.assert_allclose(jv.numpy(), np.cos(x.numpy()) * v.numpy())
    assert y.shape == (2,)


def _own(t: mg.Tensor, *others: object) -> None:
    """The gradient of t is contiguous, writable, and shares memory with nothing given."""
    assert t.grad is not None
    g = t.grad.numpy()
    assert g.flags.c_contiguous
    assert g.flags.writeable
    for other in others:
        assert not np.shares_memory(g, np.asarray(other))


@pytest.mark.parametrize("shape", [(3,), (120, 130)])
def test_gradients_are_taken_over_only_where_nobody_else_has_them(shape: tuple[int, ...]) -> None:
    kept: list[mg.Tensor] = []
    x, w, b, plain = (mg.tensor(np.full(shape, v), requires_grad=True) for v in (1.0, 2.0, 3.0, 4.0))
    x.register_hook(lambda g: kept.append(g))
    y = (x + w) * b  # one cotangent for x and w; the gradient of b is x + w, times ones
    y.retain_grad()
    cotangent = mg.ones(shape, dtype=mg.float64)
    (y + plain).backward(cotangent, retain_graph=True)
    every = [t.grad.numpy() for t in (x, w, b, plain, y) if t.grad is not None]
    assert len(every) == 5
    for i, t in enumerate((x, w, b, plain)):
        others = [g for j, g in enumerate(every) if j != i]
        _own(
            t, *others, cotangent.numpy(), kept[0].numpy(), *(u.detach().numpy() for u in (x, w, b, plain, y))
        )
    np.testing.assert_array_equal(every[2], np.full(shape, 3.0))


def test_the_gradient_a_rule_has_kept_is_copied() -> None:
    buffer = np.full(5, 7.0)

    class Kept(mg.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: mg.Tensor) -> mg.Tensor:
            return x * 1.0

        @staticmethod
        def backward(ctx: object, g: mg.Tensor) -> mg.Tensor:
            return mg.from_numpy(buffer)

    x = mg.tensor(np.zeros(5), requires_grad=True)
    Kept.apply(x).sum().backward()
    _own(x, buffer)


@pytest.mark.parametrize(
    "view", [lambda x: x.reshape(6, 2), lambda x: x.T, lambda x: x[1:], lambda x: x.expand(5, 3, 4)]
)
def test_the_gradient_through_a_view_is_its_own_memory(view: Callable[[mg.Tensor], mg.Tensor]) -> None:
    x = mg.tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
    y = view(x)
    g = mg.ones(y.shape, dtype=mg.float64)
    y.backward(g)
    _own(x, g.numpy(), x.detach().numpy())


def test_a_gradient_that_nobody_else_has_is_not_copied() -> None:
    x = mg.ones(1000, requires_grad=True)
    made: list[int] = []

    def remember(g: mg.Tensor) -> None:
        made.append(g.numpy().__array_interface__["data"][0])

    x.register_hook(remember)
    (x * 2.0).sum().backward()
    assert x.grad is not None
    assert x.grad.numpy().__array_interface__["data"][0] == made[0]


def test_grad_of_batched_cotangents() -> None:
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    y = mg.stack([w.sum(), (w * w).sum()])
    (rows,) = autograd.grad(y, w, mg.eye(2), is_grads_batched=True)
    assert rows.tolist() == [[1.0, 1.0], [2.0, 4.0]]
    with pytest.raises(ShapeError, match="one first dimension"):
        autograd.grad(w.sum(), w, mg.tensor(1.0), is_grads_batched=True)
    with pytest.raises(mg.Error, match="only_inputs"):
        autograd.grad(w.sum(), w, only_inputs=False)


def test_function_with_a_setup_of_its_own() -> None:
    class Scaled(autograd.Function):
        @staticmethod
        def forward(x, k):
            return x * k

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.k = inputs[1]
            ctx.save_for_backward(output)

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            return g * ctx.k + 0.0 * y, None

    x = mg.ones(3, requires_grad=True)
    Scaled.apply(x, 3.0).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0, 3.0]
