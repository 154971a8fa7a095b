import Glibc
import Kernel

/// What stands in the way of cells on a host, told from the host's own files: most hosts that cannot confine are kept
/// from it by one of a few settings, and the kernel's answer alone (`Operation not permitted`) names none of them.
///
/// Asked only where no sandbox started: a host may well have some of these settings and confine all the same.
public enum HostObstacles {
  /// The obstacles the facts show, each with its fix; the most probable first.
  public static func recognise(_ facts: HostFacts) -> [Finding] {
    userNamespaces(facts) + container(facts) + cgroups(facts)
  }

  // MARK: - User namespaces

  private static func userNamespaces(_ facts: HostFacts) -> [Finding] {
    var findings: [Finding] = []
    // Root makes cells without a user namespace.
    guard !facts.isRoot else { return [] }
    if facts.number(.maximumUserNamespaces) == 0 {
      findings.append(
        obstacle(
          "host.user_namespaces", "user.max_user_namespaces is 0: nobody may make a user namespace",
          "sysctl -w user.max_user_namespaces=15000, and the same line in /etc/sysctl.d/cordon.conf"))
    }
    if facts.number(.unprivilegedUserNamespaces) == 0 {
      findings.append(
        obstacle(
          "host.user_namespaces", "kernel.unprivileged_userns_clone is 0: only root may make a user namespace",
          "sysctl -w kernel.unprivileged_userns_clone=1, and the same line in /etc/sysctl.d/cordon.conf"))
    }
    if facts.number(.appArmorRestriction) == 1 {
      let profile = facts.text(.securityLabel).map { ", and this process runs as '\($0)'" } ?? ""
      findings.append(
        obstacle(
          "host.apparmor",
          "kernel.apparmor_restrict_unprivileged_userns is 1: a user namespace of an ordinary user has no "
            + "rights in it\(profile)",
          "load an AppArmor profile for cordon-warden with the rule `userns,`, or sysctl -w "
            + "kernel.apparmor_restrict_unprivileged_userns=0"))
    }
    return findings
  }

  // MARK: - Containers

  private static func container(_ facts: HostFacts) -> [Finding] {
    guard let marker = facts.containerMarker else { return [] }
    var findings: [Finding] = []
    let covered = facts.mounts.filter { $0.point.hasPrefix("/proc/") }.map(\.point)
    if !covered.isEmpty, !facts.isRoot {
      let shown = covered.prefix(3).joined(separator: ", ") + (covered.count > 3 ? ", …" : "")
      findings.append(
        obstacle(
          "host.container.proc",
          "in a container (\(marker)) whose /proc is covered in places (\(shown)): the kernel then refuses a new "
            + "/proc in a user namespace",
          "docker run --security-opt systempaths=unconfined, podman run --security-opt unmask=ALL, or a worker on the "
            + "host itself"))
    }
    if facts.status("Seccomp") == "2", facts.refusalIsDenial {
      findings.append(
        obstacle(
          "host.container.seccomp",
          "in a container (\(marker)) whose seccomp filter refuses unshare, clone3 or mount",
          "docker run --security-opt seccomp=unconfined (cells have a filter of their own), or a worker on the host "
            + "itself"))
    }
    if facts.isRoot, facts.refusalIsDenial, !facts.holdsSystemAdministration {
      findings.append(
        obstacle(
          "host.container.capabilities", "in a container (\(marker)) as root without CAP_SYS_ADMIN",
          "docker run --cap-add SYS_ADMIN, or run the worker there as an ordinary user with a cgroup of its own"))
    }
    return findings
  }

  // MARK: - Control groups

  private static func cgroups(_ facts: HostFacts) -> [Finding] {
    let mounts = facts.mounts.filter { $0.kind == "cgroup2" || $0.kind == "cgroup" }
    let nested = facts.containerMarker != nil
    guard !mounts.isEmpty else {
      return [
        obstacle(
          "host.cgroup", "no cgroup filesystem is mounted",
          nested
            ? "docker run --cgroupns=private with a writable /sys/fs/cgroup, or a worker on the host itself"
            : "mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd")
      ]
    }
    guard let unified = mounts.first(where: { $0.kind == "cgroup2" }) else { return [] }
    if unified.isReadOnly {
      return [
        obstacle(
          "host.cgroup", "\(unified.point) is mounted read-only",
          nested
            ? "docker run --cgroupns=private -v /sys/fs/cgroup:/sys/fs/cgroup:rw, or a worker on the host itself"
            : "mount -o remount,rw \(unified.point)")
      ]
    }
    var findings: [Finding] = []
    if nested, unified.root != "/" || facts.ownGroup.hasPrefix("/..") {
      findings.append(
        obstacle(
          "host.container.cgroup",
          "in a container that sees the host's cgroup tree from \(unified.root) and is in \(facts.ownGroup): it cannot "
            + "tell its own part of it",
          "docker run --cgroupns=private, or --cgroup-base GROUP"))
    }
    if !facts.baseIsWritable {
      findings.append(
        obstacle(
          "host.cgroup.delegation", "\(facts.basePath) cannot be written by uid \(facts.user): no group is delegated",
          delegation))
    }
    // On a hybrid host the v1 hierarchies have them.
    if !mounts.contains(where: { $0.kind == "cgroup" }), let offered = facts.offeredControllers {
      let absent = CgroupLayout.required.filter { !offered.contains($0) }
      if !absent.isEmpty {
        findings.append(
          obstacle(
            "host.cgroup.controllers",
            "\(facts.basePath) is not given the controllers \(absent.joined(separator: ", "))", delegation))
      }
    }
    return findings
  }

  private static let delegation =
    "systemd-run --user --scope -p Delegate=yes cordon worker …, a unit with Delegate=cpu memory pids, or for all "
    + "sessions: systemctl edit user@.service with [Service] Delegate=cpu memory pids"

  private static func obstacle(_ control: String, _ detail: String, _ fix: String) -> Finding {
    Finding(control: control, holds: false, detail: detail, fix: fix)
  }
}
