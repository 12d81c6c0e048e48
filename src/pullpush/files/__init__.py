"""Files: one writer that leaves a whole file or none, and one loader a kind of file, which checks before it believes.

Everything raises `UserError` with the path and the cure. `arrays`, `tensors` and `tables` bring numpy, torch and
pandas, so they are imported by their own names.
"""

from pullpush.files.lock import locked
from pullpush.files.text import Fields, check_fields, damaged, read_json, read_jsonl, read_text, read_yaml, regular
from pullpush.files.write import append_text, replacing, sync, unwritable, write_bytes, write_json, write_text

__all__ = [
    "Fields",
    "append_text",
    "check_fields",
    "damaged",
    "locked",
    "read_json",
    "read_jsonl",
    "read_text",
    "read_yaml",
    "regular",
    "replacing",
    "sync",
    "unwritable",
    "write_bytes",
    "write_json",
    "write_text",
]
