import Foundation
import PackagePlugin

/// Turns every file below `sql/`, the target's own or else the package's, into a Swift table, so that the binary carries its
/// own migrations and statements and can never run beside a directory of another version.
@main
struct EmbedSQL: BuildToolPlugin {
  func createBuildCommands(context: PluginContext, target: any Target) async throws -> [Command] {
    let own = (target as? any SourceModuleTarget)?.directoryURL.appending(path: "sql")
    let hasOwn = own.map { FileManager.default.fileExists(atPath: $0.path) } ?? false
    let sql = hasOwn ? own! : context.package.directoryURL.appending(path: "sql")
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
