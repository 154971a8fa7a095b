/// What is looked for in a job's files and their names before they are published. What it finds is quarantined.
///
/// The sandbox knows no credential, so who does gives it two functions. No more than the bytes as they stand are looked at: a secret that
/// a job has compressed or enciphered is not found.
public struct OutputScreen: Sendable {
  /// Begins with one text. What it returns is given the text's pieces in their order, and says whether something was found by then.
  let begin: @Sendable () -> (ArraySlice<UInt8>) -> Bool
  /// A path without what was looked for.
  let conceal: @Sendable ([UInt8]) -> [UInt8]

  public init(
    begin: @escaping @Sendable () -> (ArraySlice<UInt8>) -> Bool, conceal: @escaping @Sendable ([UInt8]) -> [UInt8]
  ) {
    self.begin = begin
    self.conceal = conceal
  }

  func finds(in path: [UInt8]) -> Bool { begin()(path[...]) }
}
