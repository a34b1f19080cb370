"""The application that the performance laboratory measures batches with. Its functions are those of peers/work.py."""
import os

import keelback

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # a worker is one thread, as everywhere
try:
    import numpy
except ImportError:
    numpy = None


@keelback.function(idempotent=True, batch=32, batch_wait="2ms")
def noop_batch(value: "list[int]"):
    """Returns its arguments."""
    return value


@keelback.function(idempotent=True)
def noop_alone(value):
    """The same, one by one."""
    return value


if numpy is not None:
    _WEIGHTS = numpy.random.default_rng(1).standard_normal((2, 512, 512), dtype=numpy.float32) / 16

    def _model(values):
        rows = numpy.outer(numpy.asarray(values, dtype=numpy.float32), numpy.linspace(0, 1, 512, dtype=numpy.float32))
        for weights in _WEIGHTS:
            rows = numpy.tanh(rows @ weights)
        return rows.sum(axis=1).tolist()

    @keelback.function(idempotent=True, batch=32, batch_wait="2ms")
    def model_batch(value: "list[float]"):
        """Two layers of a small network, for all calls of the batch at once."""
        return _model(value)

    @keelback.function(idempotent=True)
    def model_alone(value):
        """The same, one by one."""
        return _model([value])[0]
