"""Is the access log whole?"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from clinimm.core.chain import Head
from clinimm.core.check_log import LogState, check_log
from clinimm.core.sign import check
from clinimm.serve.access_log import FORM


def verify_log(folder: Path, trusted_key: Path | None = None, kept: Head | None = None) -> LogState:
    """Check the chain from its first line to the signed head, while others go on writing.

    Args:
        folder: where the log lies.
        trusted_key: the signer's public key (PEM); None takes this user's own.
        kept: a head that was written down earlier, elsewhere. The log must still hold that line:
            this finds a log that was set back together with its signed head.

    Raises:
        IntegrityError: there is no log, or its head is unsigned or signed by an unknown key.
    """
    return check_log(folder, FORM, partial(check, trusted_key=trusted_key), kept)
