"""`python -m api`: the process of the API, which serves callers and operators on two ports."""

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
    """Serve until SIGTERM or SIGINT; a second SIGINT does not wait for open answers."""
    auth_mode(settings, settings.api_host)  # refuses to serve everybody without keys
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
        await callers.ready.wait()  # it makes the services that both of them use
        group.create_task(operators.serve())


def main() -> None:
    """Read the settings and serve. Ends the process."""
    settings = read_settings()
    logs.configure(settings.log_format)
    uvloop.run(serve(settings))
    # A living Temporal client sometimes aborts the usual exit of the interpreter.
    os._exit(0)


if __name__ == "__main__":
    main()
