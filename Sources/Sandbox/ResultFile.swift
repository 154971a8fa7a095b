import Glibc
import Jobs
import Kernel

/// Reads a JSON document from the result directory of a cell, with the care of the output walk.
///
/// The cell may still run: the file can change or go at any moment, and be anything. It is opened without waiting, which is
/// also what keeps a lease that the job holds on it from holding up the reader.
enum ResultFile {
  static let name = FileName("result.json".utf8)
  static let progressName = FileName("progress.json".utf8)

  static func read(beneath directory: Descriptor, maximumBytes: Int64) -> (value: JSONValue?, problem: String?) {
    do {
      guard let bytes = try bytes(of: name, beneath: directory, maximumBytes: maximumBytes) else { return (nil, nil) }
      return (try ResultDocument.parse(bytes), nil)
    } catch {
      return (nil, "result_invalid: \(error.why)")
    }
  }

  /// What a running job says of its progress. Nil when it says nothing, nothing valid, or is writing it at this moment.
  static func progress(beneath directory: Descriptor) -> JSONValue? {
    guard let bytes = try? bytes(of: progressName, beneath: directory, maximumBytes: ProgressReport.longest) else {
      return nil
    }
    return try? ResultDocument.parse(bytes)
  }

  /// Nil when the job wrote no such file.
  private static func bytes(
    of name: FileName, beneath directory: Descriptor, maximumBytes: Int64
  ) throws(ResultDocument.Invalid) -> [UInt8]? {
    do {
      let seen = try directory.status(of: name)
      guard seen.isPlainFile else { throw ResultDocument.Invalid(why: "it is no plain file") }
      guard seen.st_nlink == 1 else { throw ResultDocument.Invalid(why: "it has more than one link") }
      guard seen.st_size <= maximumBytes else { throw tooLarge(maximumBytes) }
      let file = try directory.open(beneath: name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
      guard try file.status().isSame(as: seen) else { throw ResultDocument.Invalid(why: "it was replaced") }
      return try file.readAll(limit: Int(maximumBytes))
    } catch let invalid as ResultDocument.Invalid {
      throw invalid
    } catch let failure as SystemError {
      if failure.errno == ENOENT { return nil }
      if failure.errno == EFBIG { throw tooLarge(maximumBytes) }
      throw ResultDocument.Invalid(why: "it cannot be read (\(failure))")
    } catch {
      throw ResultDocument.Invalid(why: "\(error)")
    }
  }

  private static func tooLarge(_ maximumBytes: Int64) -> ResultDocument.Invalid {
    ResultDocument.Invalid(why: "it has more than \(maximumBytes) bytes")
  }
}
