"""Processes that share a batch, as the GPUs of one training run do: here on one machine, with gloo.

`gradients` starts the processes; each runs this file, and is a rank of torch.distributed.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn import Linear, Module
from torch.nn.parallel import DistributedDataParallel

from focal_lib.torch import sigmoid_focal_loss, softmax_focal_loss

FEATURES, ITEMS, CLASSES = 8, 1000, 4  # a process has as many items
POSITIVES = (3, 300)  # of the first process and the second
IGNORED = (900, 100)
WEIGHT = torch.tensor([1.0, 2.0, 4.0, 0.5])
LOSSES, RULES = ("sigmoid", "softmax"), ("own", "summed")


def batch(loss: str) -> tuple[Tensor, Tensor]:
    """The features and targets of both processes, those of the first before the second's."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2 * ITEMS, FEATURES, generator=generator)
    if loss == "sigmoid":
        y = torch.zeros(2 * ITEMS, 1)
        for rank, count in enumerate(POSITIVES):
            y[rank * ITEMS : rank * ITEMS + count] = 1
        return x + y, y  # the positives are elsewhere
    t = torch.randint(CLASSES, (2 * ITEMS,), generator=generator)
    for rank, count in enumerate(IGNORED):
        t[rank * ITEMS : rank * ITEMS + count] = -100
    return x, t


def model(loss: str) -> Linear:
    torch.manual_seed(1)
    return Linear(FEATURES, 1 if loss == "sigmoid" else CLASSES)


def terms(loss: str, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the losses, and what it is to be divided by."""
    if loss == "sigmoid":
        return sigmoid_focal_loss(logits, target, reduction="sum"), target.sum()
    total = softmax_focal_loss(logits, target, WEIGHT, reduction="sum")
    return total, (WEIGHT[target.clamp_min(0)] * (target != -100)).sum()


def normalized(total: Tensor, normalizer: Tensor, rule: str) -> Tensor:
    """The loss of one process, whose gradient will be averaged with those of the others."""
    if rule == "own":
        return total / normalizer
    dist.all_reduce(normalizer)
    return total * dist.get_world_size() / normalizer


def work(rank: int, processes: int, folder: Path) -> None:
    """What one process does: each loss by each rule, and a file with the gradients."""
    rendezvous = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=processes)
    results = {}
    for loss in LOSSES:
        x, target = (part.chunk(processes)[rank] for part in batch(loss))
        for rule in RULES:
            wrapped = DistributedDataParallel(model(loss))
            normalized(*terms(loss, wrapped(x), target), rule).backward()
            results[loss, rule] = gradient(wrapped)
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


def gradient(trained: Module) -> Tensor:
    """The gradients of all parameters, in one vector."""
    return torch.cat([p.grad.flatten() for p in trained.parameters() if p.grad is not None])


def gradients(processes: int = 2) -> list[dict[tuple[str, str], Tensor]]:
    """Of each process: the gradient that DistributedDataParallel left, by loss and rule."""
    with TemporaryDirectory() as folder:
        ranks = [
            subprocess.Popen(
                [sys.executable, "-m", "focal_notes.processes", str(rank), str(processes), folder],
                cwd=Path(__file__).parents[1],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(processes)
        ]
        for rank in ranks:
            said, _ = rank.communicate(timeout=250)
            if rank.returncode:
                raise RuntimeError(said)
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(processes)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    work(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
