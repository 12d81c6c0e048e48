"""The doctor: what is wrong with a training run, with the evidence and the cure."""

from pullpush.doctor.diagnose import diagnose

__all__ = ["diagnose"]
