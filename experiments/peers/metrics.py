"""Ranking and classification metrics with their tie rules stated."""

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score


def reciprocal_ranks(positive, negatives):
    """1 / rank of `positive` [M] among `negatives` [M, C]; equal scores share the mean of their places."""
    positive = positive[:, None]
    above = (negatives > positive).sum(1)
    equal = (negatives == positive).sum(1)
    return 1.0 / (1.0 + above + 0.5 * equal)


def ap_auc(positive, negative):
    """Average precision (equal scores enter as one threshold) and area under the ROC curve (equal scores count half)."""
    truth = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    scores = np.concatenate([positive, negative])
    return float(average_precision_score(truth, scores)), float(roc_auc_score(truth, scores))


def mean_over_batches(positive, negative, batch):
    """AP and AUC as PyG's example reports them: per batch, then the plain mean, the short last batch counting as much."""
    parts = [ap_auc(positive[i : i + batch], negative[i : i + batch]) for i in range(0, len(positive), batch)]
    ap, auc = np.mean(parts, axis=0)
    return float(ap), float(auc)


def judge(scores, columns):
    """All metrics of scores laid out by `evaluation_draws`; MRR is left out where there are no negatives to rank among."""
    part = {name: scores[:, where] for name, where in columns.items()}
    truth = part["truth"][:, 0]
    result = dict(zip(("ap", "auc"), ap_auc(truth, part["one"][:, 0])))
    result |= dict(zip(("ap_others", "auc_others"), ap_auc(truth, part["one_other"][:, 0])))
    if part["rank"].shape[1]:
        result["mrr"] = float(reciprocal_ranks(truth, part["rank"]).mean())
        result["mrr_others"] = float(reciprocal_ranks(truth, part["rank_others"]).mean())
    return result
