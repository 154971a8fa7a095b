import Crypto
import Foundation
import Glibc
import Jobs
import TestKit

/// What a job tries on the filesystems it sees.
enum FilesystemCases {
  static let all: [AttackCase] = [fs10, fs13, fs14, fs23, fs24, fs25, fs26, fs27, fs28, fs30]

  private static let fs10 = AttackCase(
    id: "FS-10", what: "device nodes",
    payload: .python(
      """
      for place in sys.argv[1:]:
          for kind, name in ((stat.S_IFCHR, "character"), (stat.S_IFBLK, "block")):
              path = f"{place}/{name}-node"
              attempt(f"{name} {place}", lambda: os.mknod(path, kind | 0o666, os.makedev(1, 5)))
          # A node that exists would still have to be opened.
          attempt(f"open {place}", lambda: os.close(os.open(f"{place}/character-node", os.O_RDONLY)))
      note("landlock", libc.syscall(ctypes.c_long(444), None, ctypes.c_long(0), ctypes.c_long(1)))
      for line in open("/proc/self/mountinfo"):
          fields = line.split()
          note("mount " + fields[4], "ok" if "nodev" in fields[5].split(",") else "devices")
      """), arguments: { _ in ["/output", "/tmp", "/dev/shm", "/result"] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      // Landlock, where there is one, answers before the kernel asks for the capability.
      let answer = (evidence.number("landlock") ?? 0) > 0 ? "EACCES" : "EPERM"
      for kind in ["character", "block"] { verdict.metAll(evidence, prefix: kind, answer) }
      verdict.metAll(evidence, prefix: "open ", "ENOENT")
      for (name, met) in evidence.seen where name.hasPrefix("mount ") {
        let isDevice = ["null", "zero", "full", "random", "urandom"].contains { name == "mount /dev/\($0)" }
        verdict.equal(met.string, isDevice ? "devices" : "ok", name)
      }
    },
    control: .host(
      arguments: { [try? $0.directory("nodes")].compactMap { $0 } },
      check: { evidence, verdict in
        verdict.metAll(evidence, prefix: "character ", "ok")
        verdict.metAll(evidence, prefix: "block ", "ok")
        verdict.metAll(evidence, prefix: "open ", "ok")
      }))

