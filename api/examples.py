"""The request examples of the OpenAPI document. A test sends each of them to the API."""

from fastapi.openapi.models import Example

TRACE_ID = "019aa000-0000-7000-8000-000000000001"
RESOLUTION_ID = "019aa000-0000-7000-8000-000000000002"
PLAN_ID = "019aa000-0000-7000-8000-000000000003"

GOAL_EXAMPLES: dict[str, Example] = {
    "short": {
        "summary": "A goal in one sentence",
        "value": {"goal": "I want to run a 5K by end of Q1", "user_id": "user-42"},
    },
    "whole": {
        "summary": "With everything that helps",
        "value": {
            "goal": "I want to hold a conversation in Spanish with my neighbours",
            "user_id": "user-43",
            "locale": "en-GB",
            "time_zone": "Europe/London",
            "context": {
                "experience": "School Spanish, fifteen years ago",
                "constraints": "A tight work schedule; evenings only",
                "hours_per_week": 3,
                "rest_days": ["Sun"],
            },
        },
    },
}

RERUN_EXAMPLES: dict[str, Example] = {
    "plan": {"summary": "Only the plan again", "value": {"from_stage": "plan"}},
    "model": {
        "summary": "A new resolution, with another model and a named prompt version",
        "value": {
            "from_stage": "generate",
            "model": "gemini-2.5-flash",
            "prompts": {"generate": 1},
        },
    },
}

FEEDBACK_EXAMPLES: dict[str, Example] = {
    "stars": {
        "summary": "Only stars",
        "value": {"trace_id": TRACE_ID, "user_id": "user-42", "rating": 4.5},
    },
    "whole": {
        "summary": "With dimensions and a comment",
        "value": {
            "trace_id": TRACE_ID,
            "user_id": "user-42",
            "rating": 4,
            "usefulness": True,
            "clarity": True,
            "motivation": False,
            "comment": "Clear steps, but three runs a week is tight for me",
        },
    },
}
