"""The page at /: says plainly what this is, and shows what it has been doing."""

from html import escape

from devstack.gemini.state import State
from devstack.standin import HtmlPage

COLUMNS = (
    "n", "at", "stage", "model", "prompt_tokens", "candidates_tokens", "fault", "status", "served",
)  # fmt: skip

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
body{color:#1c2430;background:#fbfaf7}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}
.note{border-left:4px solid #b45309;background:#fff4e0;padding:.6rem 1rem}
table{border-collapse:collapse;width:100%;font-size:.85rem}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #ddd8cc}
code,pre{background:#f1eee6;padding:.1rem .3rem;border-radius:3px}pre{padding:.6rem;overflow:auto}
@media(prefers-color-scheme:dark){body{background:#14181f;color:#e6e3da}.note{background:#33260f}
th,td{border-color:#333a45}code,pre{background:#222833}}
"""


def _table(rows: list[dict[str, object]]) -> str:
    if not rows:
        return "<p>No calls yet.</p>"
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in COLUMNS)
    lines = (
        "<tr>" + "".join(f"<td>{escape(str(row[name]))}</td>" for name in COLUMNS) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _faults(state: State) -> str:
    rules = [
        f"<li><code>{escape(rule.fault)}</code> for {escape(rule.stage or 'every stage')}, calls "
        f"<code>{escape(str(rule.calls))}</code>: {rule.hits} of {rule.seen} calls hit</li>"
        for rule in state.faults.faults
    ]
    return f"<ul>{''.join(rules)}</ul>" if rules else "<p>None.</p>"


def page(state: State) -> HtmlPage:
    """The whole page. Holds no prompt and no answer, and of keys nothing."""
    gates = ", ".join(sorted(state.gates)) or "all open"
    latency = ", ".join(f"{stage} {s:g} s" for stage, s in state.latency.items()) or "none"
    text = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>Local stand-in for Gemini</title><style>{_STYLE}</style></head><body>
<h1>Local stand-in for Gemini</h1>
<p class="note"><strong>This is a local stand-in for Gemini, answers are made by rules.</strong>
No language model is asked and nothing leaves this machine.</p>
<p>To use the real one, set <code>GEMINI_API_KEY</code> in <code>.env</code>, leave
<code>GEMINI_BASE_URL</code> unset, and start again.</p>
<h2>Recent calls</h2>{_table(list(state.ledger.recent)[::-1])}
<p>All of them, one JSON line each: <a href="/control/ledger">/control/ledger</a></p>
<h2>Faults</h2>{_faults(state)}
<h2>Gates and latency</h2><p>Gates: {escape(gates)}. Latency: {escape(latency)}.</p>
<h2>Make it fail</h2>
<pre>curl -X PUT localhost:PORT/control/faults \\
  -d '[{{"stage": "generate", "calls": 2, "fault": "rate_limit", "args": {{"seconds": 5}}}}]'
curl -X DELETE localhost:PORT/control/faults</pre>
</body></html>"""
    return HtmlPage(text, style=_STYLE)
