"""What a student is compared by: soft targets, layers inside, attention, relations between examples.

    >>> import minigrad as mg
    >>> s, t = mg.tensor([[1.0, 0.0]]), mg.tensor([[3.0, 0.0]])
    >>> round(soft_target_loss(s, t, temperature=2.0).item(), 4)
    0.361

**Soft targets** (Hinton et al. 2015): T^2 KL(p_t || p_s), see the package.  With very large T this
becomes the squared distance of the centred scores over 2 C (their equation 4): matching scores directly
is a limit of it.

**Hints** (FitNets, Romero et al. 2015, equation 3): 1/2 |h_t - r(h_s)|^2 of two layers, with r a learned
adapter where shapes differ.  Here the mean over elements is taken, as a weight then means the same for
layers of any size.

**Attention** (Zagoruyko & Komodakis 2017, section 3.1): where in the image a layer is active,
a = sum over channels of x^2, flattened and scaled to length 1; the loss is the squared distance of the
two, averaged over examples.  Channels need not agree, only the size of the images.

**Relations** (Park et al. 2019, equations 5 and 8): the distances between all pairs of examples of a
batch, over their mean, and the angles of all triples, compared by the Huber loss.  Features may be of
any size.
"""

from __future__ import annotations

from ..errors import ArgumentError, ShapeError
from ..nn.functional import log_softmax, normalize, smooth_l1_loss
from ..tensor import Tensor


def soft_target_loss(
    student: Tensor, teacher: Tensor, temperature: float | Tensor = 1.0, *, dim: int = 1
) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), averaged over examples: a scalar.

    Both are scores (logits) of one shape, classes along `dim`.  The teacher gets no gradient.
    Raises ShapeError if the shapes differ (say, another number of classes), ArgumentError for a
    temperature that is not positive.  Source: Hinton et al. 2015, section 2.
    """
    if student.shape != teacher.shape:
        raise ShapeError(
            "soft_target_loss",
            f"the student's scores are {student.shape}, the teacher's {teacher.shape}",
            fix="both must tell the same classes apart, for the same examples",
        )
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ArgumentError(
            "soft_target_loss", f"temperature is {temperature!r}", fix="pass a positive number, e.g. 4"
        )
    wanted = log_softmax(teacher.detach() / temperature, dim)
    got = log_softmax(student / temperature, dim)
    divergence = (wanted.exp() * (wanted - got)).sum(dim)
    return divergence.mean() * (temperature * temperature)


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference of two layers of one shape; the teacher gets no gradient.

    Raises ShapeError if the shapes differ.  Source: Romero et al. 2015, equation 3.
    """
    if student.shape != teacher.shape:
        raise ShapeError(
            "hint_loss",
            f"the student's layer gives {student.shape}, the teacher's {teacher.shape}",
            fix="put an adapter between them (Distiller learns one)",
        )
    return (student - teacher.detach()).square().mean() * 0.5


def attention_map(x: Tensor) -> Tensor:
    """Where a layer is active: (n, c, ...) -> (n, places), sums of squares over channels, of length 1.

    Raises ShapeError for less than three dimensions.  Source: Zagoruyko & Komodakis 2017, section 3.1.
    """
    if x.ndim < 3:
        raise ShapeError("attention_map", f"shape {x.shape} has no places", fix="pass (n, channels, ...)")
    return normalize(x.square().mean(1).flatten(1), dim=1)


def attention_transfer_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared distance of attention maps: a scalar.

    Layers (n, c, ...) may differ in channels, but not in places; a larger teacher can be pooled first.
    Raises ShapeError if examples or places differ.  Source: Zagoruyko & Komodakis 2017, equation 2.
    """
    if student.shape[:1] != teacher.shape[:1] or student.shape[2:] != teacher.shape[2:]:
        raise ShapeError(
            "attention_transfer_loss",
            f"the student's layer gives {student.shape}, the teacher's {teacher.shape}",
            fix="examples and places must agree; pool the larger one",
        )
    return (attention_map(student) - attention_map(teacher.detach())).square().sum(1).mean()


def relational_distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The Huber loss between the distances of all pairs of examples, each over its mean: a scalar.

    Features (n, ...) of any sizes.  Raises ShapeError for different or less than two examples.
    Source: Park et al. 2019, equations 4 to 6.
    """
    _examples("relational_distance_loss", student, teacher, 2)
    return smooth_l1_loss(_distances(student), _distances(teacher.detach()))


def relational_angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The Huber loss between the cosines of the angles in all triples of examples: a scalar.

    Features (n, ...) of any sizes; the work grows as n^3.  Raises ShapeError for different or less than
    three examples.  Source: Park et al. 2019, equations 7 and 8.
    """
    _examples("relational_angle_loss", student, teacher, 3)
    return smooth_l1_loss(_angles(student), _angles(teacher.detach()))


def _examples(op: str, student: Tensor, teacher: Tensor, least: int) -> None:
    if student.ndim < 2 or teacher.ndim < 2 or len(student) != len(teacher) or len(student) < least:
        raise ShapeError(
            op,
            f"the student's features are {student.shape}, the teacher's {teacher.shape}",
            fix=f"pass (n, ...) features of the same n examples, at least {least}",
        )


def _distances(x: Tensor) -> Tensor:
    """Distances of all pairs (n, n) over the mean of those that are not of one example with itself."""
    flat = x.flatten(1)
    squares = flat.square().sum(1)
    between = squares.unsqueeze(0) + squares.unsqueeze(1) - (flat @ flat.T) * 2.0
    # the square root has no gradient at 0, where an example meets itself or its double
    distance = between.clamp(min=1e-12).sqrt()
    n = len(x)
    return distance / (distance.sum() / float(n * (n - 1))).clamp(min=1e-12)


def _angles(x: Tensor) -> Tensor:
    """Cosines of the angle at example j between i and k: (j, i, k)."""
    flat = x.flatten(1)
    sides = normalize(flat.unsqueeze(0) - flat.unsqueeze(1), dim=2)
    return sides @ sides.transpose(1, 2)
