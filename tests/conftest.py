"""What all tests share: examples that are the same in every run, and one thread."""

import torch
from hypothesis import settings

settings.register_profile("focal", deadline=None, derandomize=True, max_examples=60, database=None)
settings.load_profile("focal")
torch.set_num_threads(1)
