"""Descriptions of losses, noise, optimizers, starts and runs; nothing here computes a trajectory."""
