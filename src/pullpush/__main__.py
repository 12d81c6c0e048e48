"""python -m pullpush"""

import sys

from pullpush.cli import main

sys.exit(main())
