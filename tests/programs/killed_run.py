"""A run that may be killed at any moment: `killed_run.py directory [steps between checkpoints]`.

It goes on from its last checkpoint, with dropout, momenta, a schedule, an average, a loader and its
augmentation all being part of the state, and prints a checksum of everything when it is done.
"""

from __future__ import annotations

import sys
import zlib

import minigrad as mg
from minigrad import data, nn


class Noisy(data.Dataset):
    """Examples with noise that is drawn when they are fetched."""

    def __init__(self) -> None:
        self.x = mg.randn(60, 6)

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[mg.Tensor, int]:
        return self.x[index] + 0.1 * mg.randn(6), int(self.x[index].sum().item() > 0)


def main(directory: str, every: int = 1, epochs: int = 4, workers: int = 0) -> int:
    mg.manual_seed(11)
    loader = data.DataLoader(Noisy(), 8, shuffle=True, num_workers=workers)
    model = nn.Sequential(nn.Linear(6, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Dropout(0.3), nn.Linear(40, 2))
    optimizer = mg.optim.AdamW(model.parameters(), lr=0.01)
    trainer = mg.training.Trainer(
        model,
        optimizer,
        nn.functional.cross_entropy,
        scheduler=mg.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40),
        schedule_every="step",
        averaged=mg.optim.swa_utils.AveragedModel(model) if hasattr(mg.optim, "swa_utils") else None,
        metrics={"accuracy": lambda p, y: (p.argmax(1) == y).to(mg.float32).mean()},
        directory=directory,
        save_every=every,
    )
    print("ready", flush=True)
    history = trainer.fit(loader, epochs, resume=True, verbose=0)
    state = trainer.state_dict(loader)
    arrays: dict[str, object] = {}
    text = repr(mg.checkpoint._take_apart(state, "", arrays))
    text += repr(mg.checkpoint._crc(arrays, ""))
    print(f"{zlib.crc32(text.encode()):08x} {history['loss'][-1]!r}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
