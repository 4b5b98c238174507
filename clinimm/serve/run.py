"""Starting the application: the address, the link, and the server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from clinimm.core.errors import ConfigError
from clinimm.serve.settings import ServeSettings, is_loopback, require_loopback


def choose_settings(settings: ServeSettings | None, single_user: bool, host: str, port: int) -> ServeSettings:
    """The settings that hold, with the address that the server will have in single-user mode.

    Raises:
        ConfigError: neither sign-in nor single-user mode, both, or single-user mode on an address
            that other machines reach.
    """
    found = settings or ServeSettings()
    if single_user:
        require_loopback(host)
        if found.oidc is not None:
            raise ConfigError("--single-user: the settings file sets up a sign-in; leave one of the two out.")
        if found.proxies or found.tls:
            raise ConfigError(
                "--single-user: without sign-in the application is for this machine alone; leave `proxies` "
                "and `tls` out of the settings file."
            )
        name = f"[{host}]" if ":" in host else host
        # One person on one machine looks at research; nobody is served from there.
        changes = {"public_url": f"http://{name}:{port}", "unapproved_runs": "research"}
        return found.model_copy(update=changes)
    if found.oidc is None:
        raise ConfigError(
            "nobody can sign in: name a provider under `oidc` in --config FILE, or give --single-user to use "
            "it alone, on this machine."
        )
    return found


def check_transport(settings: ServeSettings, host: str) -> None:
    """Patients' data cross a network encrypted or not at all.

    Raises:
        ConfigError: other machines would reach the server itself without TLS.
    """
    if settings.tls is None and not settings.proxies and not is_loopback(host):
        raise ConfigError(
            f"--host {host}: other machines would reach it without encryption. Give `tls` in the settings "
            "file, or `proxies` where a proxy of yours speaks https with the browsers."
        )


def free_port(host: str) -> int:
    """A port that nobody uses."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as one:
        one.bind((host, 0))
        return int(one.getsockname()[1])


def serve(
    folder: Path,
    settings: ServeSettings,
    host: str,
    port: int,
    records: Path | None = None,
    say: Callable[[str], object] = print,
) -> None:
    """Serve until interrupted.

    Args:
        folder: of the runs, or of one run.
        settings: from ``choose_settings``.
        host, port: where to listen.
        records: folder of feedback and access log.
        say: told the link.
    """
    import uvicorn

    from clinimm.serve.app import create_app, entry_link, open_office

    office, tls = open_office(folder, settings, records), settings.tls
    for name, reason in office.catalogue.refused().items():
        say(f"not served: {name}: {reason}")
    say(f"serving {len(office.catalogue.runs())} runs; records: {office.log.path.parent}")
    say(f"open {entry_link(office)}")
    config = uvicorn.Config(
        create_app(office),
        host=host,
        port=port,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
        access_log=False,  # our own log knows who
        server_header=False,
        date_header=True,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        timeout_keep_alive=15,
        limit_concurrency=200,
        log_level="warning",
    )
    uvicorn.Server(config).run()
