import Glibc

/// A process whose wall clock is a year off; see `CSkewedClock`.
enum Clock {
  private static let year = 365 * 86_400

  static func environment(ahead: Bool, products: String) -> [String: String] {
    [
      "LD_PRELOAD": products + "/libSkewedClock.so", "CORDON_FAULT_CLOCK": "\(ahead ? year : -year)",
    ]
  }
}
