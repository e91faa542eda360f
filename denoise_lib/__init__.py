"""Denoising implicit feedback: the method of Wang et al., WSDM 2021, arXiv:2006.04153, and nothing else.

``losses`` is the paper's idea; ``models``, ``sampling``, ``train`` and ``evaluator`` train and rank with it. GMF with
T-CE on your own arrays: ``users`` and ``items`` are ids from 0, and ``masks`` says which rows are of which part::

    from denoise_lib.data import Interactions, Split
    from denoise_lib.evaluator import evaluate, ranking_task
    from denoise_lib.losses import drop_rate_at, truncated_cross_entropy
    from denoise_lib.models import GMF
    from denoise_lib.train import fit

    parts = {part: Interactions(users[chosen], items[chosen]) for part, chosen in masks.items()}  # train, valid, test
    split = Split("mine", users.max() + 1, items.max() + 1, **parts)
    loss = lambda logits, labels, step: truncated_cross_entropy(logits, labels, drop_rate_at(step, 0.1, 1_000))
    model = GMF(split.n_users, split.n_items)
    fit(model, split, loss, epochs=20, seed=0)
    recall = evaluate(model, ranking_task(split, split.test, [split.train, split.valid]), ks=[20])["recall"].mean()
"""
