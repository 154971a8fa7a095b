import Foundation
import Jobs
import TestKit

/// System calls that no job may make, by what they are for.
enum CallCases {
  /// Calls by name, number and arguments; refused with one of these in a cell. As root on the host the same calls, with
  /// arguments that lead nowhere, meet whatever the kernel says to those, and never what the filter says.
  private static func calls(
    _ id: String, _ what: String, _ list: String, _ refusal: String..., wrapper: [String] = []
  ) -> AttackCase {
    AttackCase(
      id: id, what: what,
      payload: .python(
        """
        nothing = ctypes.c_void_p(0)
        bad = ctypes.c_void_p(8)
        calls = \(list)
        for name, number, *arguments in calls:
            apart(name, lambda: call("it", number, *arguments))
        """),
      expect: { evidence, verdict in
        verdict.outcome(evidence, "succeeded")
        verdict.require(!evidence.seen.isEmpty, "nothing was called: \(evidence.stderr)")
        for (name, met) in evidence.seen {
          verdict.require(refusal.contains(met.string ?? ""), "\(name) met \(met), not \(refusal)")
        }
      },
      control: .host(
        wrapper: wrapper,
        check: { evidence, verdict in
          verdict.require(!evidence.seen.isEmpty, "nothing was called")
          for (name, met) in evidence.seen {
            // A kernel built without a call says ENOSYS; then there is nothing to guard and nothing to show.
            let isAnswer = met.string == "ENOSYS" || !refusal.contains(met.string ?? "")
            verdict.require(isAnswer, "\(name) met \(met) without a filter")
          }
          verdict.require(
            evidence.seen.values.contains { $0.string != "ENOSYS" || refusal == ["ENOSYS"] }, "nothing answers")
        }))
  }

  private static let privateMounts = ["/usr/bin/unshare", "--mount", "--propagation", "private"]

  static let all: [AttackCase] = [
    calls("KS-02", "clone3", "[('clone3', 435, bad, 64)]", "ENOSYS"),
    calls(
      "KS-03", "setns",
      "[('setns by number', 308, -1, 0), ('setns to init', 308, os.open('/proc/self/ns/mnt', os.O_RDONLY), 0)]", "EPERM"
    ),
    calls(
      "KS-04", "the old and the new calls for mounts",
      """
      [('mount', 165, b'none', b'/nonexistent', b'tmpfs', 0, nothing), ('umount2', 166, b'/nonexistent', 2),
          ('pivot_root', 155, b'/nonexistent', b'/nonexistent'), ('chroot', 161, b'/nonexistent'),
          ('fsopen', 430, b'nonexistent', 0), ('fsconfig', 431, -1, 0, nothing, nothing, 0), ('fsmount', 432, -1, 0, 0),
          ('fspick', 433, -100, b'/nonexistent', 0), ('open_tree', 428, -100, b'/nonexistent', 1),
          ('move_mount', 429, -1, b'', -1, b'', 4), ('mount_setattr', 442, -1, b'', 0x1000, nothing, 0),
          ('swapon', 167, b'/nonexistent', 0), ('quotactl', 179, 0, nothing, 0, nothing),
          ('statmount', 457, bad, bad, 8, 0), ('listmount', 458, bad, bad, 8, 0),
          ('name_to_handle_at', 303, -100, b'/nonexistent', bad, bad, 0),
          ('open_by_handle_at', 304, -1, bad, 0)]
      """, "EPERM", "ENOSYS", wrapper: privateMounts),
    calls("KS-05", "bpf", "[(f'bpf {command}', 321, command, nothing, 0) for command in range(40)]", "EPERM"),
    calls("KS-06", "perf_event_open", "[('perf_event_open', 298, bad, 0, -1, -1, 0)]", "EPERM"),
    calls(
      "KS-07", "io_uring",
      "[('setup', 425, 0, bad), ('enter', 426, -1, 0, 0, 0, nothing, 0), ('register', 427, -1, 0, nothing, 0)]",
      "ENOSYS"),
    calls(
      "KS-08", "keyrings",
      """
      [('add_key', 248, bad, bad, nothing, 0, -3), ('request_key', 249, bad, bad, nothing, 0),
          ('keyctl', 250, 0, -3, 0), ('join', 250, 1, bad)]
      """,
      "ENOSYS"),
    calls("KS-09", "userfaultfd", "[('userfaultfd', 323, 0x7fffffff)]", "EPERM"),
    calls(
      "KS-10", "kexec, modules, reboot, clocks and names of the host",
      """
      [('kexec_load', 246, 0, 99999, nothing, 0), ('kexec_file_load', 320, -1, -1, 0, nothing, 0xff),
          ('init_module', 175, nothing, 0, bad), ('finit_module', 313, -1, bad, 0), ('delete_module', 176, bad, 0),
          ('reboot', 169, 1, 2, 3, nothing), ('settimeofday', 164, bad, nothing), ('clock_settime', 227, 99, bad),
          ('adjtimex', 159, bad), ('clock_adjtime', 305, 99, bad), ('sethostname', 170, bad, -1),
          ('setdomainname', 171, bad, -1),
          ('acct', 163, b'/nonexistent/x'), ('syslog', 103, 99, nothing, 0), ('iopl', 172, 99),
          ('ioperm', 173, 70000, 1, 1),
          ('swapoff', 168, b'/nonexistent'), ('lookup_dcookie', 212, 0, bad, 0)]
      """, "EPERM"),
    calls(
      "KS-11", "ptrace and its kin",
      """
      [(f'ptrace {request}', 101, request, 0x3fffffff, 0, 0)
          for request in (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 16, 17, 24, 0x4200, 0x4206, 0x420e)]
      """, "EPERM"),
  ]
}
