import ArgumentParser
import BenchReport
import Foundation
import Jobs

struct SoakCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "soak", abstract: "Many cells through one sandbox, and what they leave behind.",
    discussion: "Exit code 1 when something grew.")

  @Option(help: "How many cells.")
  var cells = 100_000
  @Option(help: "File for the ratio and all samples, as one JSON object.")
  var json: String?
  @Option(help: "File for the plot.")
  var svg: String?

  func validate() throws {
    if !(200...100_000_000).contains(cells) { throw ValidationError("--cells: at least 200") }
  }

  func run() async throws {
    Interrupt.listen()
    guard geteuid() == 0 else { throw BenchError("must be root, as the sandbox it measures") }
    let scratch = try BenchScratch()
    defer { scratch.remove() }
    let pool = try await CordonContender(.pool, place: CordonPlace(scratch: scratch.path), limits: Limits())
    let soak: Soak
    do {
      let plain = try Peers.plain(scratch: scratch.path)
      soak = try await Soak.run(pool, plain: plain, cells: cells, rounds: 300, affinity: try Affinity())
    } catch {
      await pool.close()
      throw error
    }
    await pool.close()
    print(soak.text, terminator: "")
    if let json {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys]
      try encoder.encode(soak.json).write(to: URL(fileURLWithPath: json))
    }
    if let svg { try SoakPlot(soak: soak).svg.write(toFile: svg, atomically: true, encoding: .utf8) }
    if SoakMetric.all.contains(where: { $0.verdict(soak) == .leak }) { throw ExitCode(1) }
  }
}
