"""Transfer: what was learned for one task, carried to another.

The first layers of a network that has seen enough find edges, strokes and textures that serve other tasks as
well (Yosinski et al. 2014).  With few examples it is better to keep them than to learn them again:

    report = transfer.load_partial(model, "other_task.safetensors")   what fits, and what did not
    transfer.replace_head(model, 5)                                   as many outputs as the new task has
    transfer.freeze(model, "0", "3")                                  layers that stay as they are
    optimizer = optim.AdamW(transfer.parameter_groups(model, lr=1e-3, decay=0.5))

    >>> import minigrad as mg
    >>> from minigrad import nn, transfer
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 10))
    >>> transfer.freeze(model, "0")
    ['0.weight', '0.bias']
    >>> head = transfer.replace_head(model, 5)
    >>> model(mg.ones(2, 8)).shape, sum(p.numel() for p in model.parameters() if p.requires_grad)
    ((2, 5), 85)

Module by module: `freezing` (names, gradual unfreezing, rates by depth), `loading` (weights that fit in
part, heads, features computed once), `lora` (low-rank adapters, merged and unmerged).

References: Yosinski et al. 2014, "How transferable are features in deep neural networks?"
(arXiv:1411.1792); Howard & Ruder 2018, "Universal language model fine-tuning" (1801.06146: rates by
depth, gradual unfreezing); Hu et al. 2021, "LoRA" (2106.09685).  Left out: prompt and prefix tuning.
"""

from .freezing import GradualUnfreezing, freeze, frozen, parameter_groups, unfreeze
from .loading import LoadReport, extract, load_partial, replace_head
from .lora import LoRA, add_lora, lora_state_dict, merge_lora, unmerge_lora

__all__ = [
    "GradualUnfreezing",
    "LoRA",
    "LoadReport",
    "add_lora",
    "extract",
    "freeze",
    "frozen",
    "load_partial",
    "lora_state_dict",
    "merge_lora",
    "parameter_groups",
    "replace_head",
    "unfreeze",
    "unmerge_lora",
]
