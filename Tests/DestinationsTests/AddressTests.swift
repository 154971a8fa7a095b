import Testing

@testable import Destinations

@Suite struct AddressTests {
  @Test(
    arguments: [
      ("0.0.0.0", "0.0.0.0"), ("255.255.255.255", "255.255.255.255"), ("::", "::"), ("::1", "::1"), ("1::", "1::"),
      ("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"), ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
      ("1:0:0:2:0:0:0:3", "1:0:0:2::3"), ("::ffff:10.0.0.1", "10.0.0.1"), ("::FFFF:a00:1", "10.0.0.1"),
      ("0:0:0:0:0:ffff:0a00:0001", "10.0.0.1"), ("64:ff9b::169.254.169.254", "64:ff9b::a9fe:a9fe"),
      ("1:2:3:4:5:6:7.8.9.10", "1:2:3:4:5:6:708:90a"), ("fe80::1", "fe80::1"), ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
    ])
  func oneAddressIsOneValue(text: String, canonical: String) throws {
    let address = try #require(IPAddress(text), "\(text)")
    #expect(address.description == canonical)
    #expect(IPAddress(canonical) == address)
  }

  @Test(
    arguments: [
      "", "1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.04", "256.1.1.1", "0x7f.0.0.1", "2130706433", "1.2.3.-4",
      "1.2.3.4 ",
      " 1.2.3.4", "1.2.3.+4", "1..2.3", ":", ":::", "1:2", "::1::", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "12345::",
      "g::", "::1%eth0", "[::1]", "fe80::1%25lo", "::1.2.3", "::1.2.3.4.5", "1.2.3.4::", "::01.2.3.4",
      "1:2:3:4:5:6:7:1.2.3.4",
      ":1:2:3:4:5:6:7", "1:2:3:4:5:6:7:", "１.2.3.4", "1.2.3.4\0", "::-1", "::+1",
    ])
  func whatReadersMayDifferAboutIsNone(text: String) {
    #expect(IPAddress(text) == nil)
  }

  /// Every address that IANA's registries or a cloud give a meaning, in the first, the last and one beyond.
  @Test(
    arguments: [
      ("169.254.169.254", .metadata), ("::ffff:169.254.169.254", .metadata), ("fd00:ec2::254", .metadata),
      ("168.63.129.16", .metadata), ("168.63.129.17", .global), ("100.100.100.200", .metadata),
      ("64:ff9b::a9fe:a9fe", .translated), ("64:ff9b:1::1", .translated), ("2002:a9fe:a9fe::1", .translated),
      ("2001:0:1::1", .translated), ("::7f00:1", .translated), ("0.0.0.0", .reserved), ("0.255.255.255", .reserved),
      ("1.0.0.0", .global), ("9.255.255.255", .global), ("10.0.0.0", .private), ("10.255.255.255", .private),
      ("11.0.0.0", .global), ("100.63.255.255", .global), ("100.64.0.0", .private), ("100.127.255.255", .private),
      ("100.128.0.0", .global), ("127.0.0.0", .loopback), ("127.255.255.255", .loopback), ("128.0.0.0", .global),
      ("169.254.0.0", .linkLocal), ("169.254.255.255", .linkLocal), ("169.255.0.0", .global),
      ("172.15.255.255", .global),
      ("172.16.0.0", .private), ("172.31.255.255", .private), ("172.32.0.0", .global), ("192.0.0.1", .reserved),
      ("192.0.2.1", .reserved), ("192.88.99.1", .reserved), ("192.168.0.0", .private), ("192.168.255.255", .private),
      ("192.169.0.0", .global), ("198.17.255.255", .global), ("198.18.0.0", .reserved), ("198.19.255.255", .reserved),
      ("198.20.0.0", .global), ("198.51.100.9", .reserved), ("203.0.113.9", .reserved), ("223.255.255.255", .global),
      ("224.0.0.0", .multicast), ("239.255.255.255", .multicast), ("240.0.0.0", .reserved),
      ("255.255.255.255", .reserved), ("::", .reserved), ("::1", .loopback), ("fc00::", .private),
      ("fdff:ffff::1", .private), ("fe80::", .linkLocal), ("febf:ffff::1", .linkLocal), ("fec0::1", .private),
      ("ff02::fb", .multicast), ("2001:db8::1", .reserved), ("3fff::1", .reserved), ("2001:1::1", .reserved),
      ("2001:200::1", .global), ("2606:4700::1111", .global), ("3ffe::1", .global), ("4000::1", .reserved),
      ("100::1", .reserved), ("5f00::1", .reserved), ("::2:0:0", .reserved),
    ] as [(String, AddressReach)])
  func everyAddressHasOneReach(text: String, reach: AddressReach) throws {
    #expect(AddressReach(try #require(IPAddress(text), "\(text)")) == reach, "\(text)")
  }

  @Test func blocksAreWrittenByTheirFirstAddress() throws {
    let block = try #require(AddressBlock("10.20.0.0/16"))
    #expect(block.contains(try #require(IPAddress("10.20.255.255"))))
    #expect(!block.contains(try #require(IPAddress("10.21.0.0"))))
    #expect(try block.contains(#require(IPAddress("::ffff:10.20.1.1"))))
    #expect(try #require(AddressBlock("fd00::/8")).contains(#require(IPAddress("fdab::1"))))
    #expect(try #require(AddressBlock("::/0")).contains(#require(IPAddress("ffff::"))))
    #expect(try !#require(AddressBlock("0.0.0.0/0")).contains(#require(IPAddress("::1"))))
    for text in [
      "10.20.0.1/16", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "::/129", "a/8", "10.0.0.0/8/8",
    ] {
      #expect(AddressBlock(text) == nil, "\(text)")
    }
  }
}
