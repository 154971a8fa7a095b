import Kernel

/// Names of directories beside the warden's own in the cgroup hierarchies: what is taken for an abandoned instance of
/// a warden is killed.
enum InstanceNames: Fuzzer {
  static var seeds: [[UInt8]] {
    ["warden-4026531836-77-123456", "warden-1-02-3", "warden--1-2-3", "warden-1--2-3", "warden-1-2-3-4"].map {
      Array($0.utf8)
    }
  }

  static var words: [[UInt8]] { [Array("warden-".utf8), Array("-1".utf8), Array("18446744073709551615".utf8)] }

  static func run(_ bytes: [UInt8]) {
    let name = String(decoding: bytes, as: UTF8.self)
    guard let instance = CgroupInstance(name: name) else { return }
    expect(Array(instance.name.utf8) == Array(name.utf8), "an instance has one name: \(name)")
    expect(instance.owner.processID >= 0, "an owner is a process: \(name)")
  }
}
