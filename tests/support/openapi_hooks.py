"""For schemathesis (tests/e2e/openapi_test.py): HTTP says that a header nobody knows is ignored, so such a request is none to refuse."""
import schemathesis


@schemathesis.hook
def filter_case(context, case):
    return "x-schemathesis-unknown-property" not in (case.headers or {})
