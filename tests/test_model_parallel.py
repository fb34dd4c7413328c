"""Tensor and pipeline parallel: whatever the number of ranks, one process computes the same."""

from __future__ import annotations

from itertools import chain, combinations, pairwise

import model_parallel_workers as work
import numpy as np
import pytest

import minigrad as mg
from minigrad import distributed as dist
from minigrad import nn
from minigrad.distributed.engine import Alone
from minigrad.distributed.pipeline import _balanced

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="the C kernels are not built")


@pytest.fixture(scope="module")
def found():
    """What 1, 2 and 4 ranks compute: {ranks: a dictionary for each rank}."""
    return {1: [work.everything()], 2: dist.run(work.everything, 2), 4: dist.run(work.everything, 4)}


def difference(a, b):
    assert a.keys() == b.keys()
    return max(float(np.abs(a[k] - b[k]).max() / np.abs(b[k]).max()) for k in b)


def test_collectives_groups_and_their_gradients(found):
    for ranks in found.values():
        assert [r["wrong"] for r in ranks] == [[]] * len(ranks)


@pytest.mark.parametrize(
    ("case", "limit"),
    [
        ("tensor", 1e-12),
        ("tensor captured", 1e-12),
        ("tensor float32", 2e-5),
        ("tensor and data", 1e-12),
        ("transformer", 1e-12),
        ("transformer captured", 1e-12),
        ("batch norm", 1e-12),
        ("batch norm captured", 1e-12),
    ],
)
@pytest.mark.parametrize("size", [2, 4])
def test_tensor_parallel_equals_one_process(found, case, limit, size):
    """After 50 steps, with clipping, dropout and padding; and all ranks have the same bits."""
    for rank in found[size]:
        assert difference(rank[case], found[1][0][case]) <= limit
        assert all((rank[case][k] == found[size][0][case][k]).all() for k in rank[case])


def test_one_rank_equals_a_model_that_is_not_cut(found):
    assert difference(found[1][0]["tensor captured"], found[1][0]["tensor"]) <= 1e-12
    assert difference(found[1][0]["transformer captured"], found[1][0]["transformer"]) <= 1e-12


