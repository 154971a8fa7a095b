import FoundationEssentials
import Jobs

/// A schedule as people write it and the database keeps it: when, what, and what to do when that is in each other's way.
///
/// Reading is strict. A member that this build does not know, a value of another kind or one that cannot be kept is
/// a `ScheduleProblem` with its path: a schedule that fires otherwise than it says is worse than one refused. The
/// specification is the database's to judge, like any other.
public struct ScheduleDocument: Equatable, Sendable {
  public var schedule: Schedule
  public var overlap: Overlap
  public var missed: MissedRuns
  public var queue: String
  /// 0 to 9, lower first.
  public var priority: Int
  /// A job's specification.
  public var specification: JSONValue

  public init(
    schedule: Schedule, overlap: Overlap = .skip, missed: MissedRuns = .coalesce, queue: String = "default",
    priority: Int = 4, specification: JSONValue
  ) {
    self.schedule = schedule
    self.overlap = overlap
    self.missed = missed
    self.queue = queue
    self.priority = priority
    self.specification = specification
  }

  /// - Parameter text: JSON.
  public init(_ text: String) throws(ScheduleProblem) {
    guard let value = try? JSONDecoder().decode(JSONValue.self, from: Data(text.utf8)) else {
      throw ScheduleProblem("document", "is no JSON")
    }
    try self.init(value)
  }

  public init(_ value: JSONValue) throws(ScheduleProblem) {
    let members = try Members(
      value, "document",
      known: [
        "calendar", "cron", "ends", "fold", "gap", "missed", "overlap", "priority", "queue", "specification", "starts",
        "zone",
      ])
    schedule = try Self.schedule(members)
    overlap = try members.choice("overlap") ?? .skip
    missed = try Self.missed(members)
    queue = try members.string("queue") ?? "default"
    priority = try members.integer("priority", in: 0...9) ?? 4
    guard let specification = members["specification"], specification.object != nil else {
      throw ScheduleProblem("specification", "is missing or no object; use that of a job")
    }
    self.specification = specification
  }

  /// The document with every policy spelled out, also those that were left to their defaults.
  public var json: JSONValue {
    var members: [String: JSONValue] = [
      "cron": .string(schedule.expression.description), "zone": .string(schedule.zone.identifier),
      "gap": .string(schedule.gap.rawValue), "fold": .string(schedule.fold.rawValue),
      "overlap": .string(overlap.rawValue), "queue": .string(queue), "priority": .integer(Int64(priority)),
      "specification": specification,
    ]
    switch missed {
    case .skip: members["missed"] = .string("skip")
    case .coalesce: members["missed"] = .string("coalesce")
    case .catchUp(let most): members["missed"] = .object(["catch_up": .integer(Int64(most))])
    }
    if let calendar = schedule.calendar {
      members["calendar"] = .object([
        "weekend": .array(
          calendar.weekend.sorted { $0.rawValue < $1.rawValue }.map { .string($0.abbreviation) }),
        "holidays": .array(calendar.holidays.sorted().map { .string($0.description) }),
        "on_holiday": .string(calendar.onNonBusinessDay.rawValue),
      ])
    }
    if let starts = schedule.starts { members["starts"] = .string(Self.text(of: starts)) }
    if let ends = schedule.ends { members["ends"] = .string(Self.text(of: ends)) }
    return .object(members)
  }

  /// Milliseconds are written where there are any, so that what was read is what is written.
  private static func text(of date: Date) -> String {
    let isWhole = date.timeIntervalSince1970.rounded() == date.timeIntervalSince1970
    return date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: !isWhole))
  }

  private static func schedule(_ members: Members) throws(ScheduleProblem) -> Schedule {
    guard let cron = try members.string("cron") else { throw ScheduleProblem("cron", "is missing") }
    let expression: CronExpression
    do {
      expression = try CronExpression(cron)
    } catch {
      throw ScheduleProblem("cron", error.description)
    }
    // A schedule is about somebody's wall clock; which, is not guessed.
    guard let name = try members.string("zone") else {
      throw ScheduleProblem("zone", "is missing; use a name such as Europe/Zurich or UTC")
    }
    guard let zone = Zone(name) else {
      throw ScheduleProblem("zone", "'\(name)' is unknown; use a name such as Europe/Zurich or UTC")
    }
    return try Schedule(
      expression, zone: zone, gap: members.choice("gap"), fold: members.choice("fold"), calendar: calendar(members),
      starts: members.instant("starts"), ends: members.instant("ends"))
  }

  private static func calendar(_ members: Members) throws(ScheduleProblem) -> BusinessCalendar? {
    guard let value = members["calendar"] else { return nil }
    let members = try Members(value, "calendar", known: ["holidays", "on_holiday", "weekend"])
    let weekend = try members.set("weekend", as: "sun to sat") { Weekday(abbreviation: $0) }
    let holidays = try members.set("holidays", as: "a date such as 2026-12-25") { CivilDate($0) }
    return try BusinessCalendar(
      weekend: weekend ?? [.saturday, .sunday], holidays: holidays ?? [],
      onNonBusinessDay: members.choice("on_holiday") ?? .skip)
  }

  private static func missed(_ members: Members) throws(ScheduleProblem) -> MissedRuns {
    guard let value = members["missed"] else { return .coalesce }
    switch value.string {
    case "skip": return .skip
    case "coalesce": return .coalesce
    case nil where value.object != nil: break
    default: throw ScheduleProblem("missed", #"is unknown; use "skip", "coalesce" or {"catch_up": 3}"#)
    }
    let range = 1...MissedRuns.maximumCatchUp
    guard let most = try Members(value, "missed", known: ["catch_up"]).integer("catch_up", in: range) else {
      throw ScheduleProblem("missed.catch_up", "is missing; use \(range.lowerBound) to \(range.upperBound)")
    }
    return .catchUp(most)
  }
}

extension ScheduleDocument: Codable {
  public init(from decoder: any Decoder) throws {
    try self.init(try JSONValue(from: decoder))
  }

  public func encode(to encoder: any Encoder) throws {
    try json.encode(to: encoder)
  }
}
