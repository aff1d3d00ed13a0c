"""What is simulated: descriptions of losses, noise, optimizers, starts, runs; nothing here computes a trajectory."""
