#include "postgres/requests.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "postgres/answer_bytes.h"

// Each statement is one transaction with PostgreSQL's default isolation. A condition on the row
// that is written is evaluated on its newest version, after other writers of it have ended. A
// condition on another row sees the state at the statement's begin. The only one of that kind is
// "the owner does not live". That never becomes untrue again, and a row that names its token or
// was not written since names the same owner: so an older state can only refuse. Where the owner
// must live, its row is locked against retirement.

// Who holds the lock on a row holds it for the time of a statement; but one whose end never
// arrived, because its node was cut off, holds it until the server finds out. Nobody waits for
// that.
#define LOCKS_IN_TIME "(SELECT set_config('lock_timeout', '1s', true)) IS NOT NULL"

#define LIVES(row)                                           \
  "EXISTS (SELECT FROM keelback.nodes o WHERE o.name = " row \
  ".owner_node AND o.incarnation = " row ".owner_incarnation AND o.retired_at IS NULL)"
#define ITS_LIVING_OWNER(row)                                                           \
  " LEFT JOIN keelback.nodes n ON n.name = " row ".owner_node AND n.incarnation = " row \
  ".owner_incarnation AND n.retired_at IS NULL"

#define NANOSECONDS_SINCE(time) \
  "(extract(epoch FROM clock_timestamp() - " time ") * 1000000000)::bigint"
#define AGO(nanoseconds) "clock_timestamp() - make_interval(secs => " nanoseconds " / 1e9::float8)"

// 8 columns.
#define NODE_COLUMNS \
  "n.name, n.incarnation, n.beat, n.url, n.digest, n.schema, n.draining, n.retired_at IS NOT NULL"
// 14 columns.
#define SESSION_COLUMNS                                                                         \
  "s.session, s.birth, s.epoch, s.number, s.owner_node, s.owner_incarnation, s.token, s.mode, " \
  "s.exposed, s.fate, " NANOSECONDS_SINCE("s.opened_at") ", " NANOSECONDS_SINCE(                \
      "s.used_at") ", s.digest, s.schema"
// 7 columns.
#define KEY_COLUMNS \
  "k.key, k.fingerprint, k.session, k.owner_node, k.owner_incarnation, k.token, k.answer"

