"""A transformer that learns to spell: the next character of a text, from the 64 before it.

    python examples/char_transformer.py [--text FILE] [--steps N] [--seed N]

The text, unless one is given, is what this package says about itself: the docstrings of its modules.  The
last tenth is held back.  Reported are bits per character: -log2 of the probability that the model gives to
the character that came.  Guessing by frequency alone costs the entropy of single characters (about 4.5 bits
for English prose), by the character before that of pairs (about 3.5).  At the end the model writes.

The model is small (2 layers, 128 wide, 4 heads, 0.4 million parameters): an embedding of characters plus one
of places, encoder layers with the norm first and a causal mask, and a linear map to logits.
"""

from __future__ import annotations

import argparse
import ast
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

LENGTH, WIDTH, HEADS, LAYERS, BATCH = 64, 128, 4, 2, 16


def own_text() -> str:
    """The docstrings of this package, one after the other."""
    root = Path(mg.__file__).parent
    docs = (ast.get_docstring(ast.parse(path.read_text())) for path in sorted(root.rglob("*.py")))
    return "\n\n".join(doc for doc in docs if doc)


class Speller(nn.Module):
    """Logits of the next character at each place: (n, length) to (n, length, characters)."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(characters, WIDTH)
        self.places = nn.Parameter(mg.randn(LENGTH, WIDTH) * 0.02)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, LAYERS, norm=nn.LayerNorm(WIDTH))
        self.head = nn.Linear(WIDTH, characters)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH), persistent=False)
        nn.init.normal_(self.characters.weight, std=0.02)

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        """Each place sees itself and what is before it."""
        length = x.shape[1]
        y = self.characters(x) + self.places[:length]
        y = self.encoder(y, mask=self.mask[:length, :length])
        return self.head(y)


def entropy(codes: Any, order: int) -> float:
    """Bits per character of guessing by how often each character follows the `order - 1` before it."""
    base = int(codes.max()) + 1
    counts = [np.zeros(base**k) for k in (order - 1, order)]
    for k, table in zip((order - 1, order), counts, strict=True):
        index = sum((codes[i : len(codes) - order + 1 + i] * base ** (k - 1 - i) for i in range(k)), 0)
        np.add.at(table, index, 1.0)
    nats = [-(c[c > 0] * np.log(c[c > 0] / c.sum())).sum() / c.sum() for c in counts]
    return float(nats[1] - (nats[0] if order > 1 else 0.0)) / math.log(2)


def windows(codes: Any, rng: Any) -> tuple[mg.Tensor, mg.Tensor]:
    """A random batch: what is read, and what comes next at each place."""
    starts = rng.integers(0, len(codes) - LENGTH - 1, size=(BATCH, 1))
    chosen = codes[starts + np.arange(LENGTH + 1)]
    return mg.tensor(chosen[:, :-1]), mg.tensor(chosen[:, 1:])


def bits(model: Speller, codes: Any) -> float:
    """Bits per character over a whole text, each predicted from at least half a window."""
    half = LENGTH // 2
    total, count = 0.0, 0
    with mg.no_grad():
        for start in range(0, len(codes) - LENGTH - 1, half):
            x = mg.tensor(codes[start : start + LENGTH][None])
            y = mg.tensor(codes[start + 1 : start + LENGTH + 1][half:])
            total += F.cross_entropy(model(x)[0, half:], y, reduction="sum").item()
            count += half
    return total / count / math.log(2)


def write(model: Speller, alphabet: str, codes: Any, count: int, rng: Any) -> str:
    """What the model goes on with after the first characters of `codes`, drawn one by one."""
    context = list(codes[:LENGTH])
    with mg.no_grad():
        for _ in range(count):
            p = F.softmax(model(mg.tensor(np.array([context[-LENGTH:]])))[0, -1] / 0.8, -1).numpy()
            context.append(int(rng.choice(len(alphabet), p=p.astype(float) / p.astype(float).sum())))
    return "".join(alphabet[i] for i in context[LENGTH:])


def main(arguments: list[str] | None = None) -> float:
    """Train, report, write; returns the bits per character of the part that was held back."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, help="a text file to learn instead of the package's docstrings")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    text = options.text.read_text() if options.text else own_text()
    alphabet = "".join(sorted(set(text)))
    codes = np.array([alphabet.index(c) for c in text])
    learn, rest = codes[: len(codes) * 9 // 10], codes[len(codes) * 9 // 10 :]
    print(
        f"{len(codes):,} characters, {len(alphabet)} different; bits per character by frequency alone "
        f"{entropy(codes, 1):.2f}, by the character before {entropy(codes, 2):.2f}"
    )
    mg.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    model = Speller(len(alphabet))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    optimizer = optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)

    def step(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    begin, running = time.perf_counter(), 0.0
    for k in range(options.steps):
        warm = min(1.0, (k + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * warm * 0.5 * (1.0 + math.cos(math.pi * k / options.steps))
        loss = step(*windows(learn, rng)).item() / math.log(2)
        running = loss if k == 0 else 0.98 * running + 0.02 * loss
        if (k + 1) % max(options.steps // 10, 1) == 0:
            print(f"step {k + 1:5}  {running:.2f} bits per character  {time.perf_counter() - begin:5.1f} s")
    model.eval()
    held_back = bits(model, rest[: 20 * LENGTH * 8])
    print(f"held back: {held_back:.2f} bits per character")
    print("---\n" + write(model, alphabet, rest, 400, rng))
    return held_back


if __name__ == "__main__":
    main()
