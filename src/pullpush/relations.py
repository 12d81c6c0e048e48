"""Relations, as typed objects: `relations.same_ancestor(level=1)`, for the option `relation` of a `Criterion`."""

from pullpush.maths.relations import same_ancestor, same_class, same_text, shared_label

__all__ = ["same_ancestor", "same_class", "same_text", "shared_label"]
