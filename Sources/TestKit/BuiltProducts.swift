import Foundation

/// The test environment lacks something that a test needs.
public struct TestKitError: Error, CustomStringConvertible {
  public let description: String
}

/// Path of an executable of this package: in the directory that the environment variable `CORDON_TEST_PRODUCTS`
/// names, else in the one that the running test bundle was built into.
public func buildProduct(named name: String) throws -> String {
  let directory = try ProcessInfo.processInfo.environment["CORDON_TEST_PRODUCTS"] ?? bundleDirectory()
  let path = "\(directory)/\(name)"
  guard access(path, X_OK) == 0 else {
    throw TestKitError(description: "\(path) is missing; swift build --build-tests makes it")
  }
  return path
}

private func bundleDirectory() throws -> String {
  var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
  let count = readlink("/proc/self/exe", &buffer, buffer.count)
  guard count > 0 else { throw TestKitError(description: "readlink /proc/self/exe: errno \(errno)") }
  let bundle = String(decoding: buffer[..<count], as: UTF8.self)
  guard let slash = bundle.lastIndex(of: "/") else { throw TestKitError(description: "\(bundle) is no path") }
  return String(bundle[..<slash])
}
