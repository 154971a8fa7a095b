import CLinux
import Glibc
import Kernel

/// The version of the kernel's Landlock, and what every cell sees of the template, with the rights that jobs have there.
/// Opened once; rules hold for the files themselves, whichever mount namespace they are reached in.
struct LandlockGrounds {
  let version: Int32
  let shared: [(place: Landlock.Place, rights: Landlock.Rights)]

  /// In the template. Nil where the kernel has no Landlock that is of use.
  static func open() throws(SystemError) -> LandlockGrounds? {
    guard let version = Landlock.version() else { return nil }
    var shared: [(Landlock.Place, Landlock.Rights)] = [(try Landlock.Place(.open("/", cordon_o_path)), .read)]
    for path in Template.programs where access(path, F_OK) == 0 {
      // Links lead to what /usr covers already.
      guard let place = try? Descriptor.open(path, cordon_o_path | O_NOFOLLOW | O_DIRECTORY) else { continue }
      shared.append((try Landlock.Place(place), .execute))
    }
    for device in Template.devices {
      shared.append((try Landlock.Place(.open("/dev/\(device)", cordon_o_path)), [.read, .write]))
    }
    return LandlockGrounds(version: version, shared: shared)
  }
}