namespace keelback::postgres {
namespace {

using cluster::Answer;
using cluster::Fate;
using cluster::NodeRow;
using cluster::SessionRow;

constexpr int kNodeInStanding = 14;
constexpr int kStateInStanding = 22;

std::optional<NodeRow> node_at(const Rows& rows, int row, int column) {
  if (rows.is_null(row, column)) return std::nullopt;
  NodeRow node;
  node.name = rows.text(row, column);
  node.incarnation = rows.uint8(row, column + 1);
  node.beat = rows.uint8(row, column + 2);
  node.url = rows.text(row, column + 3);
  node.digest = rows.text(row, column + 4);
  node.schema = static_cast<std::uint32_t>(rows.int4(row, column + 5));
  node.draining = rows.boolean(row, column + 6);
  node.retired = rows.boolean(row, column + 7);
  return node;
}

// A number from a table that a newer node may have written.
template <class Enum>
Enum at_most(std::int32_t value, Enum last) {
  return static_cast<Enum>(std::clamp(value, 0, static_cast<std::int32_t>(last)));
}

SessionRow session_at(const Rows& rows, int row) {
  SessionRow session;
  session.session = rows.text(row, 0);
  session.birth = rows.uint8(row, 1);
  session.epoch = static_cast<std::uint32_t>(rows.int8(row, 2));
  session.number = rows.uint8(row, 3);
  if (!rows.is_null(row, 4)) {
    session.owner = cluster::Owner{std::string(rows.text(row, 4)), rows.uint8(row, 5)};
  }
  session.token = rows.uint8(row, 6);
  session.mode = at_most(rows.int4(row, 7), Affinity::kHint);
  session.exposed = rows.boolean(row, 8);
  session.fate = at_most(rows.int4(row, 9), Fate::kLost);
  session.age = Duration(rows.int8(row, 10));
  session.idle = Duration(rows.int8(row, 11));
  session.digest = rows.text(row, 12);
  session.schema = static_cast<std::uint32_t>(rows.int4(row, 13));
  return session;
}

std::int32_t ours() { return static_cast<std::int32_t>(cluster::kSchema); }

}  // namespace

// ---- nodes

Statement join(const cluster::Join& request) {
  Statement statement(
      "WITH joined AS ("
      " INSERT INTO keelback.nodes AS n"
      " (name, incarnation, beat, url, digest, schema, draining, retired_at)"
      " SELECT $1, $2, 0, $3, $4, $5, $6, NULL WHERE " LOCKS_IN_TIME
      " ON CONFLICT (name) DO UPDATE SET incarnation = excluded.incarnation, beat = 0,"
      " url = excluded.url, digest = excluded.digest, schema = excluded.schema,"
      " draining = excluded.draining, retired_at = NULL"
      " WHERE n.incarnation <> excluded.incarnation), "
      "set AS (INSERT INTO keelback.settings (version, text) VALUES (1, $7)"
      " ON CONFLICT (one) DO NOTHING) "
      "SELECT true");
  return std::move(statement.text(request.node.name)
                       .uint8(request.node.incarnation)
                       .text(request.node.url)
                       .text(request.node.digest)
                       .int4(static_cast<std::int32_t>(request.node.schema))
                       .boolean(request.node.draining)
                       .bytes(request.settings));
}

Statement beat(const cluster::Beat& request) {
  Statement statement(
      "WITH before AS (SELECT b.name, b.beat FROM keelback.nodes b"
      " WHERE b.name = $1 AND b.incarnation = $2 AND b.retired_at IS NULL AND " LOCKS_IN_TIME
      " FOR UPDATE) "
      "UPDATE keelback.nodes n SET beat = greatest(n.beat, $3), draining = $4 FROM before"
      " WHERE n.name = before.name AND n.incarnation = $2 AND n.retired_at IS NULL"
      " RETURNING before.beat");
  return std::move(statement.text(request.node.node)
                       .uint8(request.node.incarnation)
                       .uint8(request.beat)
                       .boolean(request.draining));
}

Statement retire(const cluster::Retire& request) {
  Statement statement(
      "UPDATE keelback.nodes SET retired_at = coalesce(retired_at, clock_timestamp())"
      " WHERE name = $1 AND incarnation = $2 AND beat = $3 AND " LOCKS_IN_TIME " RETURNING true");
  return std::move(
      statement.text(request.node.node).uint8(request.node.incarnation).uint8(request.beat));
}

Statement leave(const cluster::Leave& request) {
  Statement statement(
      "DELETE FROM keelback.nodes WHERE name = $1 AND incarnation = $2 AND " LOCKS_IN_TIME
      " RETURNING true");
  return std::move(statement.text(request.node.node).uint8(request.node.incarnation));
}

Statement server_facts() {
  return Statement(
      "SELECT current_setting('server_version'),"
      " extract(epoch FROM pg_postmaster_start_time())::text,"
      " current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on',"
      " current_setting('synchronous_commit'),"
      " (SELECT count(*) FROM pg_stat_replication),"
      " (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')),"
      " pg_is_in_recovery()");
}

cluster::ServerFacts server_facts_from(const Rows& rows) {
  cluster::ServerFacts facts;
  facts.version = rows.text(0, 0);
  facts.version = facts.version.substr(0, facts.version.find(' '));  // "15.14 (Debian …)"
  facts.started = rows.text(0, 1);
  facts.fsync = rows.boolean(0, 2);
  facts.full_page_writes = rows.boolean(0, 3);
  facts.synchronous_commit = rows.text(0, 4);
  facts.standbys = static_cast<std::uint32_t>(rows.int8(0, 5));
  facts.synchronous_standbys = static_cast<std::uint32_t>(rows.int8(0, 6));
  facts.in_recovery = rows.boolean(0, 7);
  return facts;
}

Statement all_nodes() {
  return Statement(
      "SELECT f.started, t.version, t.text, " NODE_COLUMNS
      " FROM (SELECT extract(epoch FROM pg_postmaster_start_time())::text AS started) f"
      " LEFT JOIN keelback.settings t ON true LEFT JOIN keelback.nodes n ON true"
      " ORDER BY n.name");
}

AllNodes all_nodes_from(const Rows& rows) {
  AllNodes all;
  all.started = rows.text(0, 0);
  if (!rows.is_null(0, 1)) {
    all.settings = {rows.uint8(0, 1), std::string(rows.text(0, 2))};
  }
  for (int row = 0; row < rows.size(); ++row) {
    if (auto node = node_at(rows, row, 3)) all.nodes.push_back(*std::move(node));
  }
  return all;
}

// ---- sessions

Statement find(const cluster::Find& request) {
  Statement statement(
      "SELECT " SESSION_COLUMNS ", " NODE_COLUMNS
      ", CASE WHEN s.token = $2 THEN s.format END, CASE WHEN s.token = $2 THEN s.state END,"
      " CASE WHEN s.token = $2 THEN s.answer END"
      " FROM keelback.sessions s" ITS_LIVING_OWNER("s") " WHERE s.session = $1");
  return std::move(statement.bytes(request.session).uint8(request.with_state));
}

cluster::Standing standing_from(const Rows& rows) {
  cluster::Standing standing;
  if (rows.size() == 0) return standing;
  standing.row = session_at(rows, 0);
  standing.owner = node_at(rows, 0, kNodeInStanding);
  if (!rows.is_null(0, kStateInStanding) && !rows.is_null(0, kStateInStanding + 1)) {
    standing.row->state =
        cluster::State{static_cast<std::uint8_t>(rows.int4(0, kStateInStanding)),
                       std::make_shared<const std::string>(rows.text(0, kStateInStanding + 1))};
  }
  if (!rows.is_null(0, kStateInStanding + 2)) {
    standing.row->answer = answer_from(rows.text(0, kStateInStanding + 2)).value_or(Answer{});
  }
  return standing;
}

#define CLAIMED                               \
  "SELECT " SESSION_COLUMNS ", " NODE_COLUMNS \
  ", s.format, s.state, s.answer FROM claimed s" ITS_LIVING_OWNER("s")

Statement claim(const cluster::Claim& request) {
  if (!request.seen) {
    Statement statement(
        "WITH claimed AS (INSERT INTO keelback.sessions"
        " (session, birth, epoch, number, owner_node, owner_incarnation, token, mode, exposed,"
        " fate, opened_at, used_at, digest, schema)"
        " SELECT $1, $2, 1, 0, $3, $4, $5, $6, $7, 0, clock_timestamp(), clock_timestamp(), '', $8"
        " WHERE " LOCKS_IN_TIME " ON CONFLICT (session) DO NOTHING RETURNING *) " CLAIMED);
    return std::move(statement.bytes(request.session)
                         .uint8(request.birth)
                         .text(request.owner.node)
                         .uint8(request.owner.incarnation)
                         .uint8(request.token)
                         .int4(static_cast<std::int32_t>(request.mode))
                         .boolean(!request.commits_each_call)
                         .int4(ours()));
  }
  // 0 is alive, 2 is lost.
  Statement statement(
      "WITH claimed AS (UPDATE keelback.sessions r SET epoch = r.epoch + 1, owner_node = $4,"
      " owner_incarnation = $5, token = $6, schema = $8,"
      " fate = CASE WHEN r.fate = 0 AND r.exposed THEN 2 ELSE r.fate END,"
      " exposed = r.exposed OR $7"
      " WHERE r.session = $1 AND r.birth = $2 AND r.token = $3 AND " LOCKS_IN_TIME
      " AND (r.owner_node IS NULL OR (r.owner_node = $4 AND r.owner_incarnation = $5)"
      " OR NOT " LIVES("r") ") RETURNING *) " CLAIMED);
  return std::move(statement.bytes(request.session)
                       .uint8(request.seen->birth)
                       .uint8(request.seen->token)
                       .text(request.owner.node)
                       .uint8(request.owner.incarnation)
                       .uint8(request.token)
                       .boolean(!request.commits_each_call)
                       .int4(ours()));
}

Statement commit(std::span<const cluster::Commit* const> requests) {
  Array session(Type::kBytea), birth(Type::kInt8), epoch(Type::kInt8), token(Type::kInt8);
  Array after(Type::kInt8), number(Type::kInt8), format(Type::kInt4), state(Type::kBytea);
  Array exposed(Type::kBool), digest(Type::kText), idle(Type::kInt8), answer(Type::kBytea);
  Array key(Type::kBytea), fingerprint(Type::kInt8), node(Type::kText), incarnation(Type::kInt8);
  for (const cluster::Commit* each : requests) {
    session.add(each->session);
    birth.add(each->birth);
    epoch.add(std::uint64_t{each->epoch});
    token.add(each->token);
    after.add(each->after);
    number.add(each->number);
    each->state ? format.add(std::int32_t{each->state->format}) : format.add_null();
    each->state ? state.add(std::string_view(*each->state->bytes)) : state.add_null();
    exposed.add(each->exposed);
    digest.add(std::string_view(each->digest));
    idle.add(std::int64_t{each->idle.count()});
    const bool has_key = !each->answer.key.empty();
    has_key ? answer.add(std::string_view(to_bytes(each->answer))) : answer.add_null();
    has_key ? key.add(std::string_view(each->answer.key)) : key.add_null();
    fingerprint.add(each->answer.fingerprint);
    node.add(std::string_view(each->owner.node));
    incarnation.add(each->owner.incarnation);
  }
  Statement statement(
      "WITH c AS MATERIALIZED (SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[],"
      " $4::bigint[], $5::bigint[], $6::bigint[], $7::integer[], $8::bytea[], $9::boolean[],"
      " $10::text[], $11::bigint[], $12::bytea[], $13::bytea[], $14::bigint[], $15::text[],"
      " $16::bigint[]) WITH ORDINALITY AS c (session, birth, epoch, token, after, number, format,"
      " state, exposed, digest, idle, answer, key, fingerprint, node, incarnation, position)), "
      "done AS (UPDATE keelback.sessions s SET epoch = c.epoch, number = c.number,"
      " format = c.format, state = c.state, exposed = c.exposed, digest = c.digest,"
      " used_at = " AGO("c.idle") ", answer = c.answer, fate = 0, schema = $17"
      " FROM c WHERE s.session = c.session AND s.birth = c.birth AND s.token = c.token"
      " AND s.epoch <= c.epoch AND s.number = c.after AND " LOCKS_IN_TIME
      " RETURNING c.position), "
      "keyed AS (INSERT INTO keelback.keys AS k"
      " (key, fingerprint, session, owner_node, owner_incarnation, token, opened_at, answer)"
      " SELECT c.key, c.fingerprint, c.session, c.node, c.incarnation, c.token,"
      " clock_timestamp(), c.answer FROM done JOIN c USING (position) WHERE c.key IS NOT NULL"
      " ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint,"
      " session = excluded.session, owner_node = excluded.owner_node,"
      " owner_incarnation = excluded.owner_incarnation, answer = excluded.answer"
      " WHERE k.token = excluded.token) "
      "SELECT position FROM done");
  for (const Array* each :
       {&session, &birth, &epoch, &token, &after, &number, &format, &state, &exposed, &digest,
        &idle, &answer, &key, &fingerprint, &node, &incarnation}) {
    statement.array(*each);
  }
  return std::move(statement.int4(ours()));
}

std::size_t bytes_of(const cluster::Commit& request) {
  const cluster::Answer& answer = request.answer;
  return (request.state ? request.state->bytes->size() : 0) + answer.payload.size() +
         answer.message.size() + answer.error.size() + answer.traceback.size();
}

Statement release(const cluster::Release& request) {
  Statement statement(
      "UPDATE keelback.sessions SET owner_node = NULL, owner_incarnation = NULL, schema = $5,"
      " fate = CASE WHEN fate = 0 THEN $4 ELSE fate END"
      " WHERE session = $1 AND birth = $2 AND token = $3 AND " LOCKS_IN_TIME " RETURNING true");
  return std::move(statement.bytes(request.session)
                       .uint8(request.birth)
                       .uint8(request.token)
                       .int4(static_cast<std::int32_t>(request.fate))
                       .int4(ours()));
}

Statement drop(const cluster::Drop& request) {
  Statement statement(
      "DELETE FROM keelback.sessions WHERE session = $1 AND birth = $2 AND token = $3 "
      "AND " LOCKS_IN_TIME " RETURNING true");
  return std::move(statement.bytes(request.session).uint8(request.birth).uint8(request.token));
}

Statement owned(const cluster::Owned& request) {
  Statement statement(
      "SELECT " SESSION_COLUMNS
      " FROM keelback.sessions s WHERE s.owner_incarnation = $2 AND s.owner_node = $1"
      " AND s.session > $3 ORDER BY s.session LIMIT $4");
  return std::move(statement.text(request.owner.node)
                       .uint8(request.owner.incarnation)
                       .bytes(request.after)
                       .int8(request.most));
}

cluster::OwnedRows owned_from(const Rows& rows) {
  cluster::OwnedRows owned;
  for (int row = 0; row < rows.size(); ++row) owned.rows.push_back(session_at(rows, row));
  return owned;
}

// What goes is named as it was seen: a row that was claimed since then has another token.
Statement sweep(const cluster::Sweep& request) {
  Statement statement(
      "WITH old AS MATERIALIZED (SELECT s.session, s.birth, s.token, s.used_at"
      " FROM keelback.sessions s WHERE (s.used_at < " AGO("$1") " OR s.opened_at < " AGO("$2")
      ") AND " LOCKS_IN_TIME " AND (s.owner_node IS NULL OR NOT " LIVES("s") ") LIMIT $5), "
      "gone AS (DELETE FROM keelback.sessions s USING old WHERE s.session = old.session"
      " AND s.birth = old.birth AND s.token = old.token AND s.used_at = old.used_at"
      " RETURNING true), "
      "old_keys AS MATERIALIZED (SELECT k.key, k.token FROM keelback.keys k"
      " WHERE k.opened_at < " AGO("$3") " AND (k.answer IS NOT NULL OR NOT " LIVES("k")
      ") LIMIT $5), "
      "gone_keys AS (DELETE FROM keelback.keys k USING old_keys WHERE k.key = old_keys.key"
      " AND k.token = old_keys.token RETURNING true), "
      "old_nodes AS MATERIALIZED (SELECT n.name, n.incarnation FROM keelback.nodes n"
      " WHERE n.retired_at < " AGO("$4") " LIMIT $5), "
      "gone_nodes AS (DELETE FROM keelback.nodes n USING old_nodes"
      " WHERE n.name = old_nodes.name AND n.incarnation = old_nodes.incarnation RETURNING true) "
      "SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM gone_keys),"
      " (SELECT count(*) FROM gone_nodes)");
  return std::move(statement.int8(request.idle.count())
                       .int8(request.age.count())
                       .int8(request.keys.count())
                       .int8(request.nodes.count())
                       .int8(request.most));
}

cluster::Swept swept_from(const Rows& rows) {
  return {.sessions = rows.uint8(0, 0), .keys = rows.uint8(0, 1), .nodes = rows.uint8(0, 2)};
}

// ---- idempotency keys

#define OPENED "SELECT " KEY_COLUMNS ", " NODE_COLUMNS " FROM opened k" ITS_LIVING_OWNER("k")

Statement key_open(const cluster::KeyOpen& request) {
  Statement statement(
      "WITH opened AS (INSERT INTO keelback.keys AS r"
      " (key, fingerprint, session, owner_node, owner_incarnation, token, opened_at, answer)"
      " SELECT $1, $2, ''::bytea, $3, $4, $5, clock_timestamp(), NULL::bytea"
      " WHERE " LOCKS_IN_TIME
      " ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint,"
      " session = excluded.session, owner_node = excluded.owner_node,"
      " owner_incarnation = excluded.owner_incarnation, token = excluded.token,"
      " opened_at = excluded.opened_at, answer = NULL"
      " WHERE (r.opened_at < " AGO("$6") " AND (r.answer IS NOT NULL OR NOT " LIVES("r")
      ")) OR (r.token = $7 AND r.answer IS NULL AND NOT " LIVES("r") ") RETURNING *) " OPENED);
  return std::move(statement.bytes(request.key)
                       .uint8(request.fingerprint)
                       .text(request.owner.node)
                       .uint8(request.owner.incarnation)
                       .uint8(request.token)
                       .int8(request.ttl.count())
                       .uint8(request.seen.value_or(0)));  // no token is 0
}

Statement key_find(const cluster::KeyFind& request) {
  Statement statement(
      "SELECT " KEY_COLUMNS ", " NODE_COLUMNS
      " FROM keelback.keys k" ITS_LIVING_OWNER("k") " WHERE k.key = $1 AND NOT (k.opened_at < " AGO(
          "$2") " AND (k.answer IS NOT NULL OR n.name IS NULL))");
  return std::move(statement.bytes(request.key).int8(request.ttl.count()));
}

cluster::KeyOpened key_from(const Rows& rows) {
  cluster::KeyOpened opened;
  if (rows.size() == 0) return opened;
  cluster::KeyRow& row = opened.row.emplace();
  row.key = rows.text(0, 0);
  row.fingerprint = rows.uint8(0, 1);
  row.session = rows.text(0, 2);
  row.owner = {std::string(rows.text(0, 3)), rows.uint8(0, 4)};
  row.token = rows.uint8(0, 5);
  if (!rows.is_null(0, 6)) row.answer = answer_from(rows.text(0, 6));
  opened.owner = node_at(rows, 0, 7);
  return opened;
}

Statement key_answer(const cluster::KeyAnswer& request) {
  Statement statement(
      "UPDATE keelback.keys k SET answer = $3"
      " WHERE k.key = $1 AND k.token = $2 AND k.answer IS NULL AND " LOCKS_IN_TIME
      " AND EXISTS (SELECT FROM keelback.nodes o WHERE o.name = k.owner_node"
      " AND o.incarnation = k.owner_incarnation AND o.retired_at IS NULL FOR SHARE OF o)"
      " RETURNING true");
  return std::move(
      statement.bytes(request.key).uint8(request.token).bytes(to_bytes(request.answer)));
}

Statement key_drop(const cluster::KeyDrop& request) {
  Statement statement(
      "DELETE FROM keelback.keys WHERE key = $1 AND token = $2 AND answer IS NULL "
      "AND " LOCKS_IN_TIME " RETURNING true");
  return std::move(statement.bytes(request.key).uint8(request.token));
}

// ---- settings

Statement write_settings(const cluster::WriteSettings& request) {
  Statement statement(
      "WITH first AS (INSERT INTO keelback.settings (version, text)"
      " SELECT 1, $2 WHERE $1 = 0 AND " LOCKS_IN_TIME
      " ON CONFLICT (one) DO NOTHING RETURNING true), "
      "next AS (UPDATE keelback.settings SET version = version + 1, text = $2"
      " WHERE version = $1 AND $1 <> 0 AND " LOCKS_IN_TIME
      " RETURNING true) "
      "SELECT true FROM first UNION ALL SELECT true FROM next");
  return std::move(statement.uint8(request.settings.version).bytes(request.settings.text));
}

}  // namespace keelback::postgres
