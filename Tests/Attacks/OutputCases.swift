import Foundation
import Glibc
import Jobs
import TestKit

/// What a job leaves in its output area to make whoever collects it open, write or follow something else.
enum OutputCases {
  static let all: [AttackCase] = links + kinds + [fs05, fs06, fs07, fs08, fs11, fs21, fs22] + bounds

  /// The canary is never opened, the entries are refused with this reason, and nothing is published.
  private static func linkCase(
    _ id: String, _ what: String, _ script: String, refused: [String], reason: String = "symlink", shows: String? = nil
  ) -> AttackCase {
    AttackCase(
      id: id, what: what, payload: .bash(script), arguments: { [$0.canary] },
      expect: { evidence, verdict in
        verdict.outcome(evidence, "succeeded")
        verdict.equal(evidence.quarantined, Dictionary(uniqueKeysWithValues: refused.map { ($0, reason) }), "refused")
        verdict.equal(evidence.artifacts, [], "artifacts")
        verdict.require(evidence.published == nil, "something is published")
        verdict.equal(evidence.place.watch.opens, 0, "opens of the target")
      },
      control: .host(check: { evidence, verdict in
        let copy = try await evidence.naiveCopy()
        let expected = shows ?? evidence.place.secret
        verdict.require(copy.contains(expected), "a naive copy does not show \(expected): \(copy)")
        if shows == nil { verdict.require(evidence.place.watch.opens > 0, "a naive copy did not open the target") }
      }))
  }

  private static let links: [AttackCase] = [
    linkCase("FS-01", "an absolute link to a file of the host", "ln -s \"$1\" $CORDON_OUTPUT/link", refused: ["link"]),
    linkCase(
      "FS-02", "a relative link out of the output area",
      "ln -s ../../../../../../../../../../..$1 $CORDON_OUTPUT/link", refused: ["link"]),
    linkCase(
      "FS-03", "a directory that is a link", "ln -s $(dirname $1) $CORDON_OUTPUT/directory", refused: ["directory"]),
    linkCase(
      "FS-04", "links of proc that jump to other objects",
      """
      ln -s /proc/self/environ $CORDON_OUTPUT/environ
      ln -s /proc/1/root$1 $CORDON_OUTPUT/root
      ln -s /proc/self/root$1 $CORDON_OUTPUT/own
      ln -s /proc/self/fd/0 $CORDON_OUTPUT/descriptor
      """, refused: ["environ", "root", "own", "descriptor"]),
  ]

  private static let kinds: [AttackCase] = [
    AttackCase(
      id: "FS-15", what: "a FIFO that blocks whoever opens it", payload: .bash("mkfifo $CORDON_OUTPUT/pipe"),
      expect: { evidence, verdict in
        verdict.outcome(evidence, "succeeded")
        verdict.equal(evidence.quarantined, ["pipe": "fifo"], "refused")
        let (from, to) = (
          try time(ofRecord: evidence.record["started_at"]), try time(ofRecord: evidence.record["finished_at"])
        )
        verdict.require(to.timeIntervalSince(from) < 10 * patience, "collecting it blocked")
      },
      control: .host(check: { evidence, verdict in
        let answer = try await HostCommand.run("timeout 1 cat \"$1/output/pipe\"", evidence.scratch)
        verdict.equal(answer.status, 124, "a naive reader's status (124: it blocked)")
      })),
    linkCase(
      "FS-16", "a socket", "cd $CORDON_OUTPUT && python3 -c \"import socket; socket.socket(1).bind('s')\"",
      refused: ["s"], reason: "socket", shows: "s ./s"),
  ]

