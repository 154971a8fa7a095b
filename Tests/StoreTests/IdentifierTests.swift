import Postgres
import TestKit
import Testing

@testable import Store

@Suite(.migrated) struct IdentifierTests {
  @Test func idsAreVersion7AndSortByTime() async throws {
    let ids = try await admin(
      "select cordon.uuid7()::text from generate_series(1, 2000) n where pg_sleep(0.000002) is not null"
    ).compactMap { $0 }
    #expect(Set(ids).count == 2000)
    #expect(ids == ids.sorted())
    for id in ids {
      let characters = Array(id)
      #expect(characters[14] == "7" && "89ab".contains(characters[19]), "\(id)")
    }
    // The time inside is the clock's.
    let off = try await admin(
      """
      select abs(extract(epoch from clock_timestamp()) * 1000
        - ('x' || replace(left(cordon.uuid7()::text, 13), '-', ''))::bit(48)::bigint) < 1000
      """)
    #expect(off == ["t"])
  }

  @Test func microsecondsKeepTheirOrder() async throws {
    let wrong = try await admin(
      """
      with i as (select n, cordon.uuid7(1800000000000000 + n) as id from generate_series(0, 4000) n)
      select count(*) from i a join i b on b.n = a.n + 1 where a.id >= b.id
      """)
    #expect(wrong == ["0"])
  }

  @Test(arguments: [
    ("0195ffff-0000-7000-8000-000000000000", true), ("0195FFFF-0000-7000-8000-00000000ABCD", true), ("", false),
    ("0195ffff00007000800000000000000", false), ("0195fffg-0000-7000-8000-000000000000", false),
    ("0195ffff-0000-7000-8000-000000000000 ", false), ("é195fff-0000-7000-8000-000000000000", false),
  ])
  func jobIDsAreUUIDs(text: String, good: Bool) {
    #expect((JobID(text) != nil) == good)
    if good { #expect(JobID(text)?.description == text.lowercased()) }
  }

  @Test func rowsGoToThePartitionOfTheirWeek() async throws {
    let producer = try await Member.producer()
    _ = try await producer.store.enqueue(queue: "default", specification: sleepJob)
    let partition = try await admin("select tableoid::regclass::text from cordon.job")
    #expect(partition[0]?.hasPrefix("cordon.job_2") == true)
    // An id of every day of the prepared weeks finds a partition; one far ahead the default.
    let places = try await admin(
      """
      with made as (
        insert into cordon.log_chunk (job, attempt, sequence, stream, bytes)
        select cordon.uuid7(cordon.micros(now() + make_interval(days => d))), 1, d, 'stdout', ''
        from unnest(array[0, 7, 14, 21, 28, 400]) d returning tableoid::regclass::text as place, sequence)
      select place from made order by sequence
      """
    ).compactMap { $0 }
    #expect(places.last == "cordon.log_chunk_default")
    #expect(Set(places.dropLast()).count == 5 && !places.dropLast().contains("cordon.log_chunk_default"))
  }

  @Test func partitionsAreMadeAhead() async throws {
    let boss = try await Member.make("cordon_operator", maximum: 1)
    #expect(try await boss.column("select cordon.ensure_partitions()::text") == ["0"])
    #expect(try await boss.column("select cordon.ensure_partitions(6)::text") == ["10"])
    #expect(try await boss.column("select cordon.ensure_partitions(6)::text") == ["0"])
    // A week whose ids are in the default partition already stays there, and the others are made.
    _ = try await admin(
      """
      insert into cordon.log_chunk (job, attempt, sequence, stream, bytes)
      values (cordon.uuid7(cordon.micros(now() + interval '49 days')), 1, 0, 'stdout', '') returning stream
      """)
    #expect(try await boss.column("select cordon.ensure_partitions(7)::text") == ["4"])
    let unguarded = try await admin(
      """
      select c.relname from pg_class c join pg_inherits i on i.inhrelid = c.oid
      join pg_class p on p.oid = i.inhparent
      where c.relnamespace = 'cordon'::regnamespace and c.relkind = 'r' and p.relname in ('job', 'attempt', 'log_chunk')
        and (select count(*) from pg_trigger t where t.tgrelid = c.oid and t.tgname in ('keep', 'keep_all')) <> 2
      """)
    #expect(unguarded == [])
  }
}
