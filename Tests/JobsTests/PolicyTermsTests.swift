import Testing

@testable import Jobs

@Suite("The terms of a policy for its worker")
struct PolicyTermsTests {
  /// A document with the given members; the others do not concern a worker.
  private static func document(_ members: String) -> String {
    #"{"ceilings":{},"defaults":{},"lease":{},"runtimes":["exec"],"version":1\#(members)}"#
  }

  @Test("what a document does not say is not granted")
  func nothing() throws {
    #expect(try PolicyTerms(document: Self.document("")) == PolicyTerms())
    #expect(try PolicyTerms(document: Self.document(#","waivers":[],"warm":{}"#)) == PolicyTerms())
    #expect(PolicyTerms().waivers.isEmpty && PolicyTerms().warm.isEmpty && PolicyTerms().outputs == .memory)
    #expect(PolicyTerms().audiences.isEmpty && PolicyTerms().isTemporaryExecutable)
    #expect(PolicyTerms().inputs == Set(Source.Kind.allCases))
  }

  @Test("every term is read")
  func everything() throws {
    let terms = try PolicyTerms(
      document: Self.document(
        #","waivers":["uids","groups"],"warm":{"python3":{"imports":["json","os.path"],"mode":"interpreter"}}"#))
    #expect(terms.waivers == ["groups", "uids"])
    #expect(terms.warm == [.python3: .init(mode: .interpreter, imports: ["json", "os.path"])])
    let forked = try PolicyTerms(document: Self.document(#","warm":{"python3":{"mode":"zygote"}}"#))
    #expect(forked.warm == [.python3: .init(mode: .zygote)])
    let other = try PolicyTerms(document: Self.document(#","warm":{"python3":{"mode":"interpreter"}}"#))
    #expect(other.warm == [.python3: .init(mode: .interpreter)])
    #expect(try PolicyTerms(document: Self.document(#","outputs":{"on":"disk"}"#)).outputs == .disk)
    #expect(try PolicyTerms(document: Self.document(#","outputs":{"on":"memory"}"#)).outputs == .memory)
    let more = try PolicyTerms(
      document: Self.document(
        #","audiences":["a"],"filesystem":{"inputs":["path","text"],"tmp":"noexec"},"retention":{"jobs":"90d"}"#))
    #expect(more.audiences == ["a"] && more.inputs == [.path, .text] && !more.isTemporaryExecutable)
    #expect(try PolicyTerms(document: Self.document(#","filesystem":{"inputs":[]}"#)).inputs.isEmpty)
  }

  @Test("inputs and programs come from where the policy says; a program that stands in the request comes with it")
  func sources() throws {
    var job = JobSpecification(runtime: .bash, code: .text(""), inputs: ["b": .text(""), "a": .path("x")])
    var terms = PolicyTerms()
    #expect(terms.objection(to: job) == nil)
    terms.inputs = [.text]
    #expect(terms.objection(to: job) == "inputs.a: path is a kind of input that policy does not allow")
    job.inputs["a"] = nil
    #expect(terms.objection(to: job) == nil)
    job.code = .path("main.sh")
    #expect(terms.objection(to: job) == "code: path is a kind of input that policy does not allow")
    (terms.inputs, job.code, job.inputs) = ([], .text(""), [:])
    #expect(terms.objection(to: job) == nil)
  }

  @Test(
    "what this build does not know it does not keep",
    arguments: [
      (#","network":{}"#, "'network' is unknown"), (#","waivers":"uids""#, "waivers: "),
      (#","waivers":[1]"#, "waivers: "), (#","waivers":["uids","uids"]"#, "waivers: "),
      (#","waivers":[""]"#, "waivers: "), (#","waivers":["seccomp"]"#, "'seccomp' cannot be waived"),
      (#","warm":[]"#, "warm: "), (#","warm":{"bash":{}}"#, "'bash' is unknown"),
      (#","warm":{"python3":{}}"#, "warm.python3.mode"), (#","warm":{"python3":{"mode":"fork"}}"#, "warm.python3.mode"),
      (#","warm":{"python3":{"mode":"interpreter","size":1}}"#, "'size' is unknown"),
      (#","warm":{"python3":{"mode":"interpreter","imports":["os; import sys"]}}"#, "warm.python3.imports"),
      (#","warm":{"python3":{"mode":"interpreter","imports":"json"}}"#, "warm.python3.imports"),
      (#","audiences":"a""#, "audiences: "), (#","filesystem":{"inputs":["mail"]}"#, "filesystem.inputs"),
      (#","filesystem":{"tmp":true}"#, "filesystem.tmp"), (#","filesystem":{"root":"rw"}"#, "'root' is unknown"),
      (#","credentials":[]"#, "'credentials' is unknown"),
      (#","outputs":{"memory":"1GiB"}"#, "'memory' is unknown"), (#","outputs":{}"#, "outputs.on"),
      (#","outputs":"disk""#, "outputs: "), (#","outputs":{"on":"tape"}"#, "outputs.on"),
      (#","outputs":{"on":1}"#, "outputs.on"), (#","outputs":{"on":"disk","size":1}"#, "'size' is unknown"),
    ])
  func strict(members: String, names: String) throws {
    let problem = #expect(throws: PolicyTerms.Problem.self) { try PolicyTerms(document: Self.document(members)) }
    #expect(problem?.description.contains(names) == true, "\(problem as Any)")
  }

  @Test("a document of another version, or none at all", arguments: ["", "[]", "{}", #"{"version":2}"#])
  func noPolicy(document: String) {
    #expect(throws: PolicyTerms.Problem.self) { try PolicyTerms(document: document) }
  }

  @Test("OP-02: waived is what the policy names and what can be waived at all, nothing else")
  func unwaived() {
    var terms = PolicyTerms()
    #expect(terms.unwaived([]) == [])
    #expect(terms.unwaived(["uids"]) == ["uids"])
    terms.waivers = ["uids", "seccomp"]
    #expect(terms.unwaived(["uids"]) == [])
    #expect(terms.unwaived(["uids", "groups"]) == ["groups"])
    #expect(terms.unwaived(["seccomp", "uids"]) == ["seccomp"])
  }

  @Test("without these controls a cell is none")
  func neverWaivable() {
    let essential = [
      "capabilities", "no_new_privs", "seccomp", "namespaces", "mounts", "writable", "inputs", "network.interfaces",
      "network.routes", "processes", "descriptors", "sockets", "system_calls", "uid", "gid", "cgroup.memory",
      "limits.wall", "limits.output", "cell", "selftest", "canary",
    ]
    #expect(PolicyTerms.waivable.isDisjoint(with: essential))
    #expect(essential.allSatisfy { PolicyTerms.waiving($0) == nil })
    #expect(PolicyTerms.waiving("uids")?.contains("uids") == true)
  }
}