  private static let fs05 = AttackCase(
    id: "FS-05", what: "links where the supervisor will write: program, result, streams, metadata",
    payload: .python(
      """
      target = sys.argv[1]
      attempt("the result", lambda: os.symlink(target, os.environ["CORDON_RESULT"]))
      for directory in ("output", "result", "job", "input", "tmp", ".", "etc", "dev", "proc"):
          for name in ("result.json", "main.py", "params.json", "stdout", "stderr", "meta.json", ".pending", "run.sh"):
              path = "/" + directory + "/" + name
              if path != os.environ["CORDON_RESULT"]:
                  attempt(f"{directory} {name}", lambda: os.symlink(target, path))
      print("seen " + json.dumps(book))
      os._exit(0)
      """), arguments: { [$0.canary] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.met(evidence, ["the result"], "ok")
      for directory in ["job", "input", ".", "etc", "dev"] {
        // A name that is taken already is said first.
        verdict.metAll(evidence, prefix: "\(directory) ", "EROFS", "EEXIST")
      }
      verdict.require(
        evidence.record["reason"]?.string?.hasPrefix("result_invalid") ?? false, "a link was taken for a result")
      verdict.equal(evidence.record["result"], .null, "the result")
      verdict.equal(Set(evidence.quarantined.values), ["symlink"], "reasons")
      verdict.equal(try readText(evidence.place.canary), evidence.place.secret, "the canary")
    },
    control: .host(
      arguments: { [$0.canary] },
      check: { evidence, verdict in
        // A supervisor that writes the result into the job's directory writes through the link.
        let answer = try await HostCommand.run("echo overwritten > \"$1/result/result.json\"", evidence.scratch)
        verdict.equal(answer.status, 0, "status of the naive supervisor")
        verdict.equal(try readText(evidence.place.canary), "overwritten\n", "the canary")
      }))

  private static let fs06 = AttackCase(
    id: "FS-06", what: "links that a recursive chmod or chown would follow",
    payload: .bash("mkdir $CORDON_OUTPUT/d; ln -s \"$1\" $CORDON_OUTPUT/d/link; ln -s $(dirname $1) $CORDON_OUTPUT/e"),
    arguments: { [$0.canary] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.equal(evidence.quarantined, ["d/link": "symlink", "e": "symlink"], "refused")
      var status = stat()
      verdict.equal(lstat(evidence.place.canary, &status), 0, "stat of the canary")
      verdict.equal(status.st_mode & 0o7777, 0o600, "mode of the canary")
      verdict.equal(status.st_uid, WorkerUser.id, "owner of the canary")
    },
    control: .host(check: { evidence, verdict in
      _ = try await HostCommand.run(
        "chown -RL 64243 \"$1/output\"; find -L \"$1/output\" -type f -exec chmod 644 {} +", evidence.scratch)
      var status = stat()
      stat(evidence.place.canary, &status)
      verdict.equal(status.st_mode & 0o7777, 0o644, "mode of the canary")
      verdict.equal(status.st_uid, 64_243, "owner of the canary")
    }))

