// Theory of operation
//
// The warden is the only privileged process beside the worker, and the only one that makes cells. It has one thread,
// no allocation-heavy library and no database login, so a flaw in a job's data cannot reach what it does not hold. It
// sleeps in epoll(7) on the control socket, on SIGTERM and on its cells; see `Supervisor`.
//
// Before the first order it moves to a mount namespace whose root is the cells' template (`Template`), to a network
// namespace without a network, and gives up what making cells does not take (`OwnConfinement`). A cell begins as two
// processes in fresh namespaces and groups: its init (`CellInit`), and the one that will be the job (`JobProcess`). Both
// are made as vfork(2) does, in the warden's memory while it waits, and then execute `cordon-cell` (`CellProgram`). Where a
// policy asks for it, the warden executes its own program once more as a `Zygote`, from which jobs are forked.

import CLinux
import Glibc
import Kernel
import WardenProtocol

/// Descriptor of the control socket, by agreement with the worker that spawns us.
let controlDescriptor: Int32 = 3

func warn(_ text: String) {
  let line = "cordon-warden: \(text)\n"
  _ = write(STDERR_FILENO, line, line.utf8.count)
}

func run() -> Int32 {
  let configuration: Configuration
  do { configuration = try Configuration(arguments: Array(CommandLine.arguments.dropFirst())) } catch {
    warn("\(error.message)\n\(Configuration.usage)")
    return 2
  }
  guard isSocket(controlDescriptor) else {
    warn("descriptor \(controlDescriptor) is not a socket; a worker starts this program\n\(Configuration.usage)")
    return 2
  }
  let control = PacketSocket(Descriptor(owning: controlDescriptor))
  do {
    let host = try Host.prepare(configuration)
    let supervisor = try Supervisor(host: host, control: control, pool: configuration.pool)
    try OwnConfinement.apply()
    return supervisor.run()
  } catch let refusal as Refusal {
    warn("\(refusal.control): \(refusal.stage): errno \(refusal.errno); \(refusal.fix)")
    try? control.send(WardenReply.cannot(refusal).encoded)
  } catch {
    warn("\(error)")
    try? control.send(WardenReply.cannot(Refusal(control: "start", stage: "\(error)")).encoded)
  }
  return 1
}

func isSocket(_ descriptor: Int32) -> Bool {
  var status = stat()
  return fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK
}

if String(cString: cordon_invocation_name()) == ZygoteProcess.arguments[0] { ZygoteProcess.run() }
exit(run())
