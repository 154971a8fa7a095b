// Writes one Swift file that holds every `.sql` file below a directory, keyed by its path there without the
// extension ("migrations/0001_roles", "statements/claim"). Called by the EmbedSQL build plugin.
import Foundation

let arguments = CommandLine.arguments
guard arguments.count == 3 else {
  FileHandle.standardError.write(Data("usage: EmbedSQLTool DIRECTORY OUTPUT\n".utf8))
  exit(2)
}
let root = URL(fileURLWithPath: arguments[1]).standardizedFileURL
let files =
  (FileManager.default.enumerator(at: root, includingPropertiesForKeys: nil)?.compactMap { $0 as? URL } ?? [])
  .map(\.standardizedFileURL).filter { $0.pathExtension == "sql" }.sorted { $0.path < $1.path }

// A program without its migrations would build, start, and find every database too new.
guard !files.isEmpty else {
  FileHandle.standardError.write(Data("error: no .sql file below \(root.path)\n".utf8))
  exit(1)
}

var lines = ["enum EmbeddedSQL {", "  static let files: [String: String] = ["]
for file in files {
  let name = file.deletingPathExtension().path.dropFirst(root.path.count + 1)
  // Three pounds: SQL may hold quotes, backslashes and dollar quoting, but never `"""###`.
  lines.append("    \"\(name)\": ###\"\"\"")
  lines.append(try String(contentsOf: file, encoding: .utf8) + "\n\"\"\"###,")
}
lines += ["  ]", "}", ""]
try lines.joined(separator: "\n").write(toFile: arguments[2], atomically: true, encoding: .utf8)
