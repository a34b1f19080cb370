#include "postgres/database.h"

#include <boost/asio/post.hpp>

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "os/clock.h"
#include "postgres/requests.h"
#include "postgres/schema.h"

namespace keelback::postgres {
namespace {

// Fewer commits than this are not worth a second statement.
constexpr std::size_t kGroupMin = 8;
// A beat is a small statement that waits for nobody. Others may wait for a lock, or carry a large
// state over a slow line.
constexpr Duration kBeatSilenceMax = std::chrono::seconds(2);
constexpr Duration kSilenceMax = std::chrono::seconds(10);
// How often the deadlines of commits that wait are looked at.
constexpr Duration kCommitsGrain = std::chrono::milliseconds(20);

// The schema or a table is not there.
bool tables_are_missing(const Result& result) {
  return result.ending == Ending::kRefused &&
         (result.sqlstate == "42P01" || result.sqlstate == "3F000");
}

}  // namespace

std::expected<std::unique_ptr<PostgresDatabase>, std::string> PostgresDatabase::open(
    boost::asio::io_context& loop, Options options, OnChange on_change) {
  const auto libpq = load_libpq();
  if (!libpq) return std::unexpected(libpq.error());
  auto target = Target::parse(**libpq, options.url);
  if (!target) return std::unexpected(target.error());
  return std::unique_ptr<PostgresDatabase>(new PostgresDatabase(
      loop, **libpq, *std::move(target), std::move(options), std::move(on_change)));
}

PostgresDatabase::PostgresDatabase(boost::asio::io_context& loop, const Libpq& libpq, Target target,
                                   Options options, OnChange on_change)
    : loop_(loop),
      libpq_(libpq),
      target_(std::move(target)),
      options_(std::move(options)),
      commits_timer_(loop) {
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    lanes_[lane] = std::make_unique<Connection>(
        loop_, libpq_, target_,
        Connection::Options{.application = lane == kBeats    ? "keelback beats"
                                           : lane == kOthers ? "keelback"
                                                             : "keelback commits",
                            .connect_limit = options_.connect_limit,
                            .silence_max = lane == kBeats ? kBeatSilenceMax : kSilenceMax},
        lane == kBeats ? std::move(on_change) : Connection::OnChange());
  }
}

PostgresDatabase::~PostgresDatabase() {
  *alive_ = false;
  commits_timer_.cancel();
}

void PostgresDatabase::ask(cluster::Request request, Duration patience, OnReply done) {
  perform(std::make_shared<Asked>(Asked{.request = std::move(request),
                                        .deadline = os::monotonic_now() + patience,
                                        .done = std::move(done)}));
}

void PostgresDatabase::perform(const AskedPtr& asked) {
  std::visit([&](const auto& request) { on(asked, request); }, asked->request);
}

void PostgresDatabase::step(const AskedPtr& asked, Statement statement, OnRows then) {
  const Lane lane = std::holds_alternative<cluster::Beat>(asked->request) ? kBeats : kOthers;
  lanes_[lane]->ask(std::move(statement), asked->deadline - os::monotonic_now(),
                    [this, asked, then = std::move(then)](Result result) mutable {
                      if (result.ending != Ending::kRows) return failed(asked, std::move(result));
                      then(result.rows);
                    });
}

void PostgresDatabase::failed(const AskedPtr& asked, Result result) {
  if (tables_are_missing(result) && !asked->prepared) {
    // Another database than the one that was joined, or somebody has dropped them.
    return prepare(asked, [this, asked](std::uint32_t) { perform(asked); });
  }
  asked->done(cluster::NoReply{.surely_none = result.ending != Ending::kUnknown && !asked->wrote,
                               .reason = std::move(result.reason)});
}

void PostgresDatabase::prepare(const AskedPtr& asked,
                               std::move_only_function<void(std::uint32_t version)> then) {
  asked->prepared = true;
  const Lane lane = std::holds_alternative<cluster::Beat>(asked->request) ? kBeats : kOthers;
  prepare_tables(
      *lanes_[lane], asked->deadline,
      [asked, then = std::move(then)](std::expected<std::uint32_t, std::string> version) mutable {
        if (version) return then(*version);
        // If tables were made, they are empty.
        asked->done(cluster::NoReply{.surely_none = true, .reason = std::move(version.error())});
      });
}

