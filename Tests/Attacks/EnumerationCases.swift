import Foundation
import Jobs
import TestKit

/// Everything there is of one kind: calls, families and requests against what the documented policy says of each, and
/// every namespace.
enum EnumerationCases {
  static let all: [AttackCase] = [calls, x32, int80, families, requests, views]

  private static let lastCall = 1_023
  private static let asks: [String: JSONValue] = [
    "limits": .object(["wall": .string("\(Int(60 * patience))s"), "pids": .integer(256)])
  ]

  /// Arguments of `calls.py`. Native calls may block, each for as long as they are given; the others are killed at once, and
  /// may have the time that a busy host takes for that.
  private static func words(_ kind: String, _ numbers: ClosedRange<Int>) -> [String] {
    [kind, String(numbers.lowerBound), String(numbers.upperBound), String((kind == "native" ? 0.15 : 1) * patience)]
  }

  /// uretprobe and uprobe: the kernel lets them past every filter since 6.14, and they do nothing where no probe is.
  private static let pastEveryFilter = 335...336

  private static func answers(_ evidence: Evidence) -> [Int: String] {
    guard case .object(let members)? = evidence.seen["answers"] else { return [:] }
    var answers: [Int: String] = [:]
    for (number, answer) in members { if let number = Int(number) { answers[number] = answer.string } }
    return answers
  }

