"""Models for other programs: written, and compared with the model before they are there."""

from pullpush.extras import need

need("train")

from pullpush.export.check import Check
from pullpush.export.export import Exported, Format, export

__all__ = ["Check", "Exported", "Format", "export"]