// ---- nodes

void PostgresDatabase::on(const AskedPtr& asked, const cluster::Join& request) {
  prepare(asked, [this, asked, &request](std::uint32_t version) {
    step(asked, join(request), [this, asked, &request, version](const Rows&) {
      asked->wrote = true;
      step(asked, server_facts(), [this, asked, &request, version](const Rows& facts) {
        cluster::Joined joined;
        joined.tables = version;
        joined.server = server_facts_from(facts);
        step(asked, all_nodes(),
             [asked, &request, joined = std::move(joined)](const Rows& rows) mutable {
               AllNodes all = all_nodes_from(rows);
               joined.settings = std::move(all.settings);
               joined.nodes = std::move(all.nodes);
               joined.done = std::ranges::any_of(joined.nodes, [&](const cluster::NodeRow& each) {
                 return each.name == request.node.name &&
                        each.incarnation == request.node.incarnation && !each.retired;
               });
               asked->done(std::move(joined));
             });
      });
    });
  });
}

void PostgresDatabase::on(const AskedPtr& asked, const cluster::Beat& request) {
  step(asked, beat(request), [this, asked](const Rows& rows) {
    cluster::Beaten beaten;
    beaten.done = asked->wrote = rows.size() == 1;
    if (beaten.done) beaten.was = rows.uint8(0, 0);
    step(asked, all_nodes(), [asked, beaten = std::move(beaten)](const Rows& nodes) mutable {
      AllNodes all = all_nodes_from(nodes);
      beaten.started = std::move(all.started);
      beaten.settings = std::move(all.settings);
      beaten.nodes = std::move(all.nodes);
      asked->done(std::move(beaten));
    });
  });
}

void PostgresDatabase::on(const AskedPtr& asked, const cluster::Retire& request) {
  step(asked, retire(request), [asked](const Rows& rows) {
    cluster::Written written;
    written.done = rows.size() == 1;
    asked->done(std::move(written));
  });
}

void PostgresDatabase::on(const AskedPtr& asked, const cluster::Leave& request) {
  step(asked, leave(request), [asked](const Rows& rows) {
    cluster::Written written;
    written.done = rows.size() == 1;
    asked->done(std::move(written));
  });
}

// ---- sessions

void PostgresDatabase::on(const AskedPtr& asked, const cluster::Find& request) {
  step(asked, find(request),
       [asked](const Rows& rows) { asked->done(cluster::Found{standing_from(rows)}); });
}

void PostgresDatabase::on(const AskedPtr& asked, const cluster::Claim& request) {
  step(asked, claim(request), [this, asked, &request](const Rows& rows) {
    if (rows.size() == 0) return refuse<cluster::Claimed>(asked, request.session);
    cluster::Claimed claimed{standing_from(rows)};
    claimed.done = true;
    asked->done(std::move(claimed));
  });
}

void PostgresDatabase::on(const AskedPtr& asked, const cluster::Release& request) {
  write(asked, release(request), request.session);
}

void PostgresDatabase::on(const AskedPtr& asked, const cluster::Drop& request) {
  write(asked, drop(request), request.session);
}

void PostgresDatabase::write(const AskedPtr& asked, Statement statement,
                             const std::string& session) {
  step(asked, std::move(statement), [this, asked, &session](const Rows& rows) {
    if (rows.size() == 0) return refuse<cluster::Written>(asked, session);
    cluster::Written written;
    written.done = true;
    asked->done(std::move(written));
  });
}

// The statement that was refused saw an older state of other rows than of its own. What stands
// there is read after it.
template <class Reply>
void PostgresDatabase::refuse(const AskedPtr& asked, const std::string& session) {
  lanes_[kOthers]->ask(
      find({.session = session}), asked->deadline - os::monotonic_now(), [asked](Result result) {
        if (result.ending != Ending::kRows) {  // the write is refused all the same
          return asked->done(
              cluster::NoReply{.surely_none = true, .reason = std::move(result.reason)});
        }
        asked->done(Reply{standing_from(result.rows)});
      });
}

