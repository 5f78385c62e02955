"""Your own pair of Conv2d modules; x has shape (N, 1, 8, 8)."""

from torch import nn

import elboscope as es

encoder = nn.Sequential(
    nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 16, 2 * 4)
)
up = nn.ConvTranspose2d(16, 1, 4, 2, 1)  # logits
decoder = nn.Sequential(nn.Linear(4, 16 * 16), nn.ReLU(), nn.Unflatten(1, (16, 4, 4)), up)
model = es.from_modules(encoder, decoder, likelihood="bernoulli", data_shape=(1, 8, 8))
