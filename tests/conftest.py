"""Tests run side by side, one core each: the threads of several processes would wait for one another."""

import torch

torch.set_num_threads(1)
