"""What card and report say of a certificate, and the chart of risk against coverage. Called by card.py and page.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minikin.report import charts, words
from minikin.report.words import number, part

SIZE, LEFT, TOP = 300.0, 46.0, 12.0


def rows(certificate: Mapping[str, Any]) -> list[dict[str, str]]:
    """The bound for all texts, or for each group; a group without one is handed over whole."""
    groups = certificate.get("groups") or {"all texts": certificate}
    total = number(part(certificate, "labels", "certified")) or 0.0
    found = []
    for name, row in groups.items():
        n = number((row or {}).get("n")) or 0.0
        found.append(
            {
                "name": str(name),
                "answers": "score ≥ " + words.significant(row.get("lambda")) if row else "handed over whole",
                "wrong": f"{row['k']:,} of {row['n']:,}" if row else words.NONE,
                "bound": words.percent(row.get("bound"), 2) if row else words.NONE,
                "kept": words.percent(n / total) if row and total else words.NONE,
            }
        )
    return found


def headline(certificate: Mapping[str, Any]) -> str:
    """One sentence: what share it answers, at which risk, until when."""
    if certificate.get("method") == "crc":
        return (
            f"It answers {words.percent(certificate.get('coverage'))} of texts like the labelled ones by itself; at "
            f"most {words.share(certificate.get('alpha'))} of all texts are answered wrongly, in expectation, until "
            f"{part(certificate, 'valid', 'until')}."
        )
    return (
        f"It answers {words.percent(certificate.get('coverage'))} of texts like the labelled ones by itself, with at "
        f"most {words.share(certificate.get('alpha'))} wrong answers among these "
        f"({words.share(certificate.get('confidence'))} confidence), until {part(certificate, 'valid', 'until')}."
    )


def section(certificate: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the page's section."""
    found = part(certificate, "evidence") or {}
    names = {
        "max_probability": "largest probability",
        "nearest_neighbour": "nearest neighbour",
        "familiar_words": "familiar words",
        "mean": "mean log-probability",
        "least": "least log-probability",
        "length": "length",
        "ended": "came to an end",
    }
    aurocs = [
        (names.get(name, name), words.significant(row.get("wrong")), words.significant(row.get("out_of_scope")))
        for name, row in (found.get("auroc") or {}).items()
    ]
    kinds = [(name, words.percent(value)) for name, value in (found.get("ece") or {}).items() if "_" not in name]
    return {
        "headline": headline(certificate),
        "rows": rows(certificate),
        "grouped": bool(certificate.get("groups")),
        "curve": risk_coverage(certificate),
        "reliability": charts.reliability(
            found.get("reliability") or [], title="Right against the score's own estimate"
        ),
        "aurocs": aurocs,
        "ece": kinds,
        "audit": audit(certificate),
        "promises": certificate.get("promises") or [],
        "not_promised": certificate.get("does_not_promise") or [],
    }


def audit(certificate: Mapping[str, Any]) -> list[str]:
    """How soon an audit would notice a risk that has grown."""
    return [
        f"A risk of {words.share(row['risk'])} is caught after about {row['expected_answers']:,} audited answers."
        for row in certificate.get("audit") or []
    ]


def card(certificate: Mapping[str, Any]) -> str:
    """The card's section, in Markdown."""
    lines = [headline(certificate), "", "| | answers | wrong | bound | kept local |", "|---|---|---:|---:|---:|"]
    for row in rows(certificate):
        name = " ".join(row["name"].split()).replace("|", "\\|").replace("<", "&lt;")
        lines.append(f"| {name} | {row['answers']} | {row['wrong']} | {row['bound']} | {row['kept']} |")
    lines += ["", *(f"- {line}" for line in certificate.get("promises") or [])]
    lines += [f"- {line}" for line in audit(certificate)]
    lines += ["", "What it does not promise:", "", *(f"- {line}" for line in certificate.get("does_not_promise") or [])]
    return "\n".join(lines)


def risk_coverage(certificate: Mapping[str, Any]) -> str:
    """Share of wrong answers over the share answered, with the line of α and the certified point; '' without data."""
    curve = [p for p in part(certificate, "evidence", "curve") or [] if number(p.get("risk")) is not None]
    alpha = number(certificate.get("alpha"))
    if len(curve) < 2 or not alpha:
        return ""
    most = min(1.0, max(3 * alpha, max(p["risk"] for p in curve) * 1.05))

    def place(coverage: float, risk: float) -> tuple[float, float]:
        return LEFT + coverage * SIZE, TOP + (1 - min(risk / most, 1.0)) * SIZE

    body = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = place(tick, tick * most)
        body.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + SIZE}" y1="{y:.1f}" y2="{y:.1f}"/>')
        body.append(f'<text class="tick end" x="{LEFT - 8}" y="{y + 4:.1f}">{tick * most:.1%}</text>')
        body.append(f'<text class="tick mid" x="{x:.1f}" y="{TOP + SIZE + 18:.1f}">{tick:.0%}</text>')
    _, limit = place(0, alpha)
    body.append(f'<line class="ideal" x1="{LEFT}" x2="{LEFT + SIZE}" y1="{limit:.1f}" y2="{limit:.1f}"/>')
    points = " ".join("{:.1f},{:.1f}".format(*place(p["coverage"], p["risk"])) for p in curve)
    body.append(f'<polyline class="curve" points="{points}"/>')
    n, k = number(certificate.get("n")), number(certificate.get("k"))
    if n and k is not None:
        x, y = place(number(certificate.get("coverage")) or 0.0, k / n)
        body.append(charts.shape("student", x, y, f"certified: {words.percent(certificate.get('coverage'))} answered"))
    body.append(f'<text class="note" x="{LEFT + 4}" y="{TOP + 12}">wrong among answers</text>')
    body.append(f'<text class="note mid" x="{LEFT + SIZE / 2}" y="{TOP + SIZE + 40}">share of texts answered</text>')
    return charts.svg(364, 366, "Wrong answers against the share answered", "".join(body), "chart square")