  private static let fs13 = AttackCase(
    id: "FS-13", what: "extended attributes by the thousand",
    payload: .python(
      """
      path = os.environ["CORDON_OUTPUT"] + "/file"
      open(path, "w").close()
      def bomb():
          for index in range(20): os.setxattr(path, f"user.a{index}", b"x" * 100)
      attempt("user", bomb)
      for name in ("security.capability", "security.selinux", "system.posix_acl_access", "trusted.a"):
          attempt("set " + name, lambda: os.setxattr(path, name, b"x" * 20))
      note("attributes", len(os.listxattr(path)))
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.met(evidence, ["user"], "ENOTSUP", "EOPNOTSUPP")
      verdict.metAll(evidence, prefix: "set ", "ENOTSUP", "EOPNOTSUPP")
      verdict.equal(evidence.number("attributes"), 0, "attributes")
    },
    control: .host(check: { evidence, verdict in
      verdict.met(evidence, ["user"], "ok")
      verdict.require((evidence.number("attributes") ?? 0) >= 20, "\(evidence.seen)")
    }))

  private static let fs14 = AttackCase(
    id: "FS-14", what: "immutable and append-only flags, ACLs and modes that resist cleaning up",
    payload: .python(
      """
      import fcntl
      place = os.environ["CORDON_OUTPUT"] + "/d"
      os.mkdir(place)
      open(place + "/f", "w").close()
      for flag, value in (("immutable", 0x10), ("append", 0x20)):
          descriptor = os.open(place + "/f", os.O_RDONLY)
          attempt(flag, lambda: fcntl.ioctl(descriptor, 0x40086602, struct.pack("L", value)))
          attempt(flag + " no more", lambda: fcntl.ioctl(descriptor, 0x40086602, struct.pack("L", 0)))
      # Version 2; owner, group and others may do nothing.
      acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, 0, 2**32 - 1) for tag in (1, 4, 32))
      attempt("acl", lambda: os.setxattr(place, "system.posix_acl_access", acl))
      os.chmod(place, 0)
      """),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.met(evidence, ["immutable", "append"], "EPERM")
      verdict.met(evidence, ["acl"], "ENOTSUP", "EOPNOTSUPP")
    },
    control: .host(check: { evidence, verdict in
      verdict.met(evidence, ["immutable", "append", "immutable no more", "acl"], "ok")
    }))

  private static let fs23 = AttackCase(
    id: "FS-23", what: "an archive whose names and links lead out, and one that grows without end, unpacked by the job",
    payload: .python(
      """
      import io, tarfile, zlib
      outside, inside = sys.argv[1], os.environ["TMPDIR"] + "/a/b"
      os.makedirs(inside)
      def tar(*members):
          data = io.BytesIO()
          with tarfile.open(fileobj=data, mode="w") as archive:
              for member in members:
                  entry = tarfile.TarInfo(member[0])
                  if len(member) > 1: entry.type, entry.linkname = tarfile.SYMTYPE, member[1]
                  archive.addfile(entry, io.BytesIO(b""))
          data.seek(0)
          return tarfile.open(fileobj=data)
      def unpack(archive):
          archive.extraction_filter = staticmethod(lambda member, path: member)
          archive.extractall(inside)
      attempt("absolute", lambda: unpack(tar([outside + "/absolute"])))
      attempt("dots", lambda: unpack(tar(["../" * 20 + outside + "/dots"])))
      attempt("through a link", lambda: unpack(tar(["link", outside], ["link/through"])))
      small = zlib.compress(bytes(40 << 20), 9)
      attempt("bomb", lambda: open(os.environ["TMPDIR"] + "/bomb", "wb").write(zlib.decompress(small)))
      """), arguments: { [$0.path] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.met(evidence, ["absolute", "dots", "through a link"], "EROFS", "ENOENT", "EEXIST")
      verdict.met(evidence, ["bomb"], "ENOSPC")
      for name in ["absolute", "dots", "through"] {
        verdict.require(
          !FileManager.default.fileExists(atPath: evidence.place.path + "/" + name), "\(name) is on the host")
      }
    },
    control: .host(check: { evidence, verdict in
      verdict.met(evidence, ["absolute", "dots", "through a link", "bomb"], "ok")
      for name in ["absolute", "dots", "through"] {
        verdict.require(
          FileManager.default.fileExists(atPath: evidence.place.path + "/" + name), "\(name) is not there")
      }
    }))

  private static let fs24 = AttackCase(
    id: "FS-24", what: "write to inputs and to the program",
    payload: .python(
      """
      for path in sys.argv[1:]:
          place = os.path.dirname(path)
          for name, act in (
              ("open", lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))),
              ("create", lambda: os.close(os.open(place + "/new", os.O_CREAT | os.O_WRONLY))),
              ("mkdir", lambda: os.mkdir(place + "/directory")), ("chmod", lambda: os.chmod(path, 0o777)),
              ("chown", lambda: os.chown(path, os.getuid(), os.getgid())), ("utime", lambda: os.utime(path)),
              ("truncate", lambda: os.truncate(path, 0)), ("rename", lambda: os.rename(path, place + "/other")),
              ("unlink", lambda: os.unlink(place + "/other"))):
              attempt(f"{name} {path}", act)
      """), arguments: { _ in ["/input/given.txt", "/job/main.py"] },
    asks: ["inputs": .object(["given.txt": .object(["text": .string("given")])])],
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      // Who may not write at all is told so first; what only the mount keeps from being written, the mount refuses.
      for path in ["/input/given.txt", "/job/main.py"] {
        verdict.met(evidence, ["open \(path)"], "EROFS", "EACCES")
        verdict.met(evidence, ["truncate \(path)"], "EROFS", "EACCES")
        let names = ["create", "mkdir", "chmod", "chown", "utime", "rename", "unlink"].map { "\($0) \(path)" }
        verdict.met(evidence, names, "EROFS")
      }
      let inputs = evidence.record["attribution"]?["inputs"]?.array ?? []
      let given = Jobs.Digest(sha256: SHA256.hash(data: Data("given".utf8))).description
      verdict.equal(inputs.first?["sha256"]?.string, given, "digest of the input")
    },
    control: .host(
      arguments: { place in
        let directory = (try? place.directory("inputs")) ?? ""
        try? Data("given".utf8).write(to: URL(fileURLWithPath: directory + "/given.txt"))
        return [directory + "/given.txt"]
      },
      check: { evidence, verdict in
        for name in ["open", "create", "mkdir", "chmod", "chown", "utime", "truncate", "rename", "unlink"] {
          verdict.metAll(evidence, prefix: name + " ", "ok")
        }
      }))

  private static let fs25 = AttackCase(
    id: "FS-25", what: "remount an input writable, bind something over it, move it",
    payload: .python(
      """
      target = sys.argv[1].encode()
      def mount(name, source, fs, flags):
          call(name, 165, source, target, fs, ctypes.c_ulong(flags), None)
      mount("bind", b"/tmp", None, 4096)
      mount("remount", None, None, 32 | 4096)
      mount("remount the superblock", None, None, 32)
      mount("private", None, None, 1 << 18)
      mount("tmpfs", b"none", b"tmpfs", 0)
      call("umount", 166, target, 2)
      call("umount again", 166, target, 2)
      """), arguments: { _ in ["/input"] },
    asks: ["inputs": .object(["given.txt": .object(["text": .string("given")])])],
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.metAll(evidence, prefix: "", "EPERM")
    },
    control: .host(
      wrapper: ["/usr/bin/unshare", "--mount", "--propagation", "private"],
      arguments: { [(try? $0.directory("mounted")) ?? ""] },
      check: { evidence, verdict in
        verdict.met(evidence, ["bind", "remount", "private", "tmpfs", "umount", "umount again"], "ok")
      }))

  private static let fs26 = AttackCase(
    id: "FS-26", what: "overwrite the program that runs it",
    payload: .python(
      """
      def own():
          file = os.open("/proc/self/exe", os.O_RDONLY)
          os.close(os.open(f"/proc/self/fd/{file}", os.O_WRONLY))
      attempt("own", own)
      attempt("init", lambda: os.close(os.open("/proc/1/exe", os.O_RDONLY)))
      for path in sys.argv[1:]:
          attempt("write " + path, lambda: os.close(os.open(path, os.O_WRONLY)))
          attempt("replace " + path, lambda: os.rename("/tmp/none", path))
      """), arguments: { _ in ["/usr/bin/python3.11", "/usr/bin/bash", "/usr/bin/env", "/etc/ld.so.cache"] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.met(evidence, ["own"], "EACCES", "EROFS", "ETXTBSY")
      verdict.met(evidence, ["init"], "ENOENT", "EACCES")
      // Their owner is root, whom no job is; without the mount's flag that alone would answer EACCES.
      verdict.metAll(evidence, prefix: "write ", "EROFS", "EACCES", "ENOENT")
      verdict.metAll(evidence, prefix: "replace ", "EROFS", "ENOENT", "EXDEV")
    },
    control: .host(
      arguments: { place in
        try? FileManager.default.copyItem(atPath: "/usr/bin/env", toPath: place.path + "/program")
        return [place.path + "/program"]
      },
      check: { evidence, verdict in
        verdict.metAll(evidence, prefix: "write ", "ok")
      }))

  private static let fs27 = AttackCase(
    id: "FS-27", what: "walk to the host through the root, cwd and descriptors of processes",
    payload: .python(
      """
      canary = sys.argv[1]
      listed = [int(name) for name in os.listdir("/proc") if name.isdigit()]
      note("others", len([p for p in listed if p != os.getpid()]))
      found = {}
      for process in [p for p in range(1, 400) if p != os.getpid()] + [int(p) for p in sys.argv[2:]]:
          for link in ("root", "cwd", "exe", "fd", "map_files", "ns/mnt", "environ", "mem", "task"):
              try:
                  os.stat(f"/proc/{process}/{link}")
                  os.listdir(f"/proc/{process}/{link}") if link in ("root", "cwd", "fd", "task") else None
                  found[link] = found.get(link, 0) + 1
              except OSError as problem:
                  if problem.errno not in (errno.ENOENT, errno.ESRCH): found["answers " + spelled(problem.errno)] = 1
      note("reached", found)
      note("names", sorted(name for name in os.listdir("/proc") if not name.isdigit()))
      reach = ["/proc/self/root", "/proc/self/cwd/../../../../..", "/proc/thread-self/root",
          "/proc/self/task/%d/root" % os.getpid()]
      note("canary", sum(os.path.exists(path + canary) for path in reach + [f"/proc/{p}/root" for p in sys.argv[2:]]))
      """), arguments: { [$0.canary, String(getpid())] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      verdict.equal(evidence.number("others"), 0, "other processes in /proc")
      verdict.equal(evidence.seen["reached"], .object([:]), "what was reached of others")
      verdict.equal(
        evidence.seen["names"], .array([.string("self"), .string("thread-self")]), "what proc has beside pids")
      verdict.equal(evidence.number("canary"), 0, "ways to the canary")
    },
    control: .host(check: { evidence, verdict in
      verdict.require((evidence.number("others") ?? 0) > 3, "\(evidence.seen)")
      verdict.require(evidence.seen["reached"] != .object([:]), "nothing was reached")
      verdict.require((evidence.number("canary") ?? 0) >= 3, "\(evidence.seen)")
    }))

  private static let fs28 = AttackCase(
    id: "FS-28", what: "descriptors that are open at the start",
    // The one above 2 is the listing's own.
    payload: .command(["/usr/bin/ls", "-l", "/proc/self/fd"]),
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      let numbers = descriptors(evidence.stdout)
      verdict.equal(numbers, ["0", "1", "2", "3"], "descriptors")
      verdict.require(evidence.stdout.contains("3 -> /proc/"), "3 is not the listing: \(evidence.stdout)")
    },
    control: .host(
      wrapper: ["/bin/sh", "-c", "exec 7</etc/passwd; exec \"$@\"", "sh"],
      check: { evidence, verdict in
        verdict.require(descriptors(evidence.stdout).contains("7"), "a descriptor that is open is not listed")
      }))

  private static func descriptors(_ listing: String) -> [String] {
    listing.split(separator: "\n").compactMap { line in
      let words = line.split(separator: " ")
      return words.firstIndex(of: "->").map { String(words[$0 - 1]) }
    }.sorted()
  }

  /// Leaves something everywhere (`leave`), or looks for it.
  private static let leavings = Payload.python(
    """
    import mmap
    leave = sys.argv[1] == "leave"
    places = ["/tmp", "/dev/shm", "/var/tmp", "/output", "/result", "/run", "/dev/mqueue",
        os.environ["TMPDIR"], os.environ["CORDON_OUTPUT"]]
    for place in places:
        path = place + "/" + sys.argv[2]
        if leave: attempt("left " + place, lambda: open(path, "w").write("secret"))
        else: note("found " + place, os.path.exists(path))
    key = 0x43524431
    for name, number in (("shm", 29), ("sem", 64), ("msg", 68)):
        size = [4096] if name == "shm" else [1] if name == "sem" else []
        flags = 0o666 | (0o1000 if leave else 0)
        call(("left " if leave else "found ") + name, number, key, *size, flags)
    call(("left " if leave else "found ") + "keyring", 250 if leave else 250, 0, -3, 1 if leave else 0)
    s = socket.socket(socket.AF_UNIX)
    if leave:
        attempt("left abstract", lambda: s.bind("\\0" + sys.argv[2]))
        s.listen(1)
    else:
        attempt("found abstract", lambda: s.connect("\\0" + sys.argv[2]))
    """)

  private static let fs30 = AttackCase(
    id: "FS-30", what: "leave something for the next job",
    payload: leavings, arguments: { ["leave", $0.marker.text] },
    expect: { evidence, verdict in
      verdict.outcome(evidence, "succeeded")
      for place in ["/tmp", "/dev/shm", "/output", "/result"] { verdict.met(evidence, ["left \(place)"], "ok") }
      verdict.met(evidence, ["left shm", "left sem", "left msg", "left abstract"], "ok")
      verdict.met(evidence, ["left keyring"], "ENOSYS")
      // Often enough to come by the same uid, and by a cell that waited meanwhile.
      for _ in 0..<3 {
        let next = try await evidence.house!.evidence(
          leavings, ["look", evidence.place.marker.text], label: "FS-30", evidence.place)
        verdict.outcome(next, "succeeded")
        for (name, met) in next.seen where name.hasPrefix("found /") { verdict.equal(met, .bool(false), name) }
        verdict.met(next, ["found shm", "found sem", "found msg"], "ENOENT")
        verdict.met(next, ["found abstract"], "ECONNREFUSED")
      }
    },
    control: .host(
      wrapper: [
        "/usr/bin/unshare", "--ipc", "--net", "/usr/bin/bash", "-c",
        "\"$@\"; set -- \"${@:1:$#-2}\" look \"${@: -1}\"; exec \"$@\"", "bash",
      ],
      check: { evidence, verdict in
        verdict.equal(evidence.seen["found " + evidence.scratch + "/tmp"], .bool(true), "the file is found")
        verdict.met(evidence, ["found shm", "found sem", "found msg"], "ok")
      }))
}