@pytest.mark.parametrize(
    ("case", "limit"),
    [
        ("gpipe", 1e-12),
        ("1f1b", 1e-12),
        ("1f1b op by op", 1e-12),
        ("1f1b float32", 2e-5),
        ("pipeline and data", 1e-12),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_pipelines_equal_one_process(found, case, limit, size):
    """After 50 steps of micro-batches of uneven sizes, the stages together are the model of one process."""
    if size == 1 and case == "pipeline and data":
        return
    state = {name: value for rank in found[size] for name, value in rank[case][0].items()}
    clip = None if case == "pipeline and data" else 0.5
    assert difference(state, work.plainly("float32" if "32" in case else "float64", clip)) <= limit


def test_a_stage_that_cannot_be_captured_says_so_once(found):
    """And computes the same; the others are captured as before."""
    for ranks in found.values():
        for rank, r in enumerate(ranks):
            (grads, seen, compiled), (other, notices, still) = r["odd stages"]
            assert difference(other, grads) <= 1e-12
            assert (seen, compiled, still) == ([], True, rank > 0)
            assert len(notices) == (rank == 0)
            if rank == 0:
                assert f"stage 0 of {len(ranks)} runs uncompiled, because it cannot be captured" in notices[0]
                assert "model_parallel_workers.py" in notices[0]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_both_schedules_give_the_same_bits(found, size):
    for rank in found[size]:
        (a, shown_a, losses_a), (b, shown_b, losses_b) = rank["gpipe"], rank["1f1b"]
        assert all((a[k] == b[k]).all() for k in a)
        assert losses_a == losses_b
        assert (shown_a is None) == (shown_b is None)
    np.testing.assert_allclose(found[size][-1]["1f1b"][1], found[1][0]["1f1b"][1], rtol=1e-10)
    assert found[size][-1]["1f1b"][1].shape == (work.BATCH, 4)


def test_messages_larger_than_a_mailbox(found):
    for ranks in (found[2], found[4]):
        mg.manual_seed(0)
        model = nn.Sequential(*[nn.Linear(96, 96) for _ in ranks]).double()
        x = mg.tensor(work.rows(1, 5 * 600, 96))
        nn.functional.mse_loss(model(x), x).backward()
        together = {name: g for r in ranks for name, g in r["large"].items()}
        assert difference(together, {n: p.grad.numpy() for n, p in model.named_parameters()}) <= 1e-12


def test_what_was_saved_together_loads_anywhere(found):
    for ranks in found.values():
        for other, alone in (r["reload"] for r in ranks):
            assert other == 0.0
            assert alone <= 1e-14


def test_the_same_bits_from_run_to_run(found):
    for rank, (tensor, pipe) in enumerate(dist.run(work.again, 2)):
        first = found[2][rank]
        assert all((tensor[k] == first["tensor float32 captured"][k]).all() for k in tensor)
        assert all((pipe[0][k] == first["1f1b float32"][0][k]).all() for k in pipe[0])


# -- splitting ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("costs", "parts", "cuts"),
    [
        ([1, 1, 1, 1], 2, [0, 2, 4]),
        ([5, 1, 1, 1], 2, [0, 1, 4]),
        ([1, 2, 3, 4, 5], 3, [0, 3, 4, 5]),
        ([0, 0, 0], 3, [0, 1, 2, 3]),
        ([7], 1, [0, 1]),
    ],
)
def test_costs_are_balanced(costs, parts, cuts):
    assert _balanced(np.array(costs, float), parts) == cuts


def test_no_cut_is_better():
    rng = np.random.default_rng(0)
    for _ in range(30):
        costs, parts = rng.integers(0, 20, 7).astype(float), int(rng.integers(1, 5))
        cuts = _balanced(costs, parts)
        assert len(cuts) == parts + 1
        assert (np.diff(cuts) > 0).all()

        def worst(at, costs=costs):
            return max(costs[a:b].sum() for a, b in pairwise(at))

        assert worst(cuts) == min(worst([0, *c, 7]) for c in combinations(range(1, 7), parts - 1))


def test_all_ranks_cut_alike(found):
    assert found[2][0]["split"] == found[2][1]["split"]
    assert list(chain(*found[2][0]["split"])) == list(chain(*found[1][0]["split"]))


# -- mistakes -----------------------------------------------------------------------------------------------


class Two(Alone):
    """A group of two that is asked nothing."""

    rank, size, ranks = 0, 2, (0, 1)


def net(*sizes):
    return nn.Sequential(*[nn.Linear(a, b) for a, b in pairwise(sizes)])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda: dist.ColumnParallelLinear(4, 7, group=Two()),
            "out_features is 7, which 2 ranks do not divide",
        ),
        (lambda: dist.RowParallelLinear(5, 4, group=Two()), "in_features is 5, which 2 ranks do not divide"),
        (lambda: dist.VocabParallelEmbedding(11, 4), None),
        (
            lambda: dist.VocabParallelEmbedding.from_embedding(nn.Embedding(11, 4), Two()),
            "num_embeddings is 11, which 2",
        ),
        (
            lambda: dist.ParallelMultiheadAttention.from_attention(nn.MultiheadAttention(9, 3), Two()),
            "num_heads is 3, which 2 ranks",
        ),
        (lambda: dist.VocabParallelEmbedding(4, 2)(mg.tensor([4])), "index 4 of 4 embeddings"),
        (
            lambda: dist.RowParallelLinear(4, 2)(mg.zeros(3, 5)),
            r"shape \(3, 5\) where the last size is to be 4",
        ),
        (lambda: dist.ParallelDropout(1.5), "a probability of 1.5"),
        (lambda: dist.parallelize_module(net(2, 2)), "does not split by itself; pass a plan"),
        (
            lambda: dist.parallelize_module(net(2, 2), plan={"9": dist.ColwiseParallel()}),
            "'9', which is no module",
        ),
        (
            lambda: dist.parallelize_module(net(2, 2), plan={"0": dist.HeadwiseParallel()}),
            "0 is a Linear, which",
        ),
        (lambda: dist.parallelize_module(net(2, 2), plan={"0": "column"}), "the plan of '0' is a str"),
        (lambda: dist.split_module(nn.Linear(2, 2), 1), "a Linear does not say in which order"),
        (lambda: dist.split_module(net(2, 2, 2), 3), "2 layers for 3 stages"),
        (lambda: dist.split_module(net(2, 2, 2), 2, at=["5"]), "there is no layer '5'"),
        (lambda: dist.split_module(net(2, 2, 2), 2, at=[0]), "name 1 layers in rising order"),
        (lambda: dist.split_module(net(2, 2, 2), 2, costs=[1]), "for 2 layers; pass a number for each"),
        (lambda: dist.split_module(net(2, 2, 2), 2, costs=[1, 1], at=[1]), "several of at, costs"),
        (lambda: dist.PipelineStage(net(2, 2), 0, 3), "3 stages on 1 ranks"),
        (lambda: dist.ScheduleGPipe(dist.PipelineStage(net(2, 2), 0, 1), 0), "n_microbatches is 0"),
        (
            lambda: dist.ScheduleGPipe(dist.PipelineStage(net(2, 2), 0, 1), 1).step(mg.zeros(1, 2)),
            "stage 0 of 1 has no loss_fn",
        ),
        (lambda: dist.new_group([0, 0]), "name each rank once"),
        (lambda: dist.new_group([1]), "rank 1 of a group of 1"),
        (lambda: dist.init_device_mesh("cpu", (2, 2)), "a table of 2 x 2 for 1 ranks"),
        (lambda: dist.init_device_mesh("cuda", (1,)), "a device 'cuda'"),
        (lambda: dist.init_device_mesh("cpu", (1,)).get_group("data"), "there is no dimension 'data'"),
    ],
)
def test_wrong_calls_say_so(call, match):
    if match is None:
        call()
        return
    with pytest.raises(mg.Error, match=match):
        call()


def test_ranks_that_differ_are_told():
    expected = {
        "models": "build the same model on all ranks",
        "groups": "asks for a group of ranks",
        "order": "stages follow the ranks of the group",
        "counts": "the stages have [2, 3] micro-batches",
        "micro-batches": "4 micro-batches of a batch of shape (3, 2)",
        "sides": "pass the batch to the first stage",
    }
    for messages in dist.run(work.mistakes, 2):
        assert messages.keys() == expected.keys()
        assert [name for name, part in expected.items() if part not in messages[name]] == []


def test_a_failure_ends_waits_in_all_groups():
    with pytest.raises(dist.DistributedError, match=r"(?s)rank 2 of 3 raised.*KeyError: 'planted'"):
        dist.run(work.fail_in_a_part, 3)
