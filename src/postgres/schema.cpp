#include "postgres/schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "cluster/database.h"
#include "os/clock.h"

namespace keelback::postgres {
namespace {

constexpr int kServerMin = 130000;
// Several nodes may make the tables at once: all but one meet what the other has made.
constexpr int kTries = 5;

// Names of sessions and keys, and what Python said, may have any bytes. A session's state is not
// compressed: that costs more than it gives, and a commit waits for it. Room in the pages of
// `sessions` lets a commit write its row beside the old one, without touching an index.
constexpr const char* kMake = R"(
DO $make$ BEGIN
  IF to_regnamespace('keelback') IS NULL THEN
    CREATE SCHEMA keelback;
  END IF;
  CREATE TABLE keelback.version (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL
  );
  CREATE TABLE keelback.nodes (
    name text COLLATE "C" PRIMARY KEY,
    incarnation bigint NOT NULL,
    beat bigint NOT NULL,
    url text NOT NULL,
    digest text NOT NULL,
    schema integer NOT NULL,
    draining boolean NOT NULL,
    retired_at timestamptz
  ) WITH (fillfactor = 50);
  CREATE TABLE keelback.sessions (
    session bytea PRIMARY KEY,
    birth bigint NOT NULL,
    epoch bigint NOT NULL,
    number bigint NOT NULL,
    owner_node text COLLATE "C",
    owner_incarnation bigint,
    token bigint NOT NULL,
    mode integer NOT NULL,
    exposed boolean NOT NULL,
    fate integer NOT NULL,
    opened_at timestamptz NOT NULL,
    used_at timestamptz NOT NULL,
    digest text NOT NULL,
    schema integer NOT NULL,
    format integer,
    state bytea,
    answer bytea
  ) WITH (fillfactor = 70);
  ALTER TABLE keelback.sessions ALTER COLUMN state SET STORAGE EXTERNAL;
  CREATE INDEX sessions_owner ON keelback.sessions (owner_incarnation, session);
  CREATE TABLE keelback.keys (
    key bytea PRIMARY KEY,
    fingerprint bigint NOT NULL,
    session bytea NOT NULL,
    owner_node text COLLATE "C" NOT NULL,
    owner_incarnation bigint NOT NULL,
    token bigint NOT NULL,
    opened_at timestamptz NOT NULL,
    answer bytea
  );
  CREATE INDEX keys_opened ON keelback.keys (opened_at);
  CREATE TABLE keelback.settings (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL,
    text bytea NOT NULL
  );
  INSERT INTO keelback.version (version) VALUES (1);
END $make$)";
static_assert(cluster::kSchema == 1, "the tables above are of version 1");

constexpr const char* kLook = R"(
SELECT current_setting('server_version_num')::integer, current_setting('server_encoding'),
       to_regclass('keelback.version') IS NOT NULL)";

constexpr const char* kVersion = "SELECT version FROM keelback.version";

class Preparation : public std::enable_shared_from_this<Preparation> {
 public:
  Preparation(Connection& connection, Time deadline, OnPrepared done)
      : connection_(connection), deadline_(deadline), done_(std::move(done)) {}

  void look() {
    ask(kLook, [](Preparation& self, Result result) { self.looked(std::move(result)); });
  }

 private:
  using Next = void (*)(Preparation& self, Result result);
  void ask(const char* sql, Next next) {
    connection_.ask(
        Statement(sql), deadline_ - os::monotonic_now(),
        [self = shared_from_this(), next](Result result) { next(*self, std::move(result)); });
  }

  void looked(Result result) {
    if (result.ending != Ending::kRows) return fail(std::move(result));
    if (result.rows.int4(0, 0) < kServerMin) {
      return done_(
          std::unexpected(fmt::format("cluster.store needs PostgreSQL 13 or later, this is {}",
                                      result.rows.int4(0, 0) / 10000)));
    }
    if (const auto encoding = result.rows.text(0, 1);
        encoding != "UTF8" && encoding != "SQL_ASCII") {
      return done_(std::unexpected(fmt::format(
          "cluster.store needs a database with the encoding UTF8, this one has {}", encoding)));
    }
    const bool made = result.rows.boolean(0, 2);
    ask(made ? kVersion : kMake,
        [](Preparation& self, Result next) { self.read_or_made(std::move(next)); });
  }

  void read_or_made(Result result) {
    if (result.ending == Ending::kRefused && ++tries_ < kTries) return look();
    if (result.ending != Ending::kRows) return fail(std::move(result));
    if (result.rows.size() == 0) return look();  // made
    const std::int32_t version = result.rows.int4(0, 0);
    const auto ours = static_cast<std::int32_t>(cluster::kSchema);
    if (version < ours - 1 || version > ours + 1) {
      return done_(std::unexpected(fmt::format(
          "the tables of the cluster are of version {}, and this program works with {} to {}: "
          "go from one version to the next, on all nodes",
          version, std::max(1, ours - 1), ours + 1)));
    }
    done_(static_cast<std::uint32_t>(version));
  }

  void fail(Result result) { done_(std::unexpected(std::move(result.reason))); }

  Connection& connection_;
  const Time deadline_;
  OnPrepared done_;
  int tries_ = 0;
};

}  // namespace

void prepare_tables(Connection& connection, Time deadline, OnPrepared done) {
  std::make_shared<Preparation>(connection, deadline, std::move(done))->look();
}

}  // namespace keelback::postgres
