"""Health, login and workspace: what the SDK asks before it starts."""

from urllib.parse import urlencode

from devstack.opik.http import Call, Refused, Reply, Routes

routes = Routes()
# At or above 2.2.8 the SDK inserts dataset items in parallel, as with a current server.
VERSION = "2.2.122"


@routes("GET", "/is-alive/ping")
def ping(call: Call) -> Reply:
    """Healthy."""
    return Reply(200, {"message": "Healthy Server", "healthy": True})


@routes("GET", "/is-alive/ver")
def version(call: Call) -> Reply:
    """The version this receiver behaves like."""
    return Reply(200, {"version": VERSION})


@routes("POST", "/v1/private/auth")
@routes("GET", "/v1/private/auth/workspace")
def workspace(call: Call) -> Reply:
    """Everyone is let in; the workspace is what the client says it is."""
    return Reply(200, {"workspace_name": call.headers.get("comet-workspace", "default")})


@routes("GET", "/v1/session/redirect/projects/")
def redirect(call: Call) -> Reply:
    """The link the SDK prints: on to the trace it names."""
    identity = call.query.get("trace_id", "")
    row = call.store.read().execute("SELECT project_id FROM traces WHERE id = ?", (identity,))
    found = row.fetchone()
    if found is None:
        raise Refused(404, "Trace not found")
    query = urlencode({"logsType": "traces", "trace": identity})
    path = f"/default/projects/{found['project_id']}/logs?{query}"
    return Reply(303, None, {"Location": path})
