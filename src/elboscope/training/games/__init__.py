"""Games: what a GAN, an adversarial autoencoder or a hybrid minimises in each turn."""
