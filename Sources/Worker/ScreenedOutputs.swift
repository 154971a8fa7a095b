import Credentials
import Sandbox

extension OutputScreen {
  /// Looks for the secrets that an attempt's requests carried (CR-13).
  init(_ redactor: Redactor) {
    self.init {
      var search = SecretSearch(redactor)
      return { search.push($0) }
    } conceal: {
      redactor.redact($0)
    }
  }
}
