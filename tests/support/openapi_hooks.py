"""For schemathesis (tests/e2e/openapi_test.py): what its checks cannot know.

HTTP says that a header nobody knows is ignored, so such a request is none to refuse. A parent that does not run makes a call `cancelled`, whatever
else is wrong with it, and the numbers that are made up here name no call that runs: such a header is left out. So is the signature of a node, which
nobody can make up: with it every answer would be 401.
"""
import schemathesis


@schemathesis.hook
def filter_case(context, case):
    return "x-schemathesis-unknown-property" not in (case.headers or {})


@schemathesis.hook
def before_call(context, case, kwargs):
    parent = str((case.headers or {}).get("Keelback-Parent", ""))
    if parent.isdecimal() and int(parent) > 0:
        del case.headers["Keelback-Parent"]
    (case.headers or {}).pop("Keelback-Hop", None)