void PostgresDatabase::on(const AskedPtr& asked, const cluster::Owned& request) {
  step(asked, owned(request), [asked](const Rows& rows) { asked->done(owned_from(rows)); });
}

void PostgresDatabase::on(const AskedPtr& asked, const cluster::Sweep& request) {
  step(asked, sweep(request), [asked](const Rows& rows) { asked->done(swept_from(rows)); });
}

// ---- commits

void PostgresDatabase::on(const AskedPtr& asked, const cluster::Commit& /*request*/) {
  if (commits_.size() >= options_.waiting_max) {
    return boost::asio::post(loop_, [alive = alive_, asked] {
      if (!*alive) return;
      asked->done(cluster::NoReply{.surely_none = true,
                                   .reason = "too many commits wait for the database"});
    });
  }
  commits_.push_back(asked);
  send_commits_soon();
}

// What is asked in the same turn of the loop goes together.
void PostgresDatabase::send_commits_soon() {
  watch_commits();
  if (std::exchange(sends_soon_, true)) return;
  boost::asio::post(loop_, [this, alive = alive_] {
    if (!*alive) return;
    sends_soon_ = false;
    send_commits();
  });
}

void PostgresDatabase::send_commits() {
  auto free = static_cast<std::size_t>(std::count(busy_.begin() + kCommits, busy_.end(), false));
  for (std::size_t lane = kCommits; lane < kLanes && !commits_.empty(); ++lane) {
    if (busy_[lane]) continue;
    const std::size_t share = (commits_.size() + free - 1) / free;
    --free;
    std::vector<AskedPtr> group =
        next_group(std::clamp(share, std::min(kGroupMin, options_.group_max), options_.group_max));
    if (group.empty()) return;  // each waits for one of its session
    send_group(lane, std::move(group));
  }
}

void PostgresDatabase::send_group(std::size_t lane, std::vector<AskedPtr> group) {
  std::vector<const cluster::Commit*> requests;
  Time deadline = Time::max();
  for (const AskedPtr& each : group) {
    requests.push_back(&std::get<cluster::Commit>(each->request));
    sessions_.insert(requests.back()->session);
    if (!requests.back()->answer.key.empty()) keys_.insert(requests.back()->answer.key);
    deadline = std::min(deadline, each->deadline);
  }
  busy_[lane] = true;
  Statement statement = commit(requests);
  lanes_[lane]->ask(std::move(statement), deadline - os::monotonic_now(),
                    [this, lane, group = std::move(group)](Result result) mutable {
                      busy_[lane] = false;
                      for (const AskedPtr& each : group) {
                        const auto& request = std::get<cluster::Commit>(each->request);
                        sessions_.erase(request.session);
                        keys_.erase(request.answer.key);
                      }
                      committed(std::move(group), std::move(result));
                      if (!commits_.empty()) send_commits_soon();
                    });
}

// Commits of sessions, and with keys, of which none is under way, each once. In the order of the
// sessions: so that two nodes never wait for each other.
std::vector<PostgresDatabase::AskedPtr> PostgresDatabase::next_group(std::size_t most) {
  std::vector<AskedPtr> group;
  std::deque<AskedPtr> left;
  std::set<std::string_view> sessions, keys;
  std::size_t bytes = 0;
  while (!commits_.empty() && group.size() < most) {
    AskedPtr next = std::move(commits_.front());
    commits_.pop_front();
    const auto& request = std::get<cluster::Commit>(next->request);
    const std::string& key = request.answer.key;
    const std::size_t size = bytes_of(request);
    const bool is_full = !group.empty() && (next->alone || bytes + size > options_.group_bytes_max);
    const bool waits = sessions.contains(request.session) || sessions_.contains(request.session) ||
                       keys.contains(key) || keys_.contains(key);
    sessions.insert(request.session);  // a later one of this session waits behind it
    if (is_full || waits) {
      left.push_back(std::move(next));
      if (is_full) break;
      continue;
    }
    if (!key.empty()) keys.insert(key);
    bytes += size;
    group.push_back(std::move(next));
    if (group.back()->alone) break;
  }
  commits_.insert(commits_.begin(), std::make_move_iterator(left.begin()),
                  std::make_move_iterator(left.end()));
  std::ranges::sort(group, {}, [](const AskedPtr& each) -> const std::string& {
    return std::get<cluster::Commit>(each->request).session;
  });
  return group;
}

