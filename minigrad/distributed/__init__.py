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
`all_reduce`, ...          what they do together (`group`), by an engine (`engine`, `mpi`)
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

from .engine import DistributedError
from .group import (
    ReduceOp,
    all_gather,
    all_reduce,
    average,
    barrier,
    broadcast,
    destroy_process_group,
    get_global_rank,
    get_group_rank,
    get_process_group_ranks,
    get_rank,
    get_world_size,
    init_process_group,
    is_available,
    is_initialized,
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
    "all_gather",
    "all_reduce",
    "average",
    "barrier",
    "broadcast",
    "destroy_process_group",
    "full_state_dict",
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
    "new_group",
    "parallelize_module",
    "project",
    "recv",
    "reduce",
    "reduce_scatter",
    "run",
    "send",
    "simulate",
    "split_module",
    "timeline",
]
