"""Divergences of one distribution from another; `distributions.py` prepares the two.

* `kullback_leibler.py`: of a model that is given by its log-probabilities;
* `symmetric.py`: Jensen-Shannon, total variation and Hellinger, between probabilities;
* `renyi.py`: Rényi divergences of every order, between probabilities; their sums are in
  `power_sums.py`;
* `distillation.py`: of a student from its teacher, both given by logits; sums of the two are in
  `two_softmaxes.py`.
"""
