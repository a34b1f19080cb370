"""Variables and devices that the configuration gives to workers."""

from table import FORK, add

DEVICES = ["0", "1", "GPU-7"]


def is_of_its_slot(i, answer):
    slot = int(answer["slot"])
    device = DEVICES[(slot - 1) % 3]
    own = f"91{slot}-{slot}"
    return (
        answer["setup"] == answer["call"] == ["a,b", own, "over what was there"]
        and answer["devices"] == [device] * 3
        and answer["child"] in ("", own)
    )


def import_saw_what_is_the_same_for_all(run):
    assert len({answer["slot"] for answer in run.answers}) > 1, "one worker took all calls"
    forked = run.mode == FORK
    for answer in run.answers:
        same, own, over, device = answer["import"]
        assert [same, over] == ["a,b", "over what was there"], answer
        assert own == (None if forked else answer["call"][1]), answer
        assert device == (None if forked else answer["devices"][0]), answer
        # A function of os.register_at_fork is the first thing of the application in a worker.
        assert answer["at_fork"] == (answer["call"][1] if forked else None), answer


add(
    "Given",
    "variables and devices of the configuration",
    FORK,
    """
    import subprocess
    NAMES = ("SAME", "OWN", "OVER")
    at_import = [*map(os.environ.get, NAMES), keelback.device()]
    at_fork = None

    def note():
        global at_fork
        at_fork = os.environ.get("OWN")

    os.register_at_fork(after_in_child=note)

    @keelback.worker_setup
    def look():
        global in_setup
        in_setup = [os.environ[name] for name in NAMES]

    @keelback.function
    def seen(n):
        child = ""
        if n % 50 == 0:
            child = subprocess.check_output(["sh", "-c", "echo $OWN"], text=True).strip()
        return {
            "slot": os.environ["KEELBACK_WORKER"].partition(".")[0],
            "import": at_import, "setup": in_setup, "at_fork": at_fork,
            "call": [os.environ[name] for name in NAMES],
            "devices": [keelback.device(), os.environ["CUDA_VISIBLE_DEVICES"],
                        os.environ["ROCR_VISIBLE_DEVICES"]],
            "child": child,
        }
""",
    lambda i: ("seen", [i]),
    is_of_its_slot,
    after=import_saw_what_is_the_same_for_all,
    settings={
        "workers.env": "SAME=a\\,b,OWN=91{slot}-{slot},OVER=over what was there",
        "workers.devices": ",".join(DEVICES),
    },
    environment={"OVER": "there before", "KEELBACK_DEVICE": "of another pool"},
)


def has_none(i, answer):
    return answer == [None, None]


add(
    "Given",
    "no devices",
    FORK,
    """
    @keelback.function
    def seen():
        return [keelback.device(), os.environ.get("CUDA_VISIBLE_DEVICES")]
""",
    lambda i: ("seen", []),
    has_none,
    environment={"KEELBACK_DEVICE": "of another pool", "CUDA_VISIBLE_DEVICES": None},
)
