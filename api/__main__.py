"""`python -m api`: the API process. One port serves callers, the other serves operators."""

import asyncio
import os
import signal

import uvloop

import logs
from api.app import create_app
from api.health import create_operations
from api.server import Server, config
from settings import Settings, auth_mode, read_settings
from workflows.kinds import KINDS


async def serve(settings: Settings) -> None:
    """Serve both ports until SIGTERM or SIGINT.

    On a second SIGINT the servers stop without waiting for open answers.
    """
    # This check ends the process when the settings are unsafe, for example when REIN_AUTH is `off`
    # and the API would listen on a public address.
    auth_mode(settings, settings.api_host)
    app = create_app(settings)
    callers = Server(config(app, settings.api_host, settings.api_port), app.end_streams)
    host, port = settings.api_operations_host, settings.api_operations_port
    kinds = {name: kind.prompt_names() for name, kind in KINDS.items()}
    operators = Server(config(create_operations(app.state, kinds), host, port, lifespan="off"))

    def stop(number: int) -> None:
        for server in (callers, operators):
            server.handle_exit(number, None)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    async with asyncio.TaskGroup() as group:
        group.create_task(callers.serve())
        # The callers' application creates the services at its start; the operators' application
        # uses the same services.
        await callers.ready.wait()
        group.create_task(operators.serve())


def main() -> None:
    """Read the settings, serve until a signal arrives, and end the process."""
    settings = read_settings()
    logs.configure(settings.log_format)
    uvloop.run(serve(settings))
    # While a Temporal client exists, the usual exit of the interpreter sometimes aborts with code
    # 134 (a known fault of the Temporal SDK), so the process ends without it.
    os._exit(0)


if __name__ == "__main__":
    main()
