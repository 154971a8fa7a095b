/// What the command line allows this warden; no message can widen it.
struct Configuration {
  /// Directory whose children are stages.
  var staging: String
  /// Directory on whose filesystem the outputs of cells lie that ask for a disk; nil: there are none.
  var outputs: String?
  /// Right above systemd's range for containers, which ends at 0x6FFFFFFF, and so above all that adduser hands out
  /// to users for theirs (/etc/subuid, from 100000): a rootless container never runs under a job's uid. Below 2^31,
  /// because some programs take a uid for a signed number.
  var firstUser: UInt32 = 0x7000_0000
  /// One for the inits, and one for each cell that lives, waits or is being taken down.
  var usersPerBlock: UInt32 = 2_048
  var userBlocks: UInt32 = 32
  /// Unused cells that may wait at most.
  var pool = 0
  var cgroupBase: String?
  var locks = "/run/cordon"

  struct Problem: Error { var message: String }

  static let usage = """
    usage: cordon-warden --staging DIR [--outputs DIR] [--pool CELLS] [--uids FIRST:BLOCK:BLOCKS]
      [--cgroup-base NAME] [--locks DIR]
    """

  init(arguments: [String]) throws(Problem) {
    var staging: String?
    var rest = arguments[...]
    while let option = rest.popFirst() {
      guard let value = rest.popFirst(), !value.isEmpty else { throw Problem(message: "\(option) wants a value") }
      switch option {
      case "--staging": staging = try Configuration.absolute(value, option)
      case "--outputs": outputs = try Configuration.absolute(value, option)
      case "--locks": locks = try Configuration.absolute(value, option)
      case "--pool": pool = try Configuration.pool(value)
      case "--cgroup-base":
        cgroupBase = try Configuration.group(value)
      case "--uids": (firstUser, usersPerBlock, userBlocks) = try Configuration.users(value)
      default: throw Problem(message: "unknown option \(option)")
      }
    }
    guard let staging else { throw Problem(message: "--staging is missing") }
    self.staging = staging
  }

  /// Each waiting cell is two processes, a uid and some kernel memory; beyond this a mistake is likelier than a wish.
  private static func pool(_ text: String) throws(Problem) -> Int {
    guard let cells = Int(text), (0...512).contains(cells) else {
      throw Problem(message: "--pool: 0 to 512 cells, not \(text)")
    }
    return cells
  }

  private static func users(_ text: String) throws(Problem) -> (UInt32, UInt32, UInt32) {
    let numbers = text.split(separator: ":", omittingEmptySubsequences: false).map { UInt32($0) }
    // A block is one uid for the inits and at least one for jobs; uid 0 and the system's own are never a job's.
    guard numbers.count == 3, let first = numbers[0], let size = numbers[1], let blocks = numbers[2],
      first >= 65_536, (2...65_536).contains(size), (1...65_536).contains(blocks),
      UInt64(first) + UInt64(size) * UInt64(blocks) < UInt64(UInt32.max)
    else { throw Problem(message: "--uids FIRST:BLOCK:BLOCKS with FIRST at least 65536, not \(text)") }
    return (first, size, blocks)
  }

  private static func absolute(_ path: String, _ option: String) throws(Problem) -> String {
    guard path.utf8.first == 0x2F, !path.utf8.contains(0) else {
      throw Problem(message: "\(option): an absolute path, not \(path)")
    }
    return path
  }

  private static func group(_ path: String) throws(Problem) -> String {
    for name in path.split(separator: "/", omittingEmptySubsequences: false) where ["", ".", ".."].contains(name) {
      throw Problem(message: "--cgroup-base: a path of names without a slash at its ends, not \(path)")
    }
    return path
  }
}