void PostgresDatabase::committed(std::vector<AskedPtr> group, Result result) {
  if (result.ending == Ending::kRefused && group.size() > 1) {
    // One of them is the cause, and none took effect.
    for (auto each = group.rbegin(); each != group.rend(); ++each) {
      (*each)->alone = true;
      commits_.push_front(std::move(*each));
    }
    return;
  }
  if (result.ending != Ending::kRows) {
    for (const AskedPtr& each : group) {
      failed(each, {.ending = result.ending, .sqlstate = result.sqlstate, .reason = result.reason});
    }
    return;
  }
  std::vector<bool> done(group.size(), false);
  for (int row = 0; row < result.rows.size(); ++row) {
    done.at(static_cast<std::size_t>(result.rows.int8(row, 0) - 1)) = true;
  }
  for (std::size_t i = 0; i < group.size(); ++i) {
    if (!done[i]) {
      refuse<cluster::Written>(group[i], std::get<cluster::Commit>(group[i]->request).session);
      continue;
    }
    cluster::Written written;
    written.done = true;
    group[i]->done(std::move(written));
  }
}

void PostgresDatabase::watch_commits() {
  if (commits_watched_) return;
  commits_watched_ = true;
  commits_timer_.expires_after(kCommitsGrain);
  commits_timer_.async_wait([this, alive = alive_](const boost::system::error_code& error) {
    if (error || !*alive) return;
    commits_watched_ = false;
    const Time now = os::monotonic_now() + kCommitsGrain;
    std::deque<AskedPtr> over;
    for (AskedPtr& each : std::exchange(commits_, {})) {
      (each->deadline <= now ? over : commits_).push_back(std::move(each));
    }
    if (!commits_.empty()) watch_commits();
    for (const AskedPtr& each : over) {
      each->done(cluster::NoReply{.surely_none = true,
                                  .reason = "earlier commits keep the database busy"});
    }
  });
}

// ---- idempotency keys

void PostgresDatabase::on(const AskedPtr& asked, const cluster::KeyOpen& request) {
  step(asked, key_open(request), [this, asked, &request](const Rows& rows) {
    if (rows.size() != 0) {
      cluster::KeyOpened opened = key_from(rows);
      opened.done = true;
      return asked->done(std::move(opened));
    }
    step(asked, key_find({.key = request.key, .ttl = request.ttl}),
         [asked](const Rows& found) { asked->done(key_from(found)); });
  });
}

void PostgresDatabase::on(const AskedPtr& asked, const cluster::KeyFind& request) {
  step(asked, key_find(request), [asked](const Rows& rows) { asked->done(key_from(rows)); });
}

void PostgresDatabase::on(const AskedPtr& asked, const cluster::KeyAnswer& request) {
  step(asked, key_answer(request), [asked](const Rows& rows) {
    cluster::Written written;
    written.done = rows.size() == 1;
    asked->done(std::move(written));
  });
}

void PostgresDatabase::on(const AskedPtr& asked, const cluster::KeyDrop& request) {
  step(asked, key_drop(request), [asked](const Rows& rows) {
    cluster::Written written;
    written.done = rows.size() == 1;
    asked->done(std::move(written));
  });
}

// ---- settings

void PostgresDatabase::on(const AskedPtr& asked, const cluster::WriteSettings& request) {
  step(asked, write_settings(request), [this, asked](const Rows& rows) {
    cluster::SettingsWritten written;
    written.done = asked->wrote = rows.size() == 1;
    step(asked, all_nodes(), [asked, written = std::move(written)](const Rows& all) mutable {
      written.settings = all_nodes_from(all).settings;
      asked->done(std::move(written));
    });
  });
}

}  // namespace keelback::postgres
