"""Links open the page that they name."""

from tracing import trace_url, workflow_url


def test_trace_url() -> None:
    assert trace_url("http://ui/", "my space", "p1", "t1") == (
        "http://ui/my%20space/projects/p1/logs?logsType=traces&trace=t1"
    )


def test_workflow_url() -> None:
    assert workflow_url("http://ui", "default", "goal/1") == (
        "http://ui/namespaces/default/workflows/goal%2F1"
    )
    assert workflow_url("http://ui", "default", "g", "r").endswith("/workflows/g/r/history")
