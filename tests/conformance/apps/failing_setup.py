"""An application that can be imported and not be set up."""

import keelback


@keelback.worker_setup
def broken():
    raise RuntimeError("the model file is missing")


@keelback.function
def never():
    return None
