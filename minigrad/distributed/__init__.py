"""Training on several processes: each has a model of its own and a part of every batch.

Data parallelism (the name is that of Valiant 1990's "bulk synchronous" steps, applied to SGD): rank r
computes the gradient of the mean loss over its n_r examples, and the gradient over the whole batch is the
weighted mean

    g = sum over r of n_r g_r / sum over r of n_r

so with equal parameters and the same g, all ranks make the same step, and stay equal without ever
exchanging parameters.

    def train():
        model = mg.distributed.DistributedDataParallel(make_model())
        ...                                  # as in one process, on this rank's examples

    if __name__ == "__main__":
        mg.distributed.run(train, nprocs=2)

`fit(..., workers=2)` of `minigrad.keras` and `minigrad.training` do all of this by themselves (`crew`).

What one step costs beside the computing is a reduction of as many numbers as the model has parameters.
Processes on one machine share memory, so that is a few passes over the gradients
(`csrc/distributed/group.c`); on several machines they talk through MPI (`mpi`).

=========================  ========================================================================
`run`, `launch`            start the processes and watch over them (`launching`)
`all_reduce`, ...          what they do together (`group`, `collectives`), by an engine (`engine`, `mpi`)
`DistributedDataParallel`  the model whose gradients are averaged (`parallel`)
`DistributedSampler`       which examples a rank sees (`sampler`)
`parallelize_module`       layers of which each rank has a part (`tensor_parallel`)
`split_module`, ...        ranks that have some of the layers (`pipeline`)
`new_group`                groups of some of the ranks, and tables of them (`mesh`)
`timeline`                 what each rank does with its time (`timeline`)
`project`, `simulate`      how many ranks would pay, here and elsewhere (`planning`, `schedules`)
=========================  ========================================================================

    >>> get_world_size()
    1
"""

from typing import Any

from .collectives import (
    all_gather_into_tensor,
    all_gather_object,
    all_to_all,
    all_to_all_single,
    broadcast_object_list,
    gather,
    gather_object,
    reduce_scatter_tensor,
    scatter,
    scatter_object_list,
)
from .engine import DistributedError
from .group import (
    ReduceOp,
    Work,
    all_gather,
    all_reduce,
    average,
    barrier,
    broadcast,
    destroy_process_group,
    get_backend,
    get_global_rank,
    get_group_rank,
    get_process_group_ranks,
    get_rank,
    get_world_size,
    init_process_group,
    is_available,
    is_initialized,
    monitored_barrier,
    new_group,
    recv,
    reduce,
    reduce_scatter,
    send,
)
from .launching import run
from .mesh import DeviceMesh, init_device_mesh
from .parallel import DistributedDataParallel
from .pipeline import PipelineStage, Schedule1F1B, ScheduleGPipe, split_module
from .planning import Plan, project, simulate
from .sampler import DistributedSampler
from .tensor_parallel import (
    ColumnParallelLinear,
    ColwiseParallel,
    HeadwiseParallel,
    ParallelDropout,
    ParallelMultiheadAttention,
    RowParallelLinear,
    RowwiseParallel,
    VocabParallelEmbedding,
    full_state_dict,
    load_full_state_dict,
    parallelize_module,
)
from .timeline import Timeline, timeline

#: Names of torch.distributed that are not here, and why.
_MISSING = {
    **dict.fromkeys(
        ("isend", "irecv", "batch_isend_irecv", "P2POp"),
        "a rank would have to move the message itself, later: use send and recv, or all_to_all",
    ),
    **dict.fromkeys(
        ("Store", "TCPStore", "FileStore", "HashStore", "PrefixStore"),
        "ranks meet by what has started them: use broadcast_object_list to tell each other something",
    ),
    "rpc": "ranks call each other's functions nowhere: use collectives, or send and recv",
    "fsdp": "parameters are not sharded: use parallelize_module, or a pipeline",
    "spawn": "it is called run, and returns what the functions return",
}


def __getattr__(name: str) -> Any:
    if name in _MISSING:
        raise AttributeError(f"minigrad.distributed has no {name}: {_MISSING[name]}", name=name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)


__all__ = [
    "ColumnParallelLinear",
    "ColwiseParallel",
    "DeviceMesh",
    "DistributedDataParallel",
    "DistributedError",
    "DistributedSampler",
    "HeadwiseParallel",
    "ParallelDropout",
    "ParallelMultiheadAttention",
    "PipelineStage",
    "Plan",
    "ReduceOp",
    "RowParallelLinear",
    "RowwiseParallel",
    "Schedule1F1B",
    "ScheduleGPipe",
    "Timeline",
    "VocabParallelEmbedding",
    "Work",
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_reduce",
    "all_to_all",
    "all_to_all_single",
    "average",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "destroy_process_group",
    "full_state_dict",
    "gather",
    "gather_object",
    "get_backend",
    "get_global_rank",
    "get_group_rank",
    "get_process_group_ranks",
    "get_rank",
    "get_world_size",
    "init_device_mesh",
    "init_process_group",
    "is_available",
    "is_initialized",
    "load_full_state_dict",
    "monitored_barrier",
    "new_group",
    "parallelize_module",
    "project",
    "recv",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "run",
    "scatter",
    "scatter_object_list",
    "send",
    "simulate",
    "split_module",
    "timeline",
]
