"""Embeddings whose length counts where it should not."""

from pullpush.doctor.declaration import SIDES, Cure, Measures, Objective, Symptom, finding

__all__ = ["not_normalised"]

NORM_ERROR = 0.05


@finding(
    "warning",
    seen=f"lengths differ from 1 by more than {NORM_ERROR}, and the loss compares lengths",
    cure="`--similarity cosine`, `ImageEncoder(normalize=True)`",
    words={"largest_norm_error": "largest difference of a length from 1"},
)
def not_normalised(m: Measures, o: Objective) -> Symptom | None:
    """The loss compares lengths as well as directions. Its margin or temperature is meant for vectors of length 1; with
    others it is out of proportion, and a longer vector lowers the loss without being right."""
    error = max(m.some(*(f"{side}/norm_error" for side in SIDES)).values(), default=0.0)
    if o.loss and not o.loss.traits.unit_length and o.similarity != "cosine" and error > NORM_ERROR:
        cures = [Cure("{}", {"similarity": "cosine"}), Cure("divide each embedding by its length")]
        return Symptom(
            {"largest_norm_error": error}, cures, f"The options of {o.loss.name} are for vectors of length 1."
        )
    return None
