"""Cases that need no peer and no torch, also for the child processes that measure memory."""

from benchmarks.case import Case, Contender, DisagreementError, Goal

MIB = 2**20


def allocate(inputs):
    return lambda: bytearray(b"x") * (64 * MIB)


def nothing(inputs):
    return lambda: None


def agree(answers):
    if len(set(answers.values())) > 1:
        raise DisagreementError(f"answers are {answers}")
    return "all answers equal"


MEMORY = Case(
    name="memory",
    work="allocate 64 MiB, or nothing",
    make_inputs=lambda quick: None,
    contenders=(Contender("nothing", nothing, "ours"), Contender("64 MiB", allocate)),
    check=lambda answers: "not compared",
)
SMALL = Case(
    name="small",
    work="add one",
    make_inputs=lambda quick: 1 if quick else 41,
    contenders=(
        Contender("ours", lambda inputs: lambda: inputs + 1, "ours"),
        Contender("peer", lambda inputs: lambda: inputs + 1),
        Contender("bound", lambda inputs: lambda: None, "bound"),
    ),
    check=agree,
    goals=(Goal("ours", "peer", speed=1e-6), Goal("ours", memory_mib=32)),
    images_per_call=1,
    rounds=3,
    memory=False,
)
WRONG = Case(
    name="wrong",
    work="give different answers",
    make_inputs=lambda quick: None,
    contenders=(Contender("ours", lambda inputs: lambda: 1, "ours"), Contender("peer", lambda inputs: lambda: 2)),
    check=agree,
    memory=False,
)
CASES = (MEMORY, SMALL, WRONG)
