/// What the self-test's program printed inside a cell, and what follows from it.
struct Inspection {
  static let namespaceNames = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]

  static let script = looks + attempts

  /// Looks, and prints sections that start with `@@ NAME`. Changes nothing.
  static let looks = #"""
    section() { printf '@@ %s\n' "$1"; }
    section fd; ls -l /proc/self/fd
    section status; cat /proc/self/status
    section mountinfo; cat /proc/self/mountinfo
    section interfaces; cat /proc/self/net/dev
    section route; cat /proc/self/net/route
    section route6; cat /proc/self/net/ipv6_route
    section processes; ls /proc | grep -E '^[0-9]+$'
    section sockets; find /run /var /tmp /dev /etc /output /result -type s
    section namespaces; for n in cgroup ipc mnt net pid user uts; do echo "$n $(readlink /proc/self/ns/$n)"; done
    """# + "\n"

  /// Tries what must not work, and for comparison what must, and prints what came of it.
  private static let attempts = #"""
    try() { section "try $1"; shift; if "$@" >/dev/null 2>&1; then echo done; else echo "no $?"; fi; }
    write() { : > "$1"; }
    try write:/output/probe write /output/probe
    try write:/tmp/probe write /tmp/probe
    for d in / /usr /etc /input /job /proc /dev; do try "write:$d/probe" write "$d/probe"; done
    try write:/input/probe.new write /input/probe.new
    try overwrite:/input/probe write /input/probe
    try read:/input/probe cat /input/probe
    try unshare unshare --user --map-root-user true
    try mount mount -t tmpfs none /tmp
    try connect bash -c ': < /dev/tcp/192.0.2.1/80'
    try docker test -e /var/run/docker.sock
    try postgresql test -e /var/run/postgresql
    section end
    """# + "\n"

  private let sections: [String: [String]]

  init(transcript: String) {
    var sections: [String: [String]] = [:]
    var name = ""
    for line in transcript.split(separator: "\n") {
      if line.hasPrefix("@@ ") {
        name = String(line.dropFirst(3))
        sections[name] = []
      } else {
        sections[name, default: []].append(String(line))
      }
    }
    self.sections = sections
  }

  /// - Parameters:
  ///   - uid: the uid the job must have inside; nil where a user namespace maps it.
  ///   - namespaces: those the warden says every cell has.
  ///   - own: the namespaces outside, by the kernel's names.
  func findings(uid: UInt32?, namespaces: [String], own: [String: String]) -> [Finding] {
    guard sections["end"] != nil else {
      return [Finding(control: "selftest", holds: false, detail: "the test program did not get to its end")]
    }
    return [
      capabilities, value("NoNewPrivs", is: "1", control: "no_new_privs"),
      value("Seccomp", is: "2", control: "seccomp"), user(uid), groups, separation(namespaces, own), mounts, writes,
      inputs, interfaces, routes, processes, descriptors, sockets, refused,
    ]
  }

  // MARK: - The controls

  private var capabilities: Finding {
    let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
    let held = sets.filter { set in status(set).map { $0.isEmpty || $0.contains { $0 != "0" } } ?? true }
    return finding(
      "capabilities", held.isEmpty, good: "all five sets are empty",
      bad: "not empty: \(held.map { "\($0) \(status($0) ?? "unknown")" }.joined(separator: ", "))")
  }

  private func value(_ field: String, is expected: String, control: String) -> Finding {
    let seen = status(field)
    return finding(
      control, seen == expected, good: "\(field) is \(expected)",
      bad: "\(field) is \(seen ?? "unknown"), not \(expected)",
      fix: "run on a kernel with seccomp filters")
  }

  private func user(_ uid: UInt32?) -> Finding {
    let seen = status("Uid")?.split(separator: "\t").compactMap { UInt32($0) } ?? []
    let holds = seen.count == 4 && Set(seen).count == 1 && seen[0] != 0 && (uid ?? seen[0]) == seen[0]
    return finding("uid", holds, good: "uid \(seen.first ?? 0), all four alike", bad: "uids are \(seen)")
  }

  private var groups: Finding {
    let gids = status("Gid")?.split(separator: "\t").map(String.init) ?? []
    let holds = gids.count == 4 && !gids.contains("0")
    return finding("gid", holds, good: "gid \(gids.first ?? "")", bad: "gids are \(gids)")
  }

  private func separation(_ namespaces: [String], _ own: [String: String]) -> Finding {
    var inside: [String: String] = [:]
    for line in sections["namespaces"] ?? [] {
      let words = line.split(separator: " ")
      if words.count == 2 { inside[String(words[0])] = String(words[1]) }
    }
    let required = Set(namespaces).union(["mnt", "pid", "net", "ipc", "uts", "cgroup"])
    let shared = required.filter { inside[$0] == nil || own[$0] == nil || inside[$0] == own[$0] }.sorted()
    return finding(
      "namespaces", shared.isEmpty, good: required.sorted().joined(separator: ", ") + " are the cell's own",
      bad: "shared with the worker, or unknown: \(shared.joined(separator: ", "))")
  }

  private var mounts: Finding {
    var wrong: [String] = []
    var seen: Set<String> = []
    for line in sections["mountinfo"] ?? [] {
      let fields = line.split(separator: " ").map(String.init)
      guard fields.count > 6 else { continue }
      let (point, options) = (fields[4], Set(fields[5].split(separator: ",").map(String.init)))
      seen.insert(point)
      guard let rule = MountRule.of(point) else {
        wrong.append("\(point) was not granted")
        continue
      }
      let missing = rule.subtracting(options)
      if !missing.isEmpty { wrong.append("\(point) is not \(missing.sorted().joined(separator: ","))") }
    }
    let absent = MountRule.required.filter { !seen.contains($0) }
    if !absent.isEmpty { wrong.append("no mount at \(absent.joined(separator: ", "))") }
    return finding(
      "mounts", wrong.isEmpty, good: "only the granted ones, with their options", bad: wrong.joined(separator: "; "))
  }

  private var writes: Finding {
    var wrong: [String] = []
    for place in ["/", "/usr", "/etc", "/input", "/job", "/proc", "/dev"] where !failed("write:\(place)/probe") {
      wrong.append("\(place) could be written")
    }
    for place in ["/output", "/tmp"] where !worked("write:\(place)/probe") {
      wrong.append("\(place) could not be written")
    }
    return finding(
      "writable", wrong.isEmpty, good: "/output and /tmp, nothing of the root", bad: wrong.joined(separator: "; "))
  }

  private var inputs: Finding {
    let holds = worked("read:/input/probe") && failed("write:/input/probe.new") && failed("overwrite:/input/probe")
    return finding("inputs", holds, good: "readable and read-only", bad: "not readable, or not read-only")
  }

  private var interfaces: Finding {
    // Two lines of heading, then `name: counters`.
    let names = (sections["interfaces"] ?? []).dropFirst(2)
      .map { $0.prefix { $0 != ":" }.trimmingPrefix(while: { $0 == " " }) }.map(String.init)
    return finding(
      "network.interfaces", names == ["lo"], good: "only lo", bad: "interfaces: \(names.joined(separator: ", "))")
  }

  private var routes: Finding {
    // The heading of the IPv4 table; IPv6 routes end in the device's name.
    let routes = (sections["route"] ?? ["", ""]).dropFirst().count
    let foreign = (sections["route6"] ?? [""]).filter { $0.split(separator: " ").last != "lo" }.count
    let holds = routes == 0 && foreign == 0 && failed("connect")
    return finding(
      "network.routes", holds, good: "no route leaves the cell",
      bad: "\(routes) IPv4 and \(foreign) IPv6 routes; a connection \(failed("connect") ? "failed" : "was made")")
  }

  private var processes: Finding {
    let pids = sections["processes"] ?? []
    // The init, the shell, the pipeline that lists.
    let holds = !pids.isEmpty && pids.count <= Self.ownProcesses
    return finding(
      "processes", holds, good: "\(pids.count) visible, all of the cell", bad: "\(pids.count) processes are visible")
  }

  private var descriptors: Finding {
    // `ls` itself holds the directory it lists.
    let open = (sections["fd"] ?? []).compactMap { line -> String? in
      guard let arrow = line.firstRange(of: " -> ") else { return nil }
      let name = line[..<arrow.lowerBound].split(separator: " ").last.map(String.init) ?? ""
      let target = line[arrow.upperBound...]
      return target.hasPrefix("/proc/") && target.hasSuffix("/fd") ? nil : name
    }
    return finding(
      "descriptors", open.sorted() == ["0", "1", "2"], good: "0, 1 and 2", bad: "open: \(open.joined(separator: ", "))")
  }

  private var sockets: Finding {
    let found = sections["sockets"] ?? ["unknown"]
    let holds = found.isEmpty && failed("docker") && failed("postgresql")
    return finding(
      "sockets", holds, good: "no socket of the host is visible",
      bad: "visible: \((found + ["docker", "postgresql"].filter { !failed($0) }).joined(separator: ", "))")
  }

  private var refused: Finding {
    let allowed = ["unshare", "mount"].filter { !failed($0) }
    return finding(
      "system_calls", allowed.isEmpty, good: "no new user namespace, no mount",
      bad: "allowed: \(allowed.joined(separator: ", "))")
  }

  // MARK: - Reading

  private static let ownProcesses = 8

  private func status(_ field: String) -> String? {
    sections["status"]?.first { $0.hasPrefix(field + ":") }
      .map { String($0.dropFirst(field.count + 1).trimmingPrefix { $0 == "\t" || $0 == " " }) }
  }

  private func worked(_ attempt: String) -> Bool { sections["try \(attempt)"] == ["done"] }

  /// Tried, and it did not work. 126 and 127 are the shell's words for a program that is not there to try.
  private func failed(_ attempt: String) -> Bool {
    guard let answer = sections["try \(attempt)"]?.first, answer.hasPrefix("no ") else { return false }
    return answer != "no 126" && answer != "no 127"
  }

  private func finding(
    _ control: String, _ holds: Bool, good: String, bad: String,
    fix: String = "do not run jobs here; report it with the output of `cordon doctor --json`"
  ) -> Finding {
    Finding(control: control, holds: holds, detail: holds ? good : bad, fix: holds ? nil : fix)
  }
}

/// Which mounts a cell has, and the options each must carry.
enum MountRule {
  static let required = ["/", "/usr", "/proc", "/tmp", "/input", "/job", "/output", "/result"]

  /// Nil for a mount that no cell is given.
  static func of(_ point: String) -> Set<String>? {
    switch point {
    case "/", "/usr", "/etc", "/job": ["ro", "nosuid", "nodev"]
    case "/input": ["ro", "nosuid", "nodev", "noexec"]
    case "/tmp": ["rw", "nosuid", "nodev"]
    case "/output", "/result", "/dev/shm": ["rw", "nosuid", "nodev", "noexec"]
    case "/proc": ["nosuid", "nodev", "noexec"]
    case "/dev": ["nosuid"]
    // The device nodes are the host's.
    case "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom": ["ro", "nosuid"]
    default:
      // Parts of the library that the host mounts of its own, and what masks parts of /proc.
      if point.hasPrefix("/usr/") || point.hasPrefix("/etc/") || point.hasPrefix("/proc/") { ["ro"] } else { nil }
    }
  }
}
