"""Files: one writer that leaves a whole file or none, and one loader a kind of file, which checks before it believes.

- `write`: `replacing`, `replacing_folder`, `write_bytes`, `write_text`, `write_json`, `sync`.
- `text`: `read_text`, `read_json`, `read_jsonl`, `read_yaml`.
- `arrays`: `read_npy`, `read_npz`.
- `tensors`: `read_safetensors`, `read_checkpoint`.
- `tables`: `read_csv`, `read_parquet`, `check_columns`.
- `lock`: `locked`.

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
