"""Cannot be imported."""
import keelback
import a_module_that_nobody_has  # noqa: F401


@keelback.function
def hello():
    return "never"
