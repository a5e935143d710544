"""What runs inside the process of :mod:`.python_tool`: sets limits, then runs the program of standard input.

Arguments: the most seconds of the processor, bytes of memory, bytes of a file, and ``1`` where the program may start
processes. The value of a last expression is printed, as at a prompt, and of an exception its last line alone.
"""

import ast
import contextlib
import resource
import signal
import sys
import traceback

_REFUSED = ("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.", "pty.",
            "socket.", "ctypes.", "os.kill", "resource.setrlimit", "resource.prlimit")  # fmt: skip
"""Audit events of what a calculation does not need."""


def limit(seconds: int, memory: int, file: int, *, processes: bool) -> None:
    """Hard limits of this process and of all that it starts; the program cannot raise them again."""
    for kind, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit of address space
            resource.setrlimit(kind, (least, least))
    signal.alarm(seconds + 1)  # where nobody is left to end it
    if processes:
        return
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # does not bind the superuser, so the hook refuses as well

    def refuse(event: str, _: tuple[object, ...]) -> None:
        if event.startswith(_REFUSED):
            raise PermissionError(f"{event} is not allowed here")

    sys.addaudithook(refuse)


def run(program: str) -> None:
    """The statements of a program, and the value of a last expression."""
    tree = ast.parse(program, "program")
    names: dict[str, object] = {"__name__": "__main__"}
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "program", "exec"), names)  # noqa: S102  this is what the process is for
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), "program", "eval"), names)  # noqa: S307
        if value is not None:
            print(value)


def main() -> int:
    """The exit code: 0, or 1 where the program raised an exception."""
    seconds, memory, file, processes = map(int, sys.argv[1:])
    program = sys.stdin.read()
    limit(seconds, memory, file, processes=bool(processes))
    try:
        run(program)
    except Exception as error:  # noqa: BLE001  the program's own, which is its result
        print(traceback.format_exception_only(error)[-1].strip())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