  /// Alone, because it lasts for seconds and uses a processor altogether.
  private static let calls = AttackCase(
    id: "KS+a", what: "every system call 0…1023 of the architecture",
    payload: .file("calls.py"), arguments: { _ in words("native", 0...lastCall) }, asks: asks,
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      let found = answers(evidence)
      verdict.equal(found.count, lastCall + 1, "calls that were made")
      // The same calls by somebody without any right and without a filter: what the kernel itself says to them.
      let plain = try await Unconfined(
        payload: .file("calls.py"), arguments: words("native", 0...lastCall), user: .ordinary,
        wrapper: ["/usr/bin/unshare", "--pid", "--fork", "--net", "--ipc"], place: evidence.place
      ).run()
      let kernel = answers(plain)
      verdict.equal(kernel.count, lastCall + 1, "calls that were made without a filter")
      for (number, met) in found.sorted(by: { $0.key < $1.key }) where !pastEveryFilter.contains(number) {
        switch try PolicyTable.answer(number) {
        case .allowed:
          let isFilter =
            ["EPERM", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "signal 31"].contains(met) && met != kernel[number]
          verdict.require(
            !isFilter, "call \(number) is allowed and met \(met); without a filter \(kernel[number] ?? "-")")
        case .refused(let answer):
          let spellings: Set<String> = answer == "EOPNOTSUPP" ? ["EOPNOTSUPP", "ENOTSUP"] : [answer]
          verdict.require(spellings.contains(met), "call \(number) is refused with \(answer) and met \(met)")
        }
      }
      // The control: without a filter, most calls that a cell is refused are answered in another way.
      let refused = try found.keys.filter { $0 < 335 }.filter { number in
        if case .refused = try PolicyTable.answer(number) { true } else { false }
      }
      let differing = refused.filter { kernel[$0] != found[$0] }
      verdict.require(
        differing.count * 2 > refused.count, "the filter makes no difference: \(differing.count) of \(refused.count)")
    }, control: .within, isAlone: true)

  private static let x32 = AttackCase(
    id: "KS+b", what: "every call of the x32 interface",
    payload: .file("calls.py"), arguments: { _ in words("x32", 0...lastCall) }, asks: asks,
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      let found = answers(evidence)
      verdict.equal(found.count, lastCall + 1, "calls that were made")
      for (number, met) in found where met != "signal 31" { verdict.fail("x32 call \(number) met \(met), not SIGSYS") }
    },
    control: .host(
      .ordinary, wrapper: ["/usr/bin/unshare", "--pid", "--fork", "--net", "--ipc"],
      arguments: { _ in words("x32", 0...60) },
      check: { evidence, verdict in
        let found = answers(evidence)
        verdict.equal(found.count, 61, "calls that were made")
        verdict.require(!found.values.contains("signal 31"), "killed without a filter")
      }))

  private static let int80 = AttackCase(
    id: "KS+c", what: "every call by int 0x80, from code made at run time",
    payload: .file("calls.py"), arguments: { _ in words("int80", 0...lastCall) }, asks: asks,
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      let found = answers(evidence)
      verdict.equal(found.count, lastCall + 1, "calls that were made")
      // A kernel without that interface ends the process with SIGSEGV before any filter is asked.
      for (number, met) in found where !["signal 31", "signal 11"].contains(met) {
        verdict.fail("int 0x80 call \(number) met \(met), not SIGSYS")
      }
      verdict.require(Set(found.values).count == 1, "different ends: \(Set(found.values))")
    },
    control: .host(
      .ordinary, wrapper: ["/usr/bin/unshare", "--pid", "--fork", "--net", "--ipc"],
      arguments: { _ in words("int80", 20...24) },
      check: { evidence, verdict in
        let found = answers(evidence)
        verdict.require(!found.values.contains("signal 31") && found.count == 5, "killed without a filter: \(found)")
      }))

  private static let families = AttackCase(
    id: "KS-13", what: "every address family 0…45 with every type, and every netlink protocol",
    payload: .file("sockets.py"), arguments: { _ in ["all"] }, asks: asks,
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      for (name, call) in [("single", "socket"), ("pairs", "socketpair")] {
        guard case .object(let byAnswer)? = evidence.seen[name], let number = try PolicyTable.number(call) else {
          verdict.fail("no \(name)")
          continue
        }
        var expected: Set<String> = []
        for family in 0..<46 {
          for type in 0..<16 {
            let isAllowed = try PolicyTable.answer(number, [UInt64(family), UInt64(type)]) == .allowed
            if isAllowed { expected.insert("\(family)/\(type)") }
          }
        }
        // Whatever is not the filter's answer got past it.
        var past: Set<String> = []
        for (answer, found) in byAnswer where !["EPERM", "EAFNOSUPPORT"].contains(answer) {
          past.formUnion((found.array ?? []).compactMap(\.string))
        }
        verdict.equal(past, expected, "\(call): what got past the filter")
      }
    },
    control: .host(
      wrapper: ["/usr/bin/unshare", "--net"], arguments: { _ in ["1", "2", "10", "16", "17"] },
      check: { evidence, verdict in
        let made = Set((evidence.seen["single"]?["ok"]?.array ?? []).compactMap(\.string))
        verdict.require(made.isSuperset(of: ["1/1", "2/1", "2/2", "10/1", "16/3", "17/3"]), "\(made)")
      }))

  private static let requests = AttackCase(
    id: "KS-15b", what: "every ioctl request below 0x10000, and those of files",
    payload: .python(
      """
      past = []
      others = [0x80086601, 0x40086602, 0xc0189436, 0x40049409, 0x4020940d, 0x8004667e,
          0x80045430, 0x40045431, 0x5000940a, 0xc020660b]
      for request in list(range(0x10000)) + others:
          for upper in (0, 0xabcd << 32):
              met = libc.syscall(ctypes.c_long(16), ctypes.c_long(-1), ctypes.c_long(request | upper), 0)
              if met >= 0 or ctypes.get_errno() != errno.EPERM: past.append(request)
      note("past", sorted(set(past)) if len(past) < 4000 else len(past))
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      if let count = evidence.number("past") { verdict.fail("\(Int(count)) requests got past the filter") }
      let past = Set((evidence.seen["past"]?.array ?? []).compactMap { $0.integer.map { UInt64($0) } })
      verdict.equal(past, try PolicyTable.requests(), "requests that got past the filter")
    },
    control: .host(check: { evidence, verdict in
      verdict.equal(evidence.number("past"), Double(2 * (0x1_0000 + 10)), "requests that got to the kernel")
    }))

  private static let kinds = ["mnt", "pid", "net", "ipc", "uts", "cgroup"]

  private static let views = AttackCase(
    id: "KS+d", what: "see the host or another cell through a namespace that is shared",
    payload: look,
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      // Of the host, and of the warden, which keeps a mount namespace of its own.
      let wardens = evidence.house!.wardens()
      verdict.require(!wardens.isEmpty, "no warden was found")
      try sharesNothing(evidence, with: ["self"] + wardens.map(String.init), &verdict)
      verdict.equal(evidence.seen["host name"], .string("cell"), "host name")
      verdict.equal(evidence.seen["interfaces"], .array([.string("lo")]), "interfaces")
      verdict.equal(evidence.number("sockets"), 0, "unix sockets")
      verdict.equal(evidence.number("routes"), 0, "routes")
      verdict.require((evidence.number("pid") ?? 99) < 10, "its pid is \(evidence.number("pid") ?? 0)")
      try await besideAnother(evidence, &verdict)
    },
    control: .host(check: { evidence, verdict in
      for name in kinds {
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/\(name)")
        verdict.equal(evidence.seen["ns \(name)"]?.string, own, "namespace \(name)")
      }
      verdict.require((evidence.number("sockets") ?? 0) > 0, "the host has no unix socket")
    }))

  private static let look = Payload.python(
    """
    for name in ("mnt", "pid", "net", "ipc", "uts", "cgroup", "user"):
        note("ns " + name, os.readlink("/proc/self/ns/" + name))
    note("host name", os.uname().nodename)
    note("interfaces", [l.split(":")[0].strip() for l in open("/proc/self/net/dev").read().splitlines()[2:]])
    note("sockets", len(open("/proc/self/net/unix").read().splitlines()) - 1)
    note("routes", len(open("/proc/self/net/route").read().splitlines()[1:]))
    note("pid", os.getpid())
    """)

  private static func sharesNothing(
    _ evidence: Evidence, with processes: [String], _ verdict: inout Verdict
  ) throws {
    for name in kinds {
      for process in processes {
        let theirs = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(process)/ns/\(name)")
        let seen = evidence.seen["ns \(name)"]?.string
        verdict.require(seen != nil && seen != theirs, "the namespace \(name) is that of process \(process)")
      }
    }
  }

  /// Runs it once more, beside a cell that lives meanwhile: what the kernel calls a namespace of one that has ended may
  /// come to mean another.
  private static func besideAnother(_ evidence: Evidence, _ verdict: inout Verdict) async throws {
    let house = evidence.house!
    let marker = Marker()
    let sleeper = Payload.command(["/usr/bin/sleep"])
    let job = try await house.enqueue(sleeper.specification([marker.text], label: "KS+d", asks: [:]))
    defer { marker.end() }
    try await eventually("the other job runs") { marker.exists }
    let found = try await house.evidence(look, label: "KS+d", evidence.place)
    verdict.outcome(found, "succeeded")
    guard let other = marker.process else { return verdict.fail("the other job ended by itself") }
    try sharesNothing(found, with: [String(other)], &verdict)
    marker.end()
    _ = try await house.finished(job)
  }
}
