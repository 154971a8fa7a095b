/// Why something could not be measured, in one line.
public struct BenchError: Error, CustomStringConvertible {
  public let description: String

  public init(_ description: String) { self.description = description }
}
