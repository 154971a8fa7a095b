// What a filter decides for each system call number, and the program of the kernel's classic BPF that decides so.
//
// Adjacent numbers with one answer are one interval, and the program is a binary tree over the intervals: eight comparisons
// at most, and few instructions. That matters because the kernel checks, converts and compiles the program anew for every
// cell, and asks it about each number once: of libseccomp's tree over single numbers that took 0.13 ms for a job's
// filter, three times as long.

/// Decisions by system call number.
struct SeccompProgram {
  /// One comparison of a call's argument: masked, it equals the value.
  struct Comparison: Equatable {
    var index: UInt32
    var mask: UInt64
    var value: UInt64
  }

  enum Decision: Equatable {
    /// One of the kernel's SECCOMP_RET_ values.
    case always(UInt32)
    /// Allowed when all comparisons of one alternative hold, else denied.
    case whether([[Comparison]])
  }

  /// AUDIT_ARCH_ value of the calls the numbers are of.
  var architecture: UInt32
  /// For calls by any other convention.
  var foreign: UInt32
  var allow: UInt32
  /// For everything not decided, and for conditions that do not hold.
  var deny: UInt32
  private var decisions: [UInt32: Decision] = [:]

  init(architecture: UInt32, foreign: UInt32, allow: UInt32, deny: UInt32) {
    self.architecture = architecture
    self.foreign = foreign
    self.allow = allow
    self.deny = deny
  }

  /// Decides for a number; the first word on it stands.
  mutating func decide(_ number: UInt32, _ decision: Decision) {
    if decisions[number] == nil { decisions[number] = decision }
  }

  /// Numbers from here on are those of x32, another convention under the same architecture value.
  private static let x32: UInt32 = 0x4000_0000
  /// No system call: what a tracer leaves to have none made.
  private static let none = UInt32.max

  /// A run of numbers with one answer, by its first one.
  private struct Interval {
    var first: UInt32
    var decision: Decision
  }

  private var intervals: [Interval] {
    var intervals = [Interval(first: 0, decision: .always(deny))]
    func add(_ first: UInt32, _ decision: Decision) {
      if intervals.last!.first == first { intervals.removeLast() }
      if intervals.last?.decision != decision { intervals.append(Interval(first: first, decision: decision)) }
    }
    for (number, decision) in decisions.sorted(by: { $0.key < $1.key }) {
      add(number, decision)
      if decisions[number + 1] == nil { add(number + 1, .always(deny)) }
    }
    add(Self.x32, .always(foreign))
    add(Self.none, .always(deny))
    return intervals
  }

  // MARK: instructions

  /// The kernel's `struct sock_filter`.
  struct Instruction: Equatable {
    var code: UInt16
    var whenTrue: UInt8 = 0
    var whenFalse: UInt8 = 0
    var value: UInt32

    static func load(_ offset: UInt32) -> Instruction { Instruction(code: 0x20, value: offset) }
    static func and(_ mask: UInt32) -> Instruction { Instruction(code: 0x54, value: mask) }
    static func end(_ action: UInt32) -> Instruction { Instruction(code: 0x06, value: action) }
    static func jump(_ count: Int) -> Instruction { Instruction(code: 0x05, value: UInt32(count)) }
    static func ifEqual(_ value: UInt32, skip whenTrue: Int = 0, else whenFalse: Int = 0) -> Instruction {
      Instruction(code: 0x15, whenTrue: UInt8(whenTrue), whenFalse: UInt8(whenFalse), value: value)
    }
    static func ifAtLeast(_ value: UInt32, skip whenTrue: Int = 0, else whenFalse: Int = 0) -> Instruction {
      Instruction(code: 0x35, whenTrue: UInt8(whenTrue), whenFalse: UInt8(whenFalse), value: value)
    }
  }

  /// Offsets in the kernel's `struct seccomp_data`.
  private enum Offset {
    static let number: UInt32 = 0
    static let architecture: UInt32 = 4
    /// Low half of an argument; the kernel refuses to compile for hosts with the high half first here.
    static func argument(_ index: UInt32) -> UInt32 { 16 + 8 * index }
  }

  var instructions: [Instruction] {
    [.load(Offset.architecture), .ifEqual(architecture, skip: 1), .end(foreign), .load(Offset.number)]
      + tree(intervals[...])
  }

  private func tree(_ intervals: ArraySlice<Interval>) -> [Instruction] {
    guard intervals.count > 1 else { return leaf(intervals.first!.decision) }
    let middle = intervals.startIndex + intervals.count / 2
    let (low, high) = (tree(intervals[..<middle]), tree(intervals[middle...]))
    let first = intervals[middle].first
    // A conditional jump reaches 255 instructions.
    let choice: [Instruction] =
      low.count <= Int(UInt8.max)
      ? [.ifAtLeast(first, skip: low.count)] : [.ifAtLeast(first, else: 1), .jump(low.count)]
    return choice + low + high
  }

  private func leaf(_ decision: Decision) -> [Instruction] {
    switch decision {
    case .always(let action): [.end(action)]
    case .whether(let alternatives): alternatives.flatMap(alternative) + [.end(deny)]
    }
  }

  /// Allows, or goes on behind itself.
  private func alternative(_ comparisons: [Comparison]) -> [Instruction] {
    var code: [Instruction] = [.end(allow)]
    for comparison in comparisons.reversed() {
      for (mask, value, offset) in [
        (UInt32(comparison.mask >> 32), UInt32(comparison.value >> 32), Offset.argument(comparison.index) + 4),
        (
          UInt32(truncatingIfNeeded: comparison.mask), UInt32(truncatingIfNeeded: comparison.value),
          Offset.argument(comparison.index)
        ),
      ] where mask != 0 {
        code.insert(
          contentsOf: [.load(offset)] + (mask == .max ? [] : [.and(mask)]) + [.ifEqual(value, else: code.count)], at: 0)
      }
    }
    return code
  }

  var bytes: [UInt8] {
    instructions.flatMap { instruction in
      withUnsafeBytes(of: instruction.code, Array.init) + [instruction.whenTrue, instruction.whenFalse]
        + withUnsafeBytes(of: instruction.value, Array.init)
    }
  }
}
