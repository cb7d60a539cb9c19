"""What the data determined: the posterior of an inversion, its checks, and what it says of each parameter."""
