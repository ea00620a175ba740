"""Losses of one class out of several; `labels.py` prepares them.

labels.py          The record of scores and labels, and the doors for class numbers, for
                   distributions and for either.
targets.py         Label smoothing, class weights, and the sum over the classes of labels times a
                   loss.
cross_entropy.py   Cross-entropy of a softmax, its PolyLoss, and the smoothing of labels.
focal.py           The focal loss of a softmax.
noisy_labels.py    Losses of a softmax that tolerate wrong labels.
margin.py          Hinge losses of scores.
fenchel_young.py   Sparsemax loss, and the loss of any function that replaces the maximum.
margin_logits.py   Logits with a margin, for cross-entropy: ArcFace, CosFace.
tokens.py          The log-probabilities of sequences of tokens.
linear_layer.py    The record of hidden vectors and a linear layer, and its place on a mesh;
                   linear_layout.py says how its logits, which are never held, are split.
linear.py          Cross-entropy and distillation of a linear layer's logits.
linear_tokens.py   Log-probabilities, predictions and entropies of its tokens.
"""
