import CLinux
import Glibc
import Kernel
import WardenProtocol

// Theory of operation
//
// A started interpreter is the job's own process after an execve: confined already, on the cell's uid, with the socket to
// the warden as its only open descriptor beside 0, 1 and 2. Its program imports what the policy names, says `ready` and
// waits for the order. Then it does what `JobProcess` does for a program, reads the script and runs it as `__main__`, so
// that a script finds what `python3 -I -B -u script args` would give it: the same flags, arguments, environment, working
// directory and streams. Its own frame is taken off a traceback. The socket is closed before the first byte of the script
// is read; nothing of the job's was in the cell before.
//
// What differs, and is said in the docs: modules of the policy's list are in sys.modules from the start. And a script that
// ends by itself ends at once. Threads are waited for, atexit callbacks run, the script's own names are let go of and
// collected, which closes its files, and the streams are flushed; but the interpreter and its libraries are not taken
// apart object by object, since the kernel does that as well: 0.6 ms instead of 2.9, and with json, csv, decimal and
// datetime imported 0.9 instead of 5.5. A script that ends by an exception or a signal ends as python3 ends it.

/// A python3 that waits for an order.
struct PythonProgram {
  var imports: [String]

  /// The interpreter with our program.
  var execution: Execution {
    Execution(
      path: CellRuntime.pythonCommand[0],
      arguments: CellRuntime.pythonCommand + ["-c", preparation + "\n" + PythonProgram.wait],
      environment: PythonProgram.environment)
  }

  static let environment = ["PATH=/usr/bin:/usr/sbin", "LANG=C.UTF-8", "HOME=/tmp", "TZ=UTC"]

  /// What can be done once for many: the imports, and our program as functions. Names were checked to be dotted
  /// identifiers. What is there by the end of it the collector never looks at again, so that it writes to none of it. The
  /// order is a `JobCall`, behind the byte that `PacketSocket` puts first.
  var preparation: String {
    """
    import atexit, gc, os, sys, time, _signal, _socket
    for name in \(imports):
      __import__(name)
    globals().pop("name", None)
    def order():
      warden = _socket.socket(fileno=\(CellDescriptors.socket))
      warden.send(bytes([0, \(CellMessage.readyTag)]))
      data, control, _, _ = warden.recvmsg(\(PacketSocket.inlineLimit + 1), _socket.CMSG_SPACE(32))
      if not data:
        os._exit(0)
      given = []
      for _, _, body in control:
        given += [int.from_bytes(body[at:at + 4], sys.byteorder) for at in range(0, len(body) // 4 * 4, 4)]
      if data[0] == 1:
        memory = given.pop(0)
        data = bytes(1) + os.pread(memory, os.fstat(memory).st_size, 0)
        os.close(memory)
      count = int.from_bytes(data[1:5], "little")
      texts = data[9:].split(bytes(1))[:-1]
      arguments = [os.fsdecode(text) for text in texts[:count]]
      variables = [text.split(b"=", 1) for text in texts[count:]]
      for target, descriptor in enumerate(given):
        os.dup2(descriptor, target)
        os.close(descriptor)
      os.environb.clear()
      os.environb.update(variables)
      time.tzset()
      os.chdir("\(Template.Path.job)")
      sys.orig_argv = arguments
      sys.argv = arguments[\(CellRuntime.pythonCommand.count):]
      since = (time.monotonic_ns() // 1000).to_bytes(8, "little")
      warden.send(bytes([0, \(CellMessage.runningTag)]) + since)
      warden.close()
    def run(script):
      status = 0
      main = type(sys)("__main__")
      main.__dict__.update(__file__=script, __builtins__=__builtins__, __cached__=None, __annotations__={})
      sys.modules["__main__"] = main
      try:
        with open(script, "rb") as file:
          source = file.read()
        exec(compile(source, script, "exec", dont_inherit=True), main.__dict__)
      except SystemExit as stop:
        if not (stop.code is None or type(stop.code) is int):
          raise
        status = (stop.code or 0) & 255
      except BaseException as error:
        error = error.with_traceback(error.__traceback__.tb_next)
        sys.excepthook(type(error), error, error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
          _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
          os.kill(os.getpid(), _signal.SIGINT)
        sys.exit(1)
      leave(main.__dict__, status)
    def leave(names, status):
      if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
      atexit._run_exitfuncs()
      for private in (True, False):
        for name in list(names):
          if name != "__builtins__" and (name[:1] == "_" and name[1:2] != "_") == private:
            names[name] = None
      gc.collect()
      for stream in (sys.stdout, sys.stderr):
        try:
          if stream is not None and not stream.closed:
            stream.flush()
        except Exception:
          status = status or 120
      os._exit(status)
    gc.collect()
    gc.freeze()
    """
  }

  /// What each cell does, after `preparation`.
  static let wait = "order()\nrun(sys.argv[0])\n"
}
