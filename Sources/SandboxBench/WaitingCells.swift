/// What cells that wait cost in memory that nothing else shares.
struct WaitingCells: Sendable {
  var contender: String
  var cells = 0
  /// Mean over the cells, of the sum over a cell's processes of Private_Clean and Private_Dirty.
  var privateMiB = 0.0
  /// Mean of what the kernel charges to a cell's group for itself; nil where it does not say.
  var kernelMiB: Double?

  /// Nil where none waits.
  static func measure(_ contender: CordonContender, _ program: Program) async throws -> WaitingCells? {
    // Ask for as many at once as may wait, so that they do afterwards.
    for _ in 0..<3 {
      try await withThrowingTaskGroup(of: Void.self) { group in
        for slot in 0..<slots { group.addTask { _ = try await contender.run(program, slot: slot) } }
        try await group.waitForAll()
      }
    }
    try await Task.sleep(for: .seconds(1))
    try await contender.settle(prepared: 0)
    let cells = contender.groups.live()
    guard !cells.isEmpty else { return nil }
    var result = WaitingCells(contender: contender.name, cells: cells.count)
    var kernel: [Double] = []
    for cell in cells {
      let processes = CellGroups.processes(in: cell)
      result.privateMiB += processes.reduce(0) { $0 + (privateMiB(of: $1) ?? 0) } / Double(cells.count)
      if let mine = contender.groups.memoryGroup(of: cell).flatMap(kernelMiB(of:)) { kernel.append(mine) }
    }
    if kernel.count == cells.count { result.kernelMiB = kernel.reduce(0, +) / Double(cells.count) }
    return result
  }

  static func privateMiB(of process: Int32) -> Double? {
    guard let rollup = ProcFile.text("/proc/\(process)/smaps_rollup") else { return nil }
    let pages = ["Private_Clean", "Private_Dirty"].compactMap { ProcFile.value($0, in: rollup) }
    return pages.count == 2 ? Double(pages[0] + pages[1]) / 1024 : nil
  }

  private static func kernelMiB(of group: String) -> Double? {
    let bytes =
      ProcFile.text(group + "/memory.kmem.usage_in_bytes").flatMap { Int($0.split(separator: "\n").first ?? "") }
      ?? ProcFile.text(group + "/memory.stat").flatMap { ProcFile.value("kernel", in: $0) }
    return bytes.map { Double($0) / 1_048_576 }
  }
}
