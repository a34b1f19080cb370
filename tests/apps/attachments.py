"""What lab/bench/attachments_bench.cpp calls."""

import base64

import keelback


@keelback.function
def take(data):
    return len(data)


@keelback.function(zero_copy=True)
def look(data):
    return data.nbytes


@keelback.function
def echo(data):
    return data


@keelback.function
def take_text(text):
    return len(base64.b64decode(text))


@keelback.function
def echo_text(text):
    return base64.b64encode(base64.b64decode(text)).decode()
