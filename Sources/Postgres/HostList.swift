import CPostgres

/// The hosts that connection settings name, as libpq understood them: from the text, a service file or the environment.
struct HostList {
  private let entries: [Entry]

  private struct Entry {
    var host: String
    var address: String
    var port: String
  }

  init(_ handle: OpaquePointer) {
    var lists: [String: [String]] = [:]
    let options = PQconninfo(handle)
    defer { PQconninfoFree(options) }
    var next = options
    while let option = next, let keyword = option.pointee.keyword {
      if let value = option.pointee.val {
        lists[String(cString: keyword)] =
          String(cString: value).split(separator: ",", omittingEmptySubsequences: false).map(String.init)
      }
      next = option + 1
    }
    let (hosts, addresses, ports) = (lists["host"] ?? [], lists["hostaddr"] ?? [], lists["port"] ?? [])
    entries = (0..<max(hosts.count, addresses.count, 1)).map { index in
      func value(_ list: [String]) -> String { index < list.count ? list[index] : "" }
      // One port stands for all hosts.
      return Entry(
        host: value(hosts), address: value(addresses), port: ports.count == 1 ? ports[0] : value(ports))
    }
  }

  private init(_ entries: [Entry]) {
    self.entries = entries
  }

  var count: Int { entries.count }

  /// Those behind the one that the connection is at; nil where it is the last.
  func behind(_ handle: OpaquePointer) -> HostList? {
    let (name, port) = (PQhost(handle).map { String(cString: $0) }, PQport(handle).map { String(cString: $0) })
    // Of hosts that look alike the first is taken, and one without a name is libpq's own: the list gets shorter anyway.
    let place = entries.firstIndex { ($0.host.isEmpty ? $0.address : $0.host) == name && $0.port == port } ?? 0
    let rest = entries[(place + 1)...]
    return rest.isEmpty ? nil : HostList(Array(rest))
  }

  /// As libpq takes them, over what the settings say. It passes over what is empty.
  var options: [(String, String)] {
    [
      ("host", entries.map(\.host)), ("hostaddr", entries.map(\.address)), ("port", entries.map(\.port)),
    ].map { ($0.0, $0.1.allSatisfy(\.isEmpty) ? "" : $0.1.joined(separator: ",")) }
  }
}
