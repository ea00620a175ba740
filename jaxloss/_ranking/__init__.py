"""Losses that rank the documents of lists; `lists.py` prepares scores and labels.

`listwise.py` holds the losses of a list as a whole, `pairwise.py` those of pairs of documents, and
`ndcg.py` those that approximate the measures of search engines, with weights of pairs.
`blocks.py` sums over pairs without an array of all of them.
"""
