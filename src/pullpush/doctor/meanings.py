"""What each finding means, in a sentence or two."""

__all__ = ["MEANINGS"]

MEANINGS = {
    "collapse": (
        "All items have nearly the same embedding, or lie on one line. Every similarity is the same number, the "
        "softmax gives each reference the same share, and the gradient is exactly zero: training can't leave this "
        "point."
    ),
    "near_collapse": (
        "The embeddings draw together and the differences between items fade. What is left of the gradient shrinks "
        "with them."
    ),
    "modality_gap": (
        "Images and texts each keep to a region of their own. A search of one by the other can still work; in one "
        "index for both, every image is closer to all images than to its own description."
    ),
    "dead_dimensions": "Some dimensions are the same for all items. They cost memory and carry nothing.",
    "dominating_dimension": "One dimension has most of the variance, so it alone decides which items are similar.",
    "not_finite": "A number overflowed or was undefined (NaN), and spread to everything computed from it.",
    "not_normalised": (
        "The loss compares lengths as well as directions. Its margin or temperature is meant for vectors of length 1; "
        "with others it is out of proportion, and a longer vector lowers the loss without being right."
    ),
    "false_negatives": "Equal items carry different labels, and the loss pushes apart what can't be told apart.",
    "loss_at_chance": (
        "The loss is the logarithm of the number of references: to the loss, positives are no closer than negatives. "
        "A right guess is as likely as by drawing lots."
    ),
    "loss_at_floor": (
        "Cosines lie between -1 and 1. Between two such numbers the softmax can't be sure of anything, so the loss "
        "has a floor far above 0 that even perfect embeddings do not pass, and near it hardly any slope is left."
    ),
    "temperature_too_high": (
        "Even perfect embeddings would leave most of the loss, so most of the gradient goes to pairs that are right "
        "already."
    ),
    "temperature_too_low": (
        "Of all negatives of an anchor the closest one has the whole gradient: noise and wrong labels decide, and the "
        "loss jumps."
    ),
    "triplet_at_margin": (
        "Positives are as far away as negatives, so each triplet costs just the margin. Making all embeddings equal "
        "was the shortest way there."
    ),
    "no_active_triplet": "Every positive is closer than every negative by the margin. Loss and gradient are 0.",
    "miner_leaves_nothing": "The miner keeps no pair of the batch, so there is nothing to compute a loss from.",
    "no_positives": (
        "Most anchors meet no other item of their class in the batch. Without a positive an anchor gives nothing, or "
        "is only pushed away."
    ),
    "learning_rate_too_high": (
        "A step changes the weights by a large share of their length. What the backbone or the head knew is "
        "overwritten in the first steps, and a collapse is near."
    ),
    "stale_memory": (
        "The encoder has moved on since the embeddings in the memory were computed: the loss compares with places "
        "where nothing is any more."
    ),
    "worse_than_start": (
        "On the classes of the test, the trained model finds less than the untrained one did: this training did harm."
    ),
    "over_fitting": "Training classes are still learned better, at the expense of classes that were not trained on.",
    "weights_not_loaded": (
        "Parts of the backbone start from random numbers although weights were asked for, or the whole of it is "
        "random and frozen. The features mean little."
    ),
    "evaluation_without_positives": (
        "Queries whose class has no other item can't be answered and count in no metric: what is left says little."
    ),
}
