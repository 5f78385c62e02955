"""Your own pair of nn.Modules: ``elboscope diagnose examples/my_file.py:model --data x.npy``."""

from torch import nn

import elboscope as es

encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * 4))  # mu and logvar
decoder = nn.Sequential(nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 64))  # logits
# Load the weights that you trained: safetensors.torch.load_model(encoder, "encoder.safetensors"), …
model = es.from_modules(encoder, decoder, likelihood="bernoulli", encoder_output="mu_logvar")