  private static let fs07 = AttackCase(
    id: "FS-07", what: "hard links to inputs and system files; two names of one file",
    payload: .python(
      """
      output = os.environ["CORDON_OUTPUT"]
      for source in sys.argv[1:]:
          attempt("link " + source, lambda: os.link(source, output + "/" + os.path.basename(source)))
      open(output + "/one", "w").write("data")
      os.link(output + "/one", output + "/two")
      """), arguments: { _ in ["/input/given.txt", "/usr/bin/true", "/etc/passwd", "/job/main.py"] },
    asks: ["inputs": .object(["given.txt": .object(["text": .string("given")])])],
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.metAll(evidence, prefix: "link ", "EXDEV")
      verdict.equal(evidence.quarantined, ["one": "hardlink", "two": "hardlink"], "refused")
      verdict.equal(evidence.artifacts, [], "artifacts")
    },
    control: .host(
      arguments: { [$0.canary] },
      check: { evidence, verdict in
        verdict.metAll(evidence, prefix: "link ", "ok")
        let copy = try await evidence.naiveCopy()
        verdict.require(copy.contains(evidence.place.secret), "a naive copy does not show the file that was linked")
      }))

  private static let fs08 = AttackCase(
    id: "FS-08", what: "a name that is now a file and now a link, by processes that outlive the job's main one",
    payload: .bash(
      """
      cd $CORDON_OUTPUT
      for i in 1 2 3; do
        (exec setsid python3 -c "
      import os, sys
      name, target, end = 'flip$i', sys.argv[1], __import__('time').monotonic() + \(Int(8 * patience))
      open('mine$i', 'w').write('mine')
      os.symlink(target, 'link$i')
      while __import__('time').monotonic() < end and not os.path.exists('over'):
          os.link('mine$i', 'l$i'); os.rename('l$i', name); os.unlink(name)
          os.link('link$i', 'l$i', follow_symlinks=False); os.rename('l$i', name); os.unlink(name)
      " "$1" >/dev/null 2>&1) &
      done
      while [ ! -L link1 ] || [ ! -L link2 ] || [ ! -L link3 ]; do sleep 0.02; done
      sleep 0.3
      """), arguments: { [$0.canary] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      // Whatever was caught is one of the states it was in, and never "changed": nobody was left to change it.
      let allowed: Set<String> = ["symlink", "hardlink"]
      verdict.require(Set(evidence.quarantined.values).isSubset(of: allowed), "refused: \(evidence.quarantined)")
      for artifact in evidence.artifacts {
        verdict.equal(try readText((evidence.published ?? "") + "/" + artifact), "mine", artifact)
      }
      verdict.require(
        evidence.quarantined.count + evidence.artifacts.count >= 6, "too little is there: \(evidence.quarantined)")
    },
    control: .host(check: { evidence, verdict in
      // Looks first and opens then, as one must not.
      let answer = try await HostCommand.run(
        """
        end=$((SECONDS + \(Int(6 * patience)))); trap 'touch "$1/output/over"' EXIT
        while [ $SECONDS -lt $end ]; do
          for i in 1 2 3; do
            f="$1/output/flip$i"
            if [ -f "$f" ] && [ ! -L "$f" ]; then grep -h secret "$f" && exit 0; fi
          done 2>/dev/null
        done
        exit 1
        """, evidence.scratch)
      verdict.require(answer.output.contains(evidence.place.secret), "looking before opening was never too late")
    }))

  private static let fs11 = AttackCase(
    id: "FS-11", what: "setuid, setgid and sticky bits on outputs",
    payload: .python(
      """
      for name, mode in (("suid", 0o4755), ("sgid", 0o2755), ("both", 0o7777), ("plain", 0o644)):
          path = os.environ["CORDON_OUTPUT"] + "/" + name
          open(path, "w").write("#!/bin/sh\\n")
          os.chmod(path, mode)
          note(name, oct(os.stat(path).st_mode & 0o7777))
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.met(evidence, ["suid"], "0o4755")
      verdict.equal(evidence.artifacts, ["both", "plain", "sgid", "suid"], "artifacts")
      for name in evidence.artifacts {
        var status = stat()
        stat((evidence.published ?? "") + "/" + name, &status)
        verdict.equal(status.st_mode & 0o7777, name == "plain" ? 0o644 : 0o755, "published mode of \(name)")
        verdict.equal(status.st_uid, WorkerUser.id, "published owner of \(name)")
      }
    },
    control: .host(check: { evidence, verdict in
      let answer = try await HostCommand.run(
        "cp -a \"$1/output\" \"$1/copy\"; stat -c %a \"$1/copy/suid\"", evidence.scratch)
      verdict.equal(answer.output, "4755\n", "mode in a naive copy")
    }))

  private static let fs21 = AttackCase(
    id: "FS-21", what: "names with newline, ESC, invalid UTF-8, leading -, 255 bytes, twins by case and normal form",
    payload: .python(
      """
      directory = os.environb[b"CORDON_OUTPUT"] + b"/"
      names = [b"a\\nb", b"\\x1b[31mred", b"\\xff\\xfe", b"-rf", b"n" * 255, b"Twin", b"twin", "\\u00e9".encode(),
          "e\\u0301".encode(), b"$(id)", b"`id`", b";id", b"a b", b"\\\\x41", b"..."]
      for index, name in enumerate(names):
          with open(directory + name, "wb") as file: file.write(b"%d" % index)
      note("written", len(os.listdir(directory)))
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.equal(evidence.artifacts.count, 15, "artifacts \(evidence.artifacts)")
      verdict.equal(evidence.quarantined, [:], "refused")
      for shown in evidence.artifacts {
        verdict.require(
          shown.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7F }, "\(shown) is not escaped")
      }
      for shown in ["a\\x0Ab", "-rf", "Twin", "twin"] {
        let found = evidence.artifacts.contains { $0.lowercased() == shown.lowercased() }
        verdict.require(found, "\(shown) is not listed: \(evidence.artifacts)")
      }
      // The bytes themselves lie in the published directory.
      let raw = try await HostCommand.run(
        """
        cd "$1" && [ -f $'a\\nb' ] && [ -f $'\\xff\\xfe' ] && [ -f ./-rf ] && [ -f $'\\e[31mred' ] && [ -f '$(id)' ]
        """,
        evidence.published ?? "")
      verdict.equal(raw.status, 0, "status of a look at the bytes of the names")
      let shown = try await evidence.house!.house.tool.run(["show", evidence.job])
      verdict.require(!shown.stdout.contains(0x1B), "`cordon show` lets an escape sequence through")
    },
    control: .host(check: { evidence, verdict in
      let answer = try await HostCommand.run(
        "cd \"$1/output\" && for f in $(ls); do echo x; done | wc -l", evidence.scratch)
      verdict.require(answer.output != "15\n", "a naive loop counts right")
      let list = try await HostCommand.run("ls --show-control-chars \"$1/output\"", evidence.scratch)
      verdict.require(list.output.contains("\u{1B}[31m"), "a naive list escapes")
    }))

  private static let fs22 = AttackCase(
    id: "FS-22", what: "artifacts whose names lead out of the directory they are downloaded to",
    payload: .python(
      """
      import io, tarfile
      directory = os.environ["CORDON_OUTPUT"] + "/"
      for name in ("..hidden", "...", "-o", "~root", "C:evil", "..\\\\evil", "%2e%2e%2fevil", "\\\\x2e\\\\x2e"):
          open(directory + name, "w").write("data")
      os.makedirs(directory + "a/b/c")
      open(directory + "a/b/c/deep", "w").write("data")
      os.symlink(sys.argv[1], directory + "link")
      for name in ("../escaped", "/escaped", "a/../../escaped"):
          attempt("name " + name, lambda: os.close(os.open(directory + name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)))
      with tarfile.open(os.environ["TMPDIR"] + "/slip.tar", "w") as tar:
          member = tarfile.TarInfo("../escaped-by-tar")
          tar.addfile(member, io.BytesIO(b""))
      """), arguments: { [$0.canary] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      let target = try evidence.place.directory("download/inner")
      let before = names(in: evidence.place.path + "/download")
      let answer = try await evidence.house!.house.tool.run(["artifacts", evidence.job, "--to", target])
      verdict.equal(answer.status, 0, "status of `cordon artifacts`: \(answer.stderr)")
      verdict.equal(names(in: evidence.place.path + "/download"), before, "beside the directory")
      let kinds = try await HostCommand.run("cd \"$1\" && find . -mindepth 1 -printf '%y\\n' | sort | uniq -c", target)
      verdict.require(!kinds.output.contains("l"), "a link was exported: \(kinds.output)")
      verdict.require(kinds.output.contains("10 f"), "not all ten files were exported: \(kinds.output)")
      verdict.equal(evidence.quarantined["link"], "symlink", "the link")
    },
    control: .host(check: { evidence, verdict in
      // An exporter that takes names as they are leaves the directory it was given.
      let answer = try await HostCommand.run(
        "mkdir -p \"$1/x/y\" && tar -P -C \"$1/x/y\" -xf \"$1/tmp/slip.tar\"; ls \"$1/x\"", evidence.scratch)
      verdict.require(answer.output.contains("escaped-by-tar"), "tar -P stayed inside: \(answer.output)")
    }))

  private static let bounds: [AttackCase] = [
    AttackCase(
      id: "FS-18", what: "fill the output area",
      payload: .python(
        """
        def fill():
            with open(os.environ["CORDON_OUTPUT"] + "/big", "wb", buffering=0) as file:
                for _ in range(8): file.write(b"x" * (1 << 20))
        attempt("fill", fill)
        """), asks: ["limits": .object(["output": .string("4MiB")])],
      expect: { evidence, verdict in
        verdict.outcome(evidence, "output_limit")
        verdict.met(evidence, ["fill"], "ENOSPC")
      },
      control: .cell(
        asks: ["limits": .object(["output": .string("16MiB")])],
        check: { evidence, verdict in
          verdict.outcome(evidence, "succeeded")
          verdict.met(evidence, ["fill"], "ok")
        })),
    AttackCase(
      id: "FS-19", what: "empty files without end",
      payload: .python(
        """
        made = 0
        def fill():
            global made
            for made in range(600):
                os.close(os.open(f"{os.environ['CORDON_OUTPUT']}/{made}", os.O_CREAT | os.O_WRONLY))
        attempt("fill", fill)
        note("made", made)
        """), asks: ["limits": .object(["files": .integer(256)])],
      expect: { evidence, verdict in
        verdict.outcome(evidence, "output_limit")
        verdict.met(evidence, ["fill"], "ENOSPC")
        // On a disk inodes come in blocks of 16.
        verdict.require((evidence.number("made") ?? 9_999) <= 272, "it made \(evidence.seen)")
        verdict.require(evidence.artifacts.count <= 256, "\(evidence.artifacts.count) artifacts")
      },
      control: .cell(
        asks: ["limits": .object(["files": .integer(8_000)])],
        check: { evidence, verdict in
          verdict.outcome(evidence, "succeeded")
          verdict.equal(evidence.number("made"), 599, "files")
        })),
    AttackCase(
      id: "FS-35", what: "deleted files that stay open, and pages of maps, to dodge the bounds",
      payload: .python(
        """
        import mmap
        kept = []
        def deleted():
            for index in range(12):
                file = open(f"{os.environ['CORDON_OUTPUT']}/{index}", "wb", buffering=0)
                os.unlink(file.name)
                kept.append(file)
                file.write(b"x" * (1 << 20))
        attempt("deleted", deleted)
        kept.clear()
        def sparse():
            with open(os.environ["CORDON_OUTPUT"] + "/map", "w+b") as file:
                file.truncate(3 << 20)
                area = mmap.mmap(file.fileno(), 3 << 20)
                for offset in range(0, 3 << 20, 4096): area[offset] = 1
        attempt("mapped", sparse)
        """), asks: ["limits": .object(["output": .string("4MiB")])],
      expect: { evidence, verdict in
        verdict.met(evidence, ["deleted"], "ENOSPC")
        verdict.met(evidence, ["mapped"], "ok")
        verdict.require(["output_limit", "succeeded"].contains(evidence.outcome), "the outcome is \(evidence.outcome)")
      },
      control: .cell(
        asks: ["limits": .object(["output": .string("64MiB")])],
        check: { evidence, verdict in
          verdict.outcome(evidence, "succeeded")
          verdict.met(evidence, ["deleted", "mapped"], "ok")
        })),
    AttackCase(
      id: "FS-35b", what: "deleted files and maps in memory, beyond the memory limit",
      payload: .python(
        """
        descriptor = os.open("/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
        for _ in range(96): os.write(descriptor, b"x" * (1 << 20))
        note("written", "ok")
        """), asks: ["limits": .object(["memory": .string("64MiB"), "tmp": .string("512MiB")])],
      expect: { evidence, verdict in verdict.outcome(evidence, "out_of_memory") },
      control: .cell(
        asks: ["limits": .object(["memory": .string("256MiB"), "tmp": .string("512MiB")])],
        check: { evidence, verdict in
          verdict.outcome(evidence, "succeeded")
          verdict.met(evidence, ["written"], "ok")
        })),
  ]
}
