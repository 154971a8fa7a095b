// swift-tools-version: 6.2

import PackageDescription

/// Flags every Swift target of this package is built with.
let settings: [SwiftSetting] = [
  // Data races are errors, not reviews: the worker shares one process between dozens of attempts.
  .swiftLanguageMode(.v6),
  // A warning nobody must fix is a warning nobody reads.
  .treatAllWarnings(as: .error),
  // `any` marks where a call goes through an existential, which matters on the claim and output paths.
  .enableUpcomingFeature("ExistentialAny"),
  // A file names what it uses; a target's imports then match the table of layers in README.md.
  .enableUpcomingFeature("MemberImportVisibility"),
]

/// The warden is spawned by every worker and copied by every cell: with a static standard library it
/// starts like a C program (0.7 ms against 10 ms with dynamic Foundation) and maps fewer pages to copy.
let wardenLinking: [LinkerSetting] = [.unsafeFlags(["-static-stdlib"])]

/// What a cell's processes execute before the job: no C library, no loader, one page of code. To start it costs 0.06 ms,
/// where a program with the C library asks the processor about itself for longer than that. The Swift driver names its
/// own library whatever a target is written in; linked statically, nothing of it is wanted, and nothing is taken.
let cellLinking: [LinkerSetting] = [
  .unsafeFlags([
    "-static-stdlib", "-nostartfiles", "-Xclang-linker", "-nostdlib", "-Xclang-linker", "-static",
    "-Xclang-linker", "-Wno-unused-command-line-argument",
    // A sanitizer's library would want the C library; there is no memory here that it could watch.
    "-Xclang-linker", "-fno-sanitize=all",
  ])
]
let cellSettings: [CSetting] = [
  .unsafeFlags([
    "-ffreestanding", "-fno-sanitize=all", "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-O2", "-Wall",
    "-Wextra", "-Werror",
  ])
]

/// The C targets are compiled as strictly as the Swift ones.
let cSettings: [CSetting] = [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])]

