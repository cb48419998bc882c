"""A made-up but realistic story of one build: 24 classes of a helpdesk, for the tests of the report and the card."""

from __future__ import annotations

from typing import Any

import numpy as np

LABELS = [
    "account_login",
    "bill_explanation",
    "cancel_service",
    "change_payment_details",
    "complaint",
    "connection_drops",
    "contract_question",
    "discount_request",
    "downgrade_plan",
    "engineer_visit",
    "equipment_return",
    "move_home",
    "network_settings",
    "order_status",
    "outage_credit",
    "outage_report",
    "payment_extension",
    "payment_failed",
    "refund_request",
    "router_fault",
    "slow_speed",
    "upgrade_plan",
    "wifi_coverage",
    "wifi_password",
]

DIFFERENCES = [
    ("Fixed yesterday, thanks. Will those 130 hours be taken off by themselves?", 14, 14, 18, 0.91),
    ("I can pay today but only a third of it.", 16, 16, 17, 0.88),
    (
        "The returned box was signed for by your warehouse, and yet the penalty was taken. Put it back.",
        18,
        18,
        10,
        0.83,
    ),
    ("When it snows or frosts I lose signal briefly over and over, and my neighbours say likewise", 5, 5, 15, 0.71),
    ("27 then 39. why", 1, 1, 11, 0.55),
    ("the buzzing. make it stop. its the router", 19, 19, 4, 0.49),
    ("Am I able to call our wireless 'Narnia'?", 23, 22, 23, 0.94),
    ("Two routers in a row are making our phones ring one-way. Can I make yours transparent?", 12, 19, 12, 0.78),
    ("Could I move to twice-yearly invoices?", 3, 11, 3, 0.66),
    ("ordered may, now july, hello", 13, 15, 13, 0.61),
    ("i want this taken further <script>alert('no')</script>", 4, 2, 9, 0.44),
    ("My boss pays for home broadband from now on so let's go for the top one!", 21, 3, 6, 0.41),
    ("dad says to tell you it broke at 4 and we tried unplugging", 15, 5, 19, 0.52),
]

RECIPE = """task: classify
data:
  train: helpdesk/train.csv
  test: helpdesk/test.csv
  text: text
  label: label
teacher: sentence-transformers/all-MiniLM-L6-v2
budget:
  size_mib: 1
  latency_ms_p95: 1
  keep: 0.97
seed: 0
"""


def _score(accuracy: float, f1: float, ece: float, typo: float, n: int = 522) -> dict[str, Any]:
    half = 1.96 * (accuracy * (1 - accuracy) / n) ** 0.5
    return {
        "accuracy": accuracy,
        "accuracy_interval": [accuracy - half, accuracy + half],
        "macro_f1": f1,
        "macro_f1_interval": [f1 - half, f1 + half],
        "ece": ece,
        "typo_accuracy": typo,
    }


def _speed(size: float, p50: float, p95: float, throughput: float) -> dict[str, Any]:
    return {
        "size_mib": size,
        "latency_ms_p50": p50,
        "latency_ms_p95": p95,
        "throughput_per_s": throughput,
        "agreement_with_teacher": None,
    }


def _measurements() -> dict[str, Any]:
    student = {**_score(0.9119, 0.9103, 0.024, 0.889), **_speed(0.612, 0.171, 0.236, 9120.0)}
    student["agreement_with_teacher"] = 0.9387
    return {
        "teacher": {**_score(0.9215, 0.9201, 0.031, 0.902), **_speed(87.1, 9.94, 13.2, 212.0)},
        "student": student,
        "student_without_teacher": {**_score(0.8716, 0.8690, 0.058, 0.836), **_speed(0.612, 0.172, 0.238, 9090.0)},
        "tfidf": {**_score(0.8161, 0.8120, 0.112, 0.764), **_speed(2.94, 1.12, 1.41, 5210.0)},
    }


def _front() -> list[dict[str, Any]]:
    rows = [
        ("static-64", "static", 0.21, 0.031, 0.044, 42, 0.846, "front", ""),
        ("static-128-window", "static", 0.43, 0.048, 0.066, 43, 0.874, "front", ""),
        ("static-256", "static", 0.81, 0.055, 0.079, 45, 0.868, "dominated", ""),
        ("encoder-2x128", "encoder", 0.61, 0.168, 0.231, 61, 0.897, "winner", ""),
        ("encoder-2x192", "encoder", 0.94, 0.262, 0.341, 64, 0.899, "front", ""),
        ("encoder-4x128", "encoder", 0.78, 0.311, 0.402, 63, 0.893, "dominated", ""),
        ("encoder-2x96", "encoder", 0.47, 0.139, 0.188, 60, 0.861, "eliminated", "behind after the first round"),
        ("cut-3-layers", "encoder", 0.98, 0.612, 0.845, 66, 0.884, "eliminated", "behind after the second round"),
        ("encoder-4x256", "encoder", 1.61, 0.702, 0.911, 72, None, "dropped", "1.61 MiB is above the budget of 1 MiB"),
        ("encoder-4x512", "encoder", 4.42, 1.93, 2.41, 91, None, "dropped", "4.42 MiB is above the budget of 1 MiB"),
        ("cut-6-layers", "encoder", 11.2, 4.87, 5.90, 118, None, "dropped", "p95 of 5.90 ms is above 1 ms"),
    ]
    keys = [
        "name",
        "family",
        "size_mib",
        "latency_ms_p50",
        "latency_ms_p95",
        "memory_mib",
        "accuracy",
        "state",
        "reason",
    ]
    return [dict(zip(keys, row, strict=True)) for row in rows]


