"""Likelihoods and scores of predicted distributions; `observed.py` prepares the data.

`real.py` has the distributions of real numbers, `censored.py` those of numbers of which only bounds
are known, `counts.py` those of counts, and `amounts.py` those of amounts: numbers above 0, or 0.
`inflated.py` has counts and amounts that are often 0, `angles.py` angles, `mixture.py` mixtures,
`multivariate.py` numbers that vary together, and `latent.py` what latent variables cost.
"""
