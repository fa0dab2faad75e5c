"""The command `postroad`. It only wires: each service is imported when it is asked for."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from shared.settings.accepting import ListenerTls
from shared.settings.load import ConfigError, load_settings
from shared.settings.model import Settings
from shared.tracing.tracer import check_tracing

app = typer.Typer(
    name="postroad",
    help="A mail delivery pipeline: ingress, router and delivery, joined by durable queues.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="POSTROAD_CONFIG", help="Configuration file (YAML)."),
]

LaneOption = Annotated[
    list[str] | None,
    typer.Option("--lane", metavar="NAME", help="Serve this lane only; may be given again."),
]


@app.command()
def ingress(
    config: ConfigOption = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that share the addresses.")] = 1,
) -> None:
    """Accept mail over SMTP."""
    if processes > 1:
        from services.run import run_ingress

        raise typer.Exit(run_ingress(config, processes))

    from services.ingress.main import build
    from shared.service import run_service

    settings = load_settings(config)
    raise typer.Exit(
        run_service("ingress", build, settings, settings.admin.ingress_port, config=config)
    )


@app.command()
def router(config: ConfigOption = None) -> None:
    """Split accepted mail by destination."""
    from services.router.main import build
    from shared.service import run_service

    settings = load_settings(config)
    raise typer.Exit(
        run_service("router", build, settings, settings.admin.router_port, config=config)
    )


@app.command()
def delivery(config: ConfigOption = None, lane: LaneOption = None) -> None:
    """Send to mail exchangers, retry, notify."""
    from services.delivery.main import build, check_lanes
    from shared.service import run_service

    settings = load_settings(config)
    check_lanes(settings, lane or ())
    build_lanes = partial(build, lanes=lane)
    port = settings.admin.delivery_port
    raise typer.Exit(
        run_service("delivery", build_lanes, settings, port, lanes=lane, config=config)
    )


@app.command()
def run(
    config: ConfigOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Delivery processes.")] = 1,
    ingress: Annotated[int, typer.Option(min=1, help="Ingress processes.")] = 1,
) -> None:
    """Run ingress, router and delivery on this machine, by default on the embedded broker."""
    from services.run import run_all

    raise typer.Exit(run_all(config, workers, ingress))


@app.command()
def demo(
    config: ConfigOption = None,
    broker: Annotated[
        str | None, typer.Option(help="amqp://... for RabbitMQ; default: embedded.")
    ] = None,
    messages: Annotated[int, typer.Option(min=1, help="Messages to send.")] = 2000,
    keep: Annotated[bool, typer.Option("--keep", help="Keep queues and logs afterwards.")] = False,
) -> None:
    """Send mixed mail through all three services to local receivers and account for it.

    The demo writes the configuration of its services itself; the one given is only checked.
    """
    from services.demo.main import run_demo

    load_settings(config)

    raise typer.Exit(run_demo(broker, messages, keep))


@app.command()
def probe(
    *,
    ingress: Annotated[str | None, typer.Option(help="http://host:port of its metrics.")] = None,
    router: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    delivery: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    smtp: Annotated[str | None, typer.Option(help="host:port to submit a message to.")] = None,
    tls: Annotated[ListenerTls, typer.Option(help="How.")] = ListenerTls.STARTTLS,
    tls_name: Annotated[str, typer.Option(help="Name in the certificate; default: host.")] = "",
    verify: Annotated[bool, typer.Option(help="Look at the certificate.")] = True,
    ca_file: Annotated[Path | None, typer.Option(help="PEM file: who signed it.")] = None,
    sender: Annotated[str, typer.Option("--from", help="Reverse-path.")] = "",
    recipient: Annotated[str, typer.Option("--to", help="Who gets the message.")] = "",
    username_file: Annotated[
        Path | None, typer.Option(help="File with the user, for AUTH.")
    ] = None,
    password_file: Annotated[Path | None, typer.Option(help="File with the password.")] = None,
    timeout: Annotated[str, typer.Option(help="For all of it.")] = "60s",
) -> None:
    """Look whether the services are ready, submit a message, and watch until it is tried."""
    from services.probe.main import run_probe
    from services.probe.options import submission, time_of

    services = {"ingress": ingress, "router": router, "delivery": delivery}
    wanted = submission(
        smtp,
        tls=tls,
        tls_name=tls_name,
        sender=sender,
        recipient=recipient,
        login=(username_file, password_file),
        verify=verify,
        ca_file=ca_file,
    )
    asked = {name: url for name, url in services.items() if url}
    raise typer.Exit(run_probe(asked, wanted, time_of(timeout)))


@app.command("event-store")
def event_store(config: ConfigOption = None) -> None:
    """Keep events (events.store), for `events` and `message`; part of `postroad run`."""
    from services.events.keeping import run_store
    from services.run import settings_here

    raise typer.Exit(run_store(settings_here(config)))


@app.command()
def events(
    config: ConfigOption = None,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show them as they happen.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON each.")] = False,
    event: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Of this kind; may be given again.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Of this tenant's mail only.")] = "",
    mail: Annotated[str, typer.Option("--id", help="Of the mail with this id only.")] = "",
    last: Annotated[int, typer.Option(min=1, help="How many of those kept.")] = 50,
    guaranteed: Annotated[
        bool,
        typer.Option("--guaranteed", help="Take guaranteed events out of their queue, as JSON."),
    ] = False,
) -> None:
    """Show what happens to mail, or what happened last where events are kept."""
    from services.events import following
    from services.run import settings_here

    settings = settings_here(config)
    if guaranteed:
        raise typer.Exit(following.take_guaranteed(settings, follow=follow))
    wanted = following.Wanted(event or (), tenant, mail)
    if follow:
        raise typer.Exit(following.follow_events(settings, wanted, as_json=as_json))
    raise typer.Exit(following.show_kept(settings, wanted, last, as_json=as_json))


@app.command()
def message(
    mail_id: Annotated[str, typer.Argument(metavar="ID", help="As told by `250 ... queued as`.")],
    config: ConfigOption = None,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON for each event.")
    ] = False,
) -> None:
    """Tell what became of one mail, where events are kept."""
    from services.events.following import show_message
    from services.run import settings_here

    raise typer.Exit(show_message(settings_here(config), mail_id, as_json=as_json))


@app.command("check-config")
def check_config(config: ConfigOption = None) -> None:
    """Read the configuration and say whether it can be used."""
    settings = load_settings(config)
    check_files(settings)
    print("configuration ok")


@app.command()
def health(
    services: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SERVICE]...", help="Those that must answer; default: any here."),
    ] = None,
    config: ConfigOption = None,
    ready: Annotated[bool, typer.Option("--ready", help="Ask /readyz instead of /livez.")] = False,
) -> None:
    """Ask the services on this machine how they are; exit 1 if one is not well, or none is here."""
    from services.health import ask

    found = ask(load_settings(config).admin, services or (), "/readyz" if ready else "/livez")
    for one in found:
        print(f"{one.service}: {one.said}")
    if not found:
        print("no service answers here")
    raise typer.Exit(0 if found and all(one.well for one in found) else 1)


def check_files(settings: Settings) -> None:
    """Raise `ConfigError` for what a setting names and that cannot be had: a file, an extra."""
    from services.delivery.main import check_files as check_delivery_files
    from services.ingress.main import check_files as check_ingress_files

    check_ingress_files(settings)
    check_delivery_files(settings)
    check_tracing(settings.tracing)


@app.command()
def queues(
    config: ConfigOption = None,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Give them the arguments that are wanted.")
    ] = False,
) -> None:
    """Show the queues whose arguments at RabbitMQ are not those of this configuration."""
    from services.queues import run_queues

    raise typer.Exit(run_queues(load_settings(config), print, migrate=migrate))


@app.command()
def size(  # noqa: PLR0917 - typer makes options of them
    per_hour: Annotated[float, typer.Option(min=1, help="Mails an hour, on average.")],
    kb: Annotated[float, typer.Option(min=1, help="KB a mail.")] = 20.0,
    peak: Annotated[float, typer.Option(min=1, help="Busiest minute to the average.")] = 3.0,
    jobs: Annotated[float, typer.Option(min=1, help="Places a mail goes to.")] = 1.0,
    retries: Annotated[float, typer.Option(min=0, help="Retries a job.")] = 0.1,
    seconds: Annotated[float, typer.Option(min=0, help="Of a transaction at receivers.")] = 0.5,
    outage: Annotated[float, typer.Option(min=0, help="Hours that the queues must hold.")] = 4.0,
) -> None:
    """Compute what a load needs: processes, broker nodes, disks (docs/scaling.md)."""
    from shared.plan import sizing, sizing_document

    load = sizing.Load(
        per_hour, kb * sizing.KB, peak, jobs, retries, seconds=seconds, outage=outage
    )
    print("\n".join(sizing_document.summary(sizing.size(load))))


@app.command("hash-password")
def hash_password(config: ConfigOption = None) -> None:
    """Read a password from the terminal or standard input and print its argon2 hash."""
    from services.ingress.passwords import hash_password as hash_text

    load_settings(config)
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    print(hash_text(password))


def main() -> None:
    """Entry point of the command: what is wrong with the configuration is one line, exit 2."""
    try:
        app()
    except ConfigError as error:
        print(f"postroad: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
