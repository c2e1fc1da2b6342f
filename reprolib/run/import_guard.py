"""Import this before nbformat: a grammar of internet addresses, a second of CPU to build, is then not built.

nbformat checks notebooks with jsonschema, which takes every format checker it can find; no field of a notebook has that format. Only
the processes of the command line do this, never a kernel.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
