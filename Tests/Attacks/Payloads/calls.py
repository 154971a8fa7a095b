# Every system call by its number, each in a child of its own that the call may end, block or ruin. The answer is `ok`,
# the errno, `signal N`, or `left` where the call ended the child by itself. The last argument is for how long, in seconds,
# a child may block.
import mmap, signal

kind, first, last, patience = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
OK = 250


def by_number(number):
    return libc.syscall(ctypes.c_long(number), *[ctypes.c_long(0)] * 6)


if kind == "int80":
    # mov eax, edi; xor ebx, ecx, edx, esi, edi, ebp; int 0x80; ret, with what the caller needs kept on the stack.
    code = bytes.fromhex("5355" "89f8" "31db" "31c9" "31d2" "31f6" "31ff" "31ed" "cd80" "5d5b" "c3")
    area = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    area.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(area)))

answers = {}
for number in range(first, last + 1):
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_REAL, patience)
        ctypes.set_errno(0)
        if kind == "int80":
            value = function(number)
            os._exit(-value if -200 < value < 0 else OK)
        value = by_number(number | 0x40000000 if kind == "x32" else number)
        os._exit(ctypes.get_errno() if value == -1 else OK)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        answers[number] = f"signal {os.WTERMSIG(status)}"
    else:
        met = os.WEXITSTATUS(status)
        answers[number] = "ok" if met == OK else "left" if met == 0 else spelled(met)
note("answers", answers)
