import BenchReport
import Foundation

/// The samples of a soak as an SVG: small charts over the number of cells, each from zero.
struct SoakPlot {
  let soak: Soak

  private struct Line {
    var name: String
    var value: (SoakSample) -> Double
  }

  private struct Chart {
    var title: String
    var lines: [Line]
  }

  private let charts = [
    Chart(title: "latency, 4 in flight (p50, ms)", lines: [Line(name: "run to report") { $0.latency / 1e3 }]),
    Chart(
      title: "memory of warden and worker (MiB)",
      lines: [
        Line(name: "warden, resident") { $0.wardenResident }, Line(name: "worker, resident") { $0.workerResident },
        Line(name: "warden, private") { $0.wardenPrivate }, Line(name: "worker, private") { $0.workerPrivate },
      ]),
    Chart(
      title: "processes, cgroups, uids",
      lines: [
        Line(name: "processes of the warden") { $0.wardenProcesses }, Line(name: "cgroup directories") { $0.cgroups },
        Line(name: "uids in use") { $0.uids },
      ]),
    Chart(
      title: "mounts and descriptors",
      lines: [
        Line(name: "mounts of the warden") { $0.mounts }, Line(name: "descriptors, warden") { $0.wardenDescriptors },
        Line(name: "descriptors, worker") { $0.workerDescriptors },
      ]),
    Chart(
      title: "held by the kernel",
      lines: [
        Line(name: "network namespaces") { $0.networkObjects }, Line(name: "memory cgroups") { $0.memoryCgroups },
        Line(name: "dying cgroups (v2)") { $0.dyingCgroups },
      ]),
    Chart(
      title: "memory of the machine (MiB)",
      lines: [
        Line(name: "available") { $0.available }, Line(name: "kernel, not reclaimable") { $0.kernel },
      ]),
  ]

  private static let colours = ["#1f6feb", "#d9730d", "#2da44e", "#a33ea1"]
  private static let size = (width: 460.0, height: 230.0)
  private static let inner = (left: 54.0, top: 48.0, right: 14.0, bottom: 28.0)

  var svg: String {
    let rows = (charts.count + 1) / 2
    let (width, height) = (Int(Self.size.width) * 2, Int(Self.size.height) * rows + 34)
    var text = """
      <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(width) \(height)" font-family="sans-serif" font-size="11">
      <rect width="\(width)" height="\(height)" fill="#ffffff"/>
      <text x="14" y="22" font-size="15" fill="#1f2328">\(soak.cells) cells through one sandbox, \
      \(Soak.inFlight) in flight; one sample each \(Soak.window(cells: soak.cells)), at rest</text>

      """
    for (index, chart) in charts.enumerated() {
      let (x, y) = (Double(index % 2) * Self.size.width, Double(index / 2) * Self.size.height + 34)
      text += "<g transform=\"translate(\(x.shown(0)) \(y.shown(0)))\">\n" + draw(chart) + "</g>\n"
    }
    return text + "</svg>\n"
  }

  private func draw(_ chart: Chart) -> String {
    let values = chart.lines.flatMap { line in soak.samples.map(line.value).filter(\.isFinite) }
    let top = Self.roundUp(values.max() ?? 1)
    let (left, right) = (Self.inner.left, Self.size.width - Self.inner.right)
    let (high, low) = (Self.inner.top, Self.size.height - Self.inner.bottom)
    func x(_ cells: Int) -> Double { left + (right - left) * Double(cells) / Double(max(1, soak.cells)) }
    func y(_ value: Double) -> Double { low - (low - high) * value / top }

    var text = "<text x=\"\(left.shown(0))\" y=\"18\" font-size=\"13\" fill=\"#1f2328\">\(chart.title)</text>\n"
    for part in [0.0, 0.5, 1.0] {
      let at = y(top * part).shown(1)
      text += "<path d=\"M\(left.shown(1)) \(at)H\(right.shown(1))\" stroke=\"#d0d7de\"/>"
      text += Self.label(top * part, x: left - 6, y: y(top * part) + 4, anchor: "end")
    }
    for part in [0, 1, 2] {
      let cells = soak.cells * part / 2
      text += Self.label(Double(cells), x: x(cells), y: low + 16, anchor: ["start", "middle", "end"][part])
    }
    var legend = left
    for (index, line) in chart.lines.enumerated() {
      let colour = Self.colours[index % Self.colours.count]
      let points = soak.samples.filter { line.value($0).isFinite }.map {
        "\(x($0.cells).shown(1)),\(y(line.value($0)).shown(1))"
      }
      text += "\n<polyline fill=\"none\" stroke=\"\(colour)\" stroke-width=\"1.5\" "
      text += "points=\"\(points.joined(separator: " "))\"/>\n"
      text += "<text x=\"\(legend.shown(0))\" y=\"36\" font-size=\"10\" fill=\"\(colour)\">\(line.name)</text>"
      legend += Double(line.name.count) * 5.4 + 12
    }
    return text + "\n"
  }

  private static func label(_ value: Double, x: Double, y: Double, anchor: String) -> String {
    let shown = value == value.rounded() ? value.shown(0) : value.shown(value < 1 ? 2 : 1)
    return "<text x=\"\(x.shown(1))\" y=\"\(y.shown(1))\" text-anchor=\"\(anchor)\" fill=\"#57606a\">\(shown)</text>\n"
  }

  /// The next 1, 2 or 5 times a power of ten.
  private static func roundUp(_ value: Double) -> Double {
    guard value > 0 else { return 1 }
    let power = pow(10, floor(log10(value)))
    return [1, 2, 4, 5, 6, 8, 10].map { $0 * power }.first { $0 >= value } ?? 10 * power
  }
}
