"""Where the application keeps what must not be lost: feedback and access log."""

from __future__ import annotations

#: Folder beside the runs.
RECORDS = "serve-records"
