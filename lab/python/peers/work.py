"""The function that everybody runs."""


def noop(argument):
    return argument
