"""One thread for torch: on tensors this small several only wait for each other, the more so beside other tests."""

import torch

torch.set_num_threads(1)
