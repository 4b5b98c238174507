"""Where the application keeps what must not be lost: feedback and access log."""

from __future__ import annotations

#: Folder beside the runs.
RECORDS = "serve-records"
#: In it: what this server vouches for of the explanations that were made on request.
EXPLANATIONS = "explanations"
