"""What every loss keeps: arguments, masks, domains, weights, means.

`inputs.py` checks single arguments; `prepared.py` makes a record of all of them: the door;
`reduce.py` masks, weighs and reduces losses; `jit.py` compiles them, and `calls.py` says what is
wrong with a call whose arguments do not fit the parameters. `accumulate.py` differentiates them in
parts of a batch, which `parts.py` takes one after the other.
"""
