"""Files: one writer that leaves a whole file or none, and one loader a kind of file, which checks before it believes.

Everything raises `UserError` with the path and the cure. `arrays`, `tensors` and `tables` bring numpy, torch and
pandas, so they are imported by their own names.
"""

from pullpush.files.lock import Held, locked
from pullpush.files.text import Fields, check_fields, damaged, read_json, read_jsonl, read_text, read_yaml, regular
from pullpush.files.write import (
    append_text,
    beside,
    is_full,
    replacing,
    replacing_folder,
    sync,
    unwritable,
    write_bytes,
    write_json,
    write_text,
)

__all__ = [
    "Fields",
    "Held",
    "append_text",
    "beside",
    "check_fields",
    "damaged",
    "is_full",
    "locked",
    "read_json",
    "read_jsonl",
    "read_text",
    "read_yaml",
    "regular",
    "replacing",
    "replacing_folder",
    "sync",
    "unwritable",
    "write_bytes",
    "write_json",
    "write_text",
]
