"""Rosca, Lakshminarayanan and Mohamed (2018): distribution matching in variational inference."""
