import Hummingbird
import JWTKit
import _CryptoExtras
enum Placeholder {}
