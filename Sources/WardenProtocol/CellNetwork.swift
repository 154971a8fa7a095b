// What a cell with grants has beyond others: its loopback interface is up, sockets listen there that somebody outside holds,
// and its /etc/hosts has their names. There is no other way out, and none in.

/// The listeners of one cell.
public struct CellNetwork: Equatable, Sendable {
  /// An address within 127.0.0.0/8 and a port of the cell's own.
  public struct Listener: Hashable, Sendable {
    /// In host order.
    public var address: UInt32
    public var port: UInt16

    public init(address: UInt32, port: UInt16) {
      self.address = address
      self.port = port
    }
  }

  public var listeners: [Listener]

  public init(listeners: [Listener]) {
    self.listeners = listeners
  }

  /// Names beneath the stage: the directory, and the file in it that becomes /etc/hosts.
  public static let namesDirectory = "etc"
  public static let namesFile = "hosts"

  func problem(stage: String) -> Refusal? {
    guard !stage.isEmpty else {
      return Refusal(control: "order.network", stage: "the names of a network stand in a stage")
    }
    guard (1...Bounds.listeners).contains(listeners.count), Set(listeners).count == listeners.count,
      listeners.allSatisfy({ $0.address >> 24 == 127 && $0.port > 0 })
    else {
      return Refusal(
        control: "order.network",
        stage: "a network is 1 to \(Bounds.listeners) listeners on different addresses or ports within 127.0.0.0/8")
    }
    return nil
  }
}
