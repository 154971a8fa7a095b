import Foundation
import PackagePlugin

/// Turns every file below `sql/` into a Swift table, so that the binary carries its own migrations and
/// statements and can never run beside a directory of another version.
@main
struct EmbedSQL: BuildToolPlugin {
  func createBuildCommands(context: PluginContext, target: any Target) async throws -> [Command] {
    let sql = context.package.directoryURL.appending(path: "sql")
    let files =
      FileManager.default.enumerator(at: sql, includingPropertiesForKeys: nil)?
      .compactMap { $0 as? URL }.filter { $0.pathExtension == "sql" }.sorted { $0.path < $1.path } ?? []
    let output = context.pluginWorkDirectoryURL.appending(path: "EmbeddedSQL.swift")
    return [
      .buildCommand(
        displayName: "Embedding sql/", executable: try context.tool(named: "EmbedSQLTool").url,
        arguments: [sql.path, output.path], inputFiles: files + [sql], outputFiles: [output])
    ]
  }
}
