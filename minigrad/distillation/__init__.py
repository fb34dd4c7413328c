"""Distillation: a small network learns what a large one knows, not only what the labels say.

A label says "this is a 7".  A trained network says "this is a 7, a bit like a 1, and nothing like an 8":
its probabilities over the wrong classes tell how it generalises (Hinton's *dark knowledge*), and they
are a far richer target than the label.  At temperature T the probabilities of scores z are

    p_i(T) = exp(z_i / T) / sum_j exp(z_j / T)

which for larger T brings the small ones out.  The student learns a mixture of both,

    loss = alpha T^2 KL(p_teacher(T) || p_student(T)) + (1 - alpha) cross_entropy(labels),

where T^2 keeps the soft gradients, which shrink as 1/T^2, in proportion (Hinton et al. 2015, section 2).

    >>> import minigrad as mg
    >>> teacher = mg.tensor([[4.0, 2.0, 0.0]])
    >>> teacher.softmax(1), (teacher / 4.0).softmax(1)
    (tensor([[0.8668, 0.1173, 0.0159]]), tensor([[0.5065, 0.3072, 0.1863]]))
    >>> soft_target_loss(teacher, teacher, temperature=4.0).item()
    0.0

The short way is one call, `distill(teacher, student, (x, y), epochs=20)`; `Distiller` is the loop behind
it, a `Trainer` whose loss can also match layers inside: hints through a learned adapter (FitNets), attention
maps, relations between the examples of a batch.  `Ensemble` makes one teacher of many, `mutual` lets
students teach each other, `born_again` trains generation after generation from the last, and
`cache_outputs` asks the teacher once and keeps the answers in a file.  A student that was prepared for
quantization-aware training is a module like any other, and learns in the same way.

Module by module: `losses` (what is compared), `teachers` (ensembles, answers kept on disk), `distiller`
(the loop), `families` (mutual learning and generations).

References: Hinton, Vinyals & Dean 2015, "Distilling the knowledge in a neural network"
(arXiv:1503.02531); Romero et al. 2015, "FitNets" (1412.6550); Zagoruyko & Komodakis 2017, "Paying more
attention to attention" (1612.03928); Park et al. 2019, "Relational knowledge distillation" (1904.05068);
Zhang et al. 2018, "Deep mutual learning" (1706.00384); Furlanello et al. 2018, "Born-again neural
networks" (1805.04770).  Left out: distillation without data, of generated sequences, and by gradients.
"""

from ..nn.features import Features
from .distiller import Distiller, Match, distill
from .families import MutualTrainer, born_again, mutual
from .losses import (
    attention_map,
    attention_transfer_loss,
    hint_loss,
    relational_angle_loss,
    relational_distance_loss,
    soft_target_loss,
)
from .schedules import Cosine, Linear
from .teachers import CachedDataset, Ensemble, cache_outputs

__all__ = [
    "CachedDataset",
    "Cosine",
    "Distiller",
    "Ensemble",
    "Features",
    "Linear",
    "Match",
    "MutualTrainer",
    "attention_map",
    "attention_transfer_loss",
    "born_again",
    "cache_outputs",
    "distill",
    "hint_loss",
    "mutual",
    "relational_angle_loss",
    "relational_distance_loss",
    "soft_target_loss",
]
