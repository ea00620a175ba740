"""Divergences of one distribution from another; `distributions.py` prepares the two.

* `kullback_leibler.py`: of a model that is given by its log-probabilities;
* `symmetric.py`: Jensen-Shannon, total variation and Hellinger, between probabilities;
* `renyi.py`: Rényi divergences of every order, between probabilities;
* `distillation.py`: of a student from its teacher, both given by logits.
"""
