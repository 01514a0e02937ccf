"""Two processes with half the batch each have the gradient of one with the whole batch."""

import os
import tempfile

import pytest
import torch
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from focal_lib.torch import sigmoid_focal_loss, softmax_focal_loss

CLASSES, BATCH = 5, 12
WEIGHT = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])


def batch():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, 7, generator=generator)
    t = torch.randint(CLASSES, (BATCH,), generator=generator)
    t[8:11] = -100  # so the halves have different normalisers
    return x, t


def model():
    torch.manual_seed(1)
    return torch.nn.Linear(7, CLASSES)


def terms(logits, t):
    """Each loss as a sum, and its normaliser: the weights of the items kept; the positives."""
    kept = t != -100
    softmax = softmax_focal_loss(logits, t, WEIGHT, reduction="sum")
    yield softmax, WEIGHT[t[kept]].sum()
    positives = F.one_hot(t.where(kept, 0), CLASSES) * kept[:, None]
    yield sigmoid_focal_loss(logits, positives, reduction="sum"), positives.sum()


def work(rank, processes, file, results):
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=processes)
    x, t = (part.chunk(processes)[rank] for part in batch())
    wrapped = DistributedDataParallel(model())
    loss = torch.zeros(())
    for total, normaliser in terms(wrapped(x), t):
        normaliser = normaliser.float()
        dist.all_reduce(normaliser)
        # DistributedDataParallel divides the sum of the gradients by the number of processes.
        loss = loss + total * processes / normaliser
    loss.backward()
    torch.save([p.grad for p in wrapped.parameters()], f"{results}.{rank}")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_are_one_with_the_normaliser_summed():
    single = model()
    x, t = batch()
    sum(total / normaliser for total, normaliser in terms(single(x), t)).backward()
    expected = [p.grad for p in single.parameters()]
    halves = [list(terms(single(x[half]), t[half])) for half in (slice(6), slice(6, None))]
    assert halves[0][0][1] != halves[1][0][1]  # else each half's own mean would do
    with tempfile.TemporaryDirectory() as folder:
        file, results = os.path.join(folder, "rendezvous"), os.path.join(folder, "gradient")
        torch.multiprocessing.spawn(work, (2, file, results), nprocs=2)
        for rank in range(2):
            torch.testing.assert_close(torch.load(f"{results}.{rank}"), expected)