def _per_class() -> list[dict[str, Any]]:
    rng = np.random.default_rng(4)
    rows = []
    for label in LABELS:
        n = int(rng.integers(20, 25))
        right = int(rng.binomial(n, 0.93))
        ours = int(np.clip(right + rng.choice([-3, -2, -1, -1, 0, 0, 0, 0, 1, 1, 2]), 0, n))
        teacher, student = right / n, ours / n
        rows.append(
            {
                "label": label,
                "n": n,
                "teacher_recall": teacher,
                "student_recall": student,
                "teacher_f1": min(1.0, teacher * 0.99),
                "student_f1": min(1.0, student * 0.985),
            }
        )
    return rows


def _stages() -> list[dict[str, Any]]:
    rows = [
        ("teacher", 0.9215, 87.1, 9.94, "fine-tuned, 6 epochs"),
        ("distil", 0.9157, 4.21, 0.264, "2 layers × 128, inherited by PCA and layer selection"),
        ("vocabulary", 0.9157, 2.38, 0.252, "30,522 → 4,911 pieces, same ids for kept text"),
        ("prune", 0.9138, 2.11, 0.219, "a quarter of the feed-forward neurons, 2 epochs of recovery"),
        ("quantize", 0.9119, 0.612, 0.171, "embeddings in 4 bits, linear layers in 8"),
    ]
    keys = ["name", "accuracy", "size_mib", "latency_ms_p50", "note"]
    return [dict(zip(keys, row, strict=True)) for row in rows]


def story() -> dict[str, Any]:
    """Everything that a build writes to report.json."""
    confidences = [0.33, 0.42, 0.51, 0.57, 0.64, 0.71, 0.77, 0.84, 0.90, 0.98]
    accuracies = [0.25, 0.46, 0.50, 0.61, 0.60, 0.74, 0.80, 0.82, 0.92, 0.985]
    counts = [4, 9, 12, 15, 18, 22, 27, 41, 66, 308]
    keys = ("text", "truth", "teacher", "student", "confidence")
    names = [(text, LABELS[t], LABELS[a], LABELS[b], c) for text, t, a, b, c in DIFFERENCES]
    return {
        "name": "helpdesk",
        "task": "classify",
        "verdict": None,
        "passed": True,
        "reasons": [],
        "labels": list(LABELS),
        "measurements": _measurements(),
        "gate": {
            "passed": True,
            "retention": 0.9119 / 0.9215,
            "gap_closed": 0.909,
            "size_ratio": 142.3,
            "speed_ratio": 58.1,
            "reasons": [],
        },
        "paired": {
            "teacher": {"difference": -0.0096, "interval": [-0.0268, 0.0077], "mcnemar_p": 0.3593},
            "student_without_teacher": {"difference": 0.0403, "interval": [0.0192, 0.0613], "mcnemar_p": 0.0003},
            "tfidf": {"difference": 0.0958, "interval": [0.069, 0.1226], "mcnemar_p": 1.2e-11},
        },
        "parity": {"texts": 522, "label_agreement": 1.0, "max_probability_difference": 0.00041},
        "front": _front(),
        "stages": _stages(),
        "per_class": _per_class(),
        "confusions": [
            {"truth": "outage_credit", "answer": "refund_request", "student": 5, "teacher": 2},
            {"truth": "payment_extension", "answer": "payment_failed", "student": 3, "teacher": 1},
            {"truth": "connection_drops", "answer": "outage_report", "student": 4, "teacher": 3},
            {"truth": "bill_explanation", "answer": "move_home", "student": 1, "teacher": 0},
            {"truth": "router_fault", "answer": "complaint", "student": 1, "teacher": 0},
        ],
        "calibration": {
            "bins": [
                {"confidence": c, "accuracy": a, "n": n}
                for c, a, n in zip(confidences, accuracies, counts, strict=True)
            ],
            "ece": 0.024,
            "temperature": 1.31,
        },
        "differences": [dict(zip(keys, row, strict=True)) for row in names],
        "data": {
            "counts": {
                "train": 1743,
                "validation": 97,
                "calibration": 97,
                "test": 522,
                "unlabelled": 0,
                "augmented": 13944,
            },
            "faults": [
                {
                    "kind": "near-duplicate",
                    "message": "2 training texts are nearly those of the test split; left out",
                    "rows": [212, 1408],
                },
                {"kind": "conflict", "message": "one text carries two labels; the first is kept", "rows": [37, 991]},
                {"kind": "empty", "message": "3 rows without text; left out", "rows": [5, 640, 641]},
            ],
        },
        "recipe": RECIPE,
        "seeds": {"build": 0},
        "machine": {
            "processor": "AMD EPYC 9354 32-Core Processor",
            "cores": 2,
            "memory_gib": 23.4,
            "system": "Linux x86_64",
            "python": "3.11.2",
            "packages": {"numpy": "2.4.6", "onnxruntime": "1.31.1", "tokenizers": "0.23.3", "torch": "2.13.0"},
        },
        "seconds": {
            "data": 0.8,
            "teacher": 74.2,
            "signals": 11.9,
            "plan": 58.3,
            "distil": 96.4,
            "prune": 21.0,
            "quantize": 3.1,
            "package": 1.2,
            "gate": 38.6,
        },
        "budget": {"size_mib": 1, "latency_ms_p95": 1, "memory_mib": None, "keep": 0.97},
    }
