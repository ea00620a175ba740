"""Losses of policies and of values of states, and the targets that they are trained towards.

`ratios.py`: policies against what they were. `tokens.py`: means over tokens or sequences.
`advantages.py`: from rewards. `values.py`: numbers and quantiles of returns. `targets.py`:
distributions of returns as targets of a cross-entropy.
"""
