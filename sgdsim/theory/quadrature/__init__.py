"""Expectations over noise: exact where they can be had, else by quadrature."""
