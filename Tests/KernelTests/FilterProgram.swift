/// Runs a seccomp program as the kernel would, so that tests can ask it about every call.
struct FilterProgram {
  struct Instruction {
    var code: UInt16
    var whenTrue: UInt8
    var whenFalse: UInt8
    var value: UInt32
  }

  enum Fault: Error {
    case unknownInstruction(UInt16)
    case outOfRange(Int)
  }

  let instructions: [Instruction]

  init(_ bytes: [UInt8]) {
    var list: [Instruction] = []
    for offset in stride(from: 0, to: bytes.count, by: 8) {
      let code = UInt16(bytes[offset]) | UInt16(bytes[offset + 1]) << 8
      var value: UInt32 = 0
      for index in (0..<4).reversed() { value = value << 8 | UInt32(bytes[offset + 4 + index]) }
      list.append(
        Instruction(code: code, whenTrue: bytes[offset + 2], whenFalse: bytes[offset + 3], value: value))
    }
    instructions = list
  }

  /// The action for one call.
  func action(number: UInt32, architecture: UInt32, arguments: [UInt64]) throws -> UInt32 {
    // struct seccomp_data: number, architecture, instruction pointer, six arguments; all little-endian.
    var words: [UInt32] = [number, architecture, 0, 0]
    for index in 0..<6 {
      let argument = index < arguments.count ? arguments[index] : 0
      words += [UInt32(truncatingIfNeeded: argument), UInt32(truncatingIfNeeded: argument >> 32)]
    }
    var accumulator: UInt32 = 0
    var position = 0
    while instructions.indices.contains(position) {
      let instruction = instructions[position]
      position += 1
      switch instruction.code {
      case 0x20: accumulator = words[Int(instruction.value) / 4]
      case 0x54: accumulator &= instruction.value
      case 0x05: position += Int(instruction.value)
      case 0x15: position += Int(accumulator == instruction.value ? instruction.whenTrue : instruction.whenFalse)
      case 0x25: position += Int(accumulator > instruction.value ? instruction.whenTrue : instruction.whenFalse)
      case 0x35: position += Int(accumulator >= instruction.value ? instruction.whenTrue : instruction.whenFalse)
      case 0x45: position += Int(accumulator & instruction.value != 0 ? instruction.whenTrue : instruction.whenFalse)
      case 0x06: return instruction.value
      default: throw Fault.unknownInstruction(instruction.code)
      }
    }
    throw Fault.outOfRange(position)
  }
}
