"""Lucas et al. (2019): posterior collapse and the weight of the KL term."""
