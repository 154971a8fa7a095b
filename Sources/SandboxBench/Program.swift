/// What the contenders are asked to run.
struct Program: Hashable, Sendable {
  /// As the table shows it.
  var name: String
  var arguments: [String]
  /// Text of a `main.py` that has to lie where `arguments` say, at /job/main.py inside a cell.
  var script: String?

  static let nothing = Program(name: "true", arguments: ["/usr/bin/true"])
  static let python = Program(name: "python3 -c pass", arguments: ["/usr/bin/python3", "-c", "pass"])
  /// As a job's program is run: from a file, isolated from the environment, nothing cached, unbuffered.
  static let script = Program(
    name: "python3 -IBu main.py", arguments: ["/usr/bin/python3", "-I", "-B", "-u", "/job/main.py"], script: "pass\n")
  static let sleep = Program(name: "sleep", arguments: ["/usr/bin/sleep", "3600"])

  /// What a warm interpreter has imported before its script is there; the plain one, which needs none of it, has not.
  static let imports = ["json"]
  /// Ends well only where that is so.
  static let importedAlready = Program(
    name: "control of warm cells", arguments: Program.script.arguments,
    script: "import sys\nsys.exit(0 if \"json\" in sys.modules else 3)\n")

  /// Ends well only in an interpreter that executes another program's file.
  static let forked = Program(
    name: "control of forked cells", arguments: Program.script.arguments,
    script: "import os, sys\nsys.exit(3 if \"python\" in os.readlink(\"/proc/self/exe\") else 0)\n")

  /// What must not end well where a limit holds, and its control: the same within the limit, which must.
  struct Probe: Sendable {
    var limit: String
    var beyond: Program
    var within: Program

    var programs: [Program] { [beyond, within] }
  }

  /// For the memory and the processes of `Limits()`: 256 MiB and 64.
  static let probes = [
    Probe(limit: "memory", beyond: touch(mebibytes: 512), within: touch(mebibytes: 128)),
    Probe(limit: "pids", beyond: fork(100), within: fork(30)),
  ]

  private static func touch(mebibytes: Int) -> Program {
    Program(
      name: "touch \(mebibytes) MiB",
      arguments: [
        "/usr/bin/python3", "-c", "b = bytearray(\(mebibytes) << 20)\nfor i in range(0, len(b), 4096): b[i] = 1",
      ])
  }

  private static func fork(_ processes: Int) -> Program {
    Program(
      name: "start \(processes) processes",
      arguments: [
        "/usr/bin/python3", "-c",
        """
        import os, signal
        children = []
        try:
            for i in range(\(processes)):
                child = os.fork()
                if child == 0: signal.pause()
                children.append(child)
        finally:
            for child in children: os.kill(child, signal.SIGKILL)
        """,
      ])
  }

  /// The environment of every contender's program.
  static let environment = [("PATH", "/usr/bin:/usr/sbin"), ("LANG", "C.UTF-8"), ("HOME", "/tmp")]
}
