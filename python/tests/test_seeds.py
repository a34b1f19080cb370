"""Random numbers: workers draw different ones, unless the import gave a seed; in both modes."""

import textwrap
import unittest

from supervisor import SupervisorTest

# What the tests need of NumPy, which they do without.
MTRAND = """
    import random

    class RandomState(random.Random):
        pass

    _rand = RandomState()

    def seed(seed=None):
        _rand.seed(seed)

    def get_state():
        return _rand.getstate()

    def set_state(state):
        _rand.setstate(state)

    def random_sample():
        return _rand.random()
"""
DRAW = """
    @keelback.function
    def draw():
        return [random.random(), numpy.random.random_sample()]
"""


class Seeds(SupervisorTest):
    def drawn(self, source):
        """What two forked workers and one started by exec draw first."""
        self.app("", "numpy/__init__.py")
        self.app(
            "from .mtrand import *\n"
            "from .mtrand import _rand, get_state, random_sample, seed, set_state\n",
            "numpy/random/__init__.py",
        )
        self.app(MTRAND, "numpy/random/mtrand.py")
        app = self.app(
            "import random, numpy.random, keelback\n"
            + textwrap.dedent(source)
            + textwrap.dedent(DRAW)
        )
        self.started = self.zygote(app)
        self.started.expect("ready")
        workers = [
            self.started.fork("0.1").wait_ready(),
            self.started.fork("1.1").wait_ready(),
            self.exec_worker(app).wait_ready(),
        ]
        return [worker.call("draw").value for worker in workers]

    def all_equal(self, drawn):
        return [len(set(values)) == 1 for values in zip(*drawn)]

    def all_differ(self, drawn):
        return [len(set(values)) == 3 for values in zip(*drawn)]

    def test_without_a_seed_all_workers_differ(self):
        self.assertEqual([True, True], self.all_differ(self.drawn("")))

    def test_numbers_that_were_drawn_are_no_seed(self):
        self.assertEqual(
            [True, True],
            self.all_differ(self.drawn("random.random()\nnumpy.random.random_sample()\n")),
        )

    def test_with_a_seed_all_workers_go_on_from_it_in_both_modes(self):
        for seed in (
            "random.seed(42); numpy.random.seed(42)",
            "random.seed(a='x', version=2); numpy.random.seed(seed=7)",
            "from random import seed\nseed(0)\nfrom numpy.random import seed\nseed(0)",
        ):
            self.assertEqual(
                [True, True], self.all_equal(self.drawn(seed + "\nrandom.random()\n")), seed
            )

    def test_a_state_that_is_set_is_a_seed(self):
        drawn = self.drawn(
            "random.setstate(random.Random(3).getstate())\n"
            "numpy.random.set_state(random.Random(3).getstate())\n"
        )
        self.assertEqual([True, True], self.all_equal(drawn))

    def test_a_seed_for_a_while_is_none(self):
        drawn = self.drawn("""
            state = random.getstate(), numpy.random.get_state()
            random.seed(0)
            numpy.random.seed(0)
            random.setstate(state[0])
            numpy.random.set_state(state[1])
        """)
        self.assertEqual([True, True], self.all_differ(drawn))

    def test_a_seed_that_is_taken_back_is_none(self):
        self.assertEqual(
            [True, True],
            self.all_differ(
                self.drawn(
                    "random.seed(1)\nrandom.seed()\nnumpy.random.seed(1)\nnumpy.random.seed(None)\n"
                )
            ),
        )

    def test_a_seed_while_another_state_is_kept_returns_with_it(self):
        drawn = self.drawn(
            "random.seed(5)\nstate = random.getstate()\nrandom.seed()\nrandom.setstate(state)\n"
        )
        self.assertEqual([True, False], self.all_equal(drawn))

    def test_the_functions_are_pythons_own_again(self):
        self.drawn("""
            @keelback.function
            def ours():
                import tempfile
                return [random.seed.__self__ is random._inst, random.Random.seed.__module__,
                        numpy.random.seed.__module__, numpy.random.seed is numpy.random.mtrand.seed,
                        tempfile.mkdtemp.__code__.co_filename == tempfile.__file__]
        """)
        self.assertEqual(
            [True, "random", "numpy.random.mtrand", True, True],
            self.started.fork("2.1").wait_ready().call("ours").value,
        )

    def test_generators_of_its_own_are_named_in_a_notice(self):
        self.drawn("""
            OWN = random.Random()
            class Holder:
                generator = numpy.random.RandomState()
            SEEDED = random.Random(42)
            SYSTEM = random.SystemRandom()
            import tempfile
            tempfile._get_candidate_names()
        """)
        (notice,) = self.started.notices
        self.assertIn(
            "every forked worker: 2 (app.OWN, a random.Random, numpy.random.mtrand.RandomState); "
            "make them in @keelback.worker_setup",
            notice,
        )

    def test_temporary_files_that_are_shared_are_named_in_a_notice(self):
        self.drawn("""
            import os, tempfile
            folder = tempfile.mkdtemp()
            os.rmdir(tempfile.mkdtemp())
            import atexit
            atexit.register(os.rmdir, folder)
        """)
        (notice,) = self.started.notices
        self.assertIn("the same for every forked worker: 1 (", notice)
        self.assertIn("(by app)", notice)


if __name__ == "__main__":
    unittest.main()