let package = Package(
  name: "cordon",
  products: [
    .executable(name: "cordon", targets: ["cordon"]),
    .executable(name: "cordon-warden", targets: ["cordon-warden"]),
    .executable(name: "cordon-cell", targets: ["cordon-cell"]),
    // Put before a worker's C library by ops/faults.
    .library(name: "SkewedClock", type: .dynamic, targets: ["CSkewedClock"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    // What reaches the network: the broker, the issuer's endpoints, Vault. BoringSSL comes twice with them.
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
    .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
    .package(url: "https://github.com/apple/swift-asn1", from: "1.5.0"),
    .package(url: "https://github.com/vapor/jwt-kit", from: "5.7.1"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
    .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
  ],
  targets: [
    // System libraries.
    .systemLibrary(name: "CPostgres", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
    .systemLibrary(name: "CSeccomp", pkgConfig: "libseccomp", providers: [.apt(["libseccomp-dev"])]),
    .systemLibrary(name: "CCapability", pkgConfig: "libcap", providers: [.apt(["libcap-dev"])]),

    // Values and state machines; no I/O.
    .target(name: "Jobs", swiftSettings: settings),
    .target(name: "Schedules", dependencies: ["Jobs"], swiftSettings: settings),
    // Where a job may go, as policies say it and the broker judges it.
    .target(name: "Destinations", dependencies: ["Jobs"], swiftSettings: settings),
    .target(
      name: "Policies",
      dependencies: [
        "Destinations", "Jobs", .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "Yams", package: "Yams"),
      ],
      swiftSettings: settings),
    // The only exit of a cell: parse, decide, connect, inject, record.
    .target(
      name: "Broker",
      dependencies: [
        "Destinations", "Jobs", "Policies",
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "NIOTLS", package: "swift-nio"),
        .product(name: "X509", package: "swift-certificates"),
        .product(name: "SwiftASN1", package: "swift-asn1"),
      ],
      swiftSettings: settings),
    // Who an attempt is: keys, tokens, the issuer's documents and endpoints.
    .target(
      name: "Identity",
      dependencies: [
        "Jobs", .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "CryptoExtras", package: "swift-crypto"),
        .product(name: "JWTKit", package: "jwt-kit"),
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HummingbirdCore", package: "hummingbird"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio"),
      ],
      swiftSettings: settings),
    // Where secrets come from and how they are kept out of what a job prints.
    .target(
      name: "Credentials",
      dependencies: [
        "Jobs", "Postgres", .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
      ],
      swiftSettings: settings),
    .target(name: "WardenProtocol", swiftSettings: settings),
    .target(name: "CellPool", swiftSettings: settings),
    // Optimised in debug builds too: its tests go through hundreds of thousands of states.
    .target(name: "LeaseModel", swiftSettings: settings + [.unsafeFlags(["-O"])]),

    // The database.
    .target(name: "EventThread", dependencies: ["CLinux"], swiftSettings: settings),
    .target(name: "Postgres", dependencies: ["CPostgres", "EventThread"], swiftSettings: settings),
    .executableTarget(name: "EmbedSQLTool", swiftSettings: settings),
    .plugin(name: "EmbedSQL", capability: .buildTool(), dependencies: ["EmbedSQLTool"], path: "Sources/EmbedSQL"),
    .target(
      name: "Store",
      dependencies: ["Jobs", "Schedules", "Postgres", .product(name: "Crypto", package: "swift-crypto")],
      swiftSettings: settings, plugins: ["EmbedSQL"]),
    .target(name: "PrivateCluster", dependencies: ["Postgres"], swiftSettings: settings),

    // The kernel and the cell.
    .target(name: "CLinux", cSettings: cSettings),
    .target(name: "Kernel", dependencies: ["CLinux", "CSeccomp", "CCapability"], swiftSettings: settings),
    .executableTarget(name: "cordon-cell", cSettings: cellSettings, linkerSettings: cellLinking),
    .executableTarget(
      name: "cordon-warden", dependencies: ["CCapability", "Kernel", "WardenProtocol", "CellPool"],
      swiftSettings: settings,
      linkerSettings: wardenLinking),
    .target(
      name: "Sandbox",
      dependencies: [
        "Jobs", "CLinux", "Kernel", "WardenProtocol", "EventThread",
        .product(name: "Crypto", package: "swift-crypto"),
      ],
      swiftSettings: settings),

    // The loop and the command line.
    .target(
      name: "Worker",
      dependencies: [
        "Broker", "Credentials", "Destinations", "Identity", "Jobs", "Kernel", "Schedules", "Postgres", "Store",
        "Sandbox",
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: settings),
    .executableTarget(
      name: "cordon",
      dependencies: [
        "Broker", "Credentials", "Destinations", "Identity", "Jobs", "Policies", "Schedules", "Store", "Sandbox",
        "Kernel", "Postgres", "Worker", "PrivateCluster",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: settings),

    // A fleet under faults.
    .target(name: "CSkewedClock", cSettings: cSettings),
    .target(name: "FaultHistory", swiftSettings: settings),
    .executableTarget(
      name: "Faults",
      dependencies: [
        "CLinux", "FaultHistory", "Jobs", "Postgres", "PrivateCluster", "Store",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Crypto", package: "swift-crypto"),
      ],
      swiftSettings: settings),

    // Measurements.
    .target(
      name: "BenchReport",
      dependencies: ["Jobs", .product(name: "ArgumentParser", package: "swift-argument-parser")],
      swiftSettings: settings),
    .target(name: "CFloor", cSettings: cSettings),
    .target(name: "CQueueFloor", dependencies: ["CPostgres"], cSettings: cSettings),
    .executableTarget(
      name: "SandboxBench",
      dependencies: [
        "BenchReport", "CFloor", "Jobs", "Kernel", "Sandbox",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: settings),
    .executableTarget(
      name: "QueueBench",
      dependencies: [
        "BenchReport", "CQueueFloor", "Jobs", "Postgres", "PrivateCluster", "Sandbox", "Store", "Worker",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: settings, plugins: ["EmbedSQL"]),

    .executableTarget(
      name: "EgressBench",
      dependencies: [
        "BenchReport", "Broker", "Destinations", "Jobs",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "NIOTLS", package: "swift-nio"),
        .product(name: "X509", package: "swift-certificates"),
        .product(name: "SwiftASN1", package: "swift-asn1"),
      ],
      swiftSettings: settings),

    // What the queue's page shows, compiled with everything else and run by a journey.
    .executableTarget(
      name: "ExampleProducer", dependencies: ["Postgres", "Store"], path: "ops/examples/queue",
      exclude: ["producer.py", "producer.sql"], swiftSettings: settings),

    // Tests.
    .target(
      name: "TestKit", dependencies: ["Jobs", "Postgres", "PrivateCluster", "Store"], exclude: ["TownServices"],
      swiftSettings: settings),
    .testTarget(name: "JobsTests", dependencies: ["Jobs"], swiftSettings: settings),
    .testTarget(name: "DestinationsTests", dependencies: ["Destinations"], swiftSettings: settings),
    .testTarget(
      name: "BrokerTests",
      dependencies: [
        "Broker", "Destinations", "Jobs", "Policies",
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "X509", package: "swift-certificates"),
        .product(name: "SwiftASN1", package: "swift-asn1"),
      ],
      swiftSettings: settings),
    .testTarget(
      name: "IdentityTests",
      dependencies: [
        "Identity", "Jobs", "Postgres", "Store", "TestKit", .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "HummingbirdTesting", package: "hummingbird"),
        .product(name: "JWTKit", package: "jwt-kit"),
        .product(name: "Logging", package: "swift-log"),
      ],
      exclude: ["reference.py", "reference.txt"], swiftSettings: settings),
    .testTarget(
      name: "CredentialsTests",
      dependencies: [
        "Credentials", "Jobs", "Policies", "Postgres", "PrivateCluster", "TestKit",
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
      ],
      exclude: ["reference.py", "reference.txt"], swiftSettings: settings),
    .testTarget(name: "PoliciesTests", dependencies: ["Policies", "Jobs"], swiftSettings: settings),
    .testTarget(
      name: "SchedulesTests", dependencies: ["Jobs", "Schedules", "TestKit"],
      exclude: ["reference.py", "reference.txt"],
      swiftSettings: settings),
    .testTarget(name: "WardenProtocolTests", dependencies: ["WardenProtocol"], swiftSettings: settings),
    .testTarget(name: "LeaseModelTests", dependencies: ["LeaseModel"], swiftSettings: settings),
    .testTarget(name: "CellPoolTests", dependencies: ["CellPool"], swiftSettings: settings),
    .testTarget(
      name: "PostgresTests", dependencies: ["Postgres", "PrivateCluster", "TestKit"], swiftSettings: settings),
    .testTarget(
      name: "StoreTests",
      dependencies: ["Jobs", "Policies", "Postgres", "PrivateCluster", "Schedules", "Store", "TestKit"],
      swiftSettings: settings),
    .testTarget(name: "KernelTests", dependencies: ["Kernel"], swiftSettings: settings),
    .testTarget(name: "SandboxTests", dependencies: ["Jobs", "Kernel", "Sandbox", "TestKit"], swiftSettings: settings),
    .testTarget(
      name: "WorkerTests",
      dependencies: [
        "Broker", "Credentials", "Destinations", "Identity", "Jobs", "Postgres", "Sandbox", "Store", "Worker",
      ],
      swiftSettings: settings),
    .testTarget(
      name: "Journeys",
      dependencies: ["TestKit", "Jobs", "Postgres", .product(name: "Crypto", package: "swift-crypto")],
      exclude: ["reference.txt"], swiftSettings: settings),
    .testTarget(
      name: "FaultsTests", dependencies: ["FaultHistory", "TestKit"], exclude: ["Mutants"], swiftSettings: settings),
    .testTarget(
      name: "Attacks",
      dependencies: [
        "TestKit", "Jobs", "Postgres", "Kernel", "CSeccomp", .product(name: "Crypto", package: "swift-crypto"),
      ],
      exclude: ["Payloads"], swiftSettings: settings),
  ]
)
